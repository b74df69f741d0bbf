//! A remote that is away while a million files change: what waits for it, and what that costs.

use super::{Field, Workload, not_ours};
use crate::content;
use crate::convergence;
use crate::figures::{Measure, Outcome};
use crate::stand::{Place, Stand};
use crate::tools::Tool;
use std::fs;
use std::path::Path;
use std::time::{Duration, SystemTime};

pub struct Pending;

const FILES: usize = 1_000_000;
const DIRECTORIES: usize = 1_000;
const PATIENCE: Duration = Duration::from_secs(600);

impl Workload for Pending {
    fn name(&self) -> &'static str {
        "pending"
    }

    fn about(&self) -> &'static str {
        "The remote is down. 1,000,000 files in 1,000 directories are rewritten, one after the other. Then it returns."
    }

    fn measures(&self) -> &'static [Measure] {
        &[Measure::Drained, Measure::Cpu, Measure::Memory, Measure::IdleMemory, Measure::Runs]
    }

    fn places(&self) -> &'static [Place] {
        &[Place::Tmpfs]
    }

    fn large(&self) -> bool {
        true
    }

    fn most_rounds(&self) -> usize {
        1
    }

    fn obstacle(&self) -> Option<String> {
        // A page and a kilobyte each, in source and copy.
        let files = (FILES as u64 + 10_000) * 2;
        Place::Tmpfs.lacks(files * 5_000, files)
    }

    fn unsuited(&self, tool: &dyn Tool) -> Option<&'static str> {
        not_ours(tool).then_some("it forgets a remote that is down")
    }

    fn limits(&self, field: &Field) -> Vec<(String, Outcome)> {
        let stand = filled(field);
        rewrite(field, &stand.source());
        let time = stand.plain_rsync().as_secs_f64();
        vec![("one rsync".to_owned(), Outcome::default().with(Measure::Drained, time))]
    }

    fn run(&self, field: &Field, tool: &dyn Tool) -> Outcome {
        let mut stand = filled(field);
        let running = field.start(tool, &stand);
        let idle = running.memory();
        stand.take_down();
        let (cpu, runs) = (running.cpu(), stand.rsync_runs());
        rewrite(field, &stand.source());
        // The last of it is taken up.
        std::thread::sleep(field.sized(Duration::from_secs(5), Duration::from_millis(200)));
        let memory = running.memory();
        stand.bring_back();
        let back = SystemTime::now();
        let moment = convergence::moment(&stand, &tool.judge(), &running, PATIENCE);
        let outcome = Outcome::default()
            .with(Measure::Cpu, running.cpu() - cpu)
            .with(Measure::IdleMemory, idle)
            .with(Measure::Memory, memory)
            .with(Measure::Runs, (stand.rsync_runs() - runs) as f64);
        match moment {
            Ok(moment) => {
                let drained = moment.duration_since(back).unwrap_or_default().as_secs_f64();
                outcome.with(Measure::Drained, drained)
            }
            Err(why) => outcome.short(why),
        }
    }
}

/// All files are there, on both sides.
fn filled(field: &Field) -> Stand {
    let stand = field.stand(1);
    content::files(&stand.source(), DIRECTORIES, field.sized(FILES, 2_000), 8);
    stand.plain_rsync();
    stand
}

fn rewrite(field: &Field, source: &Path) {
    for file in 0..field.sized(FILES, 2_000) {
        let path = source.join(format!("dir{}/file{file}", file % DIRECTORIES));
        fs::write(path, content::content(file + FILES, 16)).expect("room for a file");
    }
}
