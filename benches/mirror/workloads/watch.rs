//! Large trees: how long until they are watched, and what watching them costs afterwards.

use super::{Field, Workload, single};
use crate::content;
use crate::figures::{Measure, Outcome, median};
use crate::stand::{Place, Stand};
use crate::tools::{Running, Tool};
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};
use std::fs;
use std::path::PathBuf;
use std::thread::sleep;
use std::time::{Duration, Instant};

pub struct Watch {
    name: &'static str,
    about: &'static str,
    directories: usize,
}

impl Watch {
    pub const MANY: Self = Self {
        name: "watch",
        about: "A tree of 100,000 directories is there when the tool starts. Then ten seconds of rest, and single files.",
        directories: 100_000,
    };

    pub const MILLION: Self = Self {
        name: "watch-million",
        about: "A tree of 1,000,000 directories is there when the tool starts. Then ten seconds of rest, and single files.",
        directories: 1_000_000,
    };

    fn directories(&self, field: &Field) -> usize {
        field.sized(self.directories, 2_000)
    }
}

const SAMPLES: usize = 20;
/// Who watches nothing then has failed.
const PATIENCE: Duration = Duration::from_secs(300);
const ALLOWED: &str = "fs.inotify.max_user_watches";

impl Workload for Watch {
    fn name(&self) -> &'static str {
        self.name
    }

    fn about(&self) -> &'static str {
        self.about
    }

    fn measures(&self) -> &'static [Measure] {
        &[Measure::Watching, Measure::MemoryEach, Measure::IdleCpu, Measure::Median, Measure::Calm]
    }

    fn places(&self) -> &'static [Place] {
        // A disk's own speed is all that would be seen.
        &[Place::Tmpfs]
    }

    fn large(&self) -> bool {
        self.directories > 100_000
    }

    fn most_rounds(&self) -> usize {
        if self.large() { 1 } else { 2 }
    }

    fn unsuited(&self, tool: &dyn Tool) -> Option<&'static str> {
        let other = tool.name().starts_with("inotifywait");
        other.then_some("its rsync compares the whole tree for each file; inotifywait alone is no mirror")
    }

    fn obstacle(&self) -> Option<String> {
        let text = fs::read_to_string(format!("/proc/sys/{}", ALLOWED.replace('.', "/"))).ok()?;
        let allowed = text.trim().parse::<usize>().ok()?;
        // Both ends of a tool that is just ending and of the next may count.
        let wanted = self.directories * 2 + 10_000;
        // Source and copy; a directory of tmpfs takes a kilobyte.
        let files = self.directories as u64 * 2 + 10_000;
        Place::Tmpfs.lacks(files * 1_000, files).or_else(|| {
            (allowed < wanted).then(|| format!("sysctl {ALLOWED} is {allowed}, and has to be {wanted} or more"))
        })
    }

    fn limits(&self, field: &Field) -> Vec<(String, Outcome)> {
        let stand = field.stand(1);
        content::directories(&stand.source(), self.directories(field));
        let start = Instant::now();
        let watched = bare_walk(stand.source());
        let time = start.elapsed().as_secs_f64();
        assert_eq!(watched.count, self.directories(field) + 1);
        vec![("bare walk".to_owned(), Outcome::default().with(Measure::Watching, time))]
    }

    fn run(&self, field: &Field, tool: &dyn Tool) -> Outcome {
        let (empty, calm) = {
            let stand = field.stand(1);
            let running = field.start(tool, &stand);
            (running.memory(), latency(field, &stand, ""))
        };
        let directories = self.directories(field);
        let stand = field.stand(1);
        content::directories(&stand.source(), directories);
        stand.plain_rsync();
        let start = Instant::now();
        let running = tool.start(&stand);
        if !watches(&running, directories, start) {
            return Outcome::default().short(format!("it did not watch all after {} s", PATIENCE.as_secs()));
        }
        let watching = start.elapsed().as_secs_f64();
        running.wait_until_it_watches(&stand);
        sleep(field.sized(Duration::from_secs(3), Duration::from_millis(200)));
        let memory = (running.memory() - empty).max(0.0) * f64::from(1 << 20) / directories as f64;
        let cpu = running.cpu();
        sleep(field.sized(Duration::from_secs(10), Duration::from_secs(1)));
        let idle = (running.cpu() - cpu) * 1000.0;
        let outcome = Outcome::default()
            .with(Measure::Watching, watching)
            .with(Measure::MemoryEach, memory)
            .with(Measure::IdleCpu, idle);
        match (latency(field, &stand, &content::some_directory(directories)), calm) {
            (Some(time), Some(calm)) => outcome.with(Measure::Median, time).with(Measure::Calm, calm),
            _ => outcome.short("a file never arrived".to_owned()),
        }
    }
}

fn watches(running: &Running, directories: usize, start: Instant) -> bool {
    while start.elapsed() < PATIENCE {
        let look = Instant::now();
        if running.watches(directories) {
            return true;
        }
        sleep(Duration::from_millis(1).max(look.elapsed() * 2));
    }
    false
}

/// The median time of single files in a directory of the source. `None`, if one was lost.
fn latency(field: &Field, stand: &Stand, directory: &str) -> Option<f64> {
    let samples = 0..field.sized(SAMPLES, 5);
    let times = samples.map(|sample| {
        single::pause(sample);
        single::arrival(stand, &format!("{directory}/single{sample}"), &content::content(sample, 1024), single::LOST)
    });
    median(&times.collect::<Option<Vec<_>>>()?.into_iter().map(crate::figures::ms).collect::<Vec<_>>())
}

/// Watches that end when this does.
struct Watched {
    _inotify: Inotify,
    count: usize,
}

/// The least that a mirror has to do: watch a directory, list it, and so on with those below it.
fn bare_walk(root: PathBuf) -> Watched {
    let inotify = Inotify::init(InitFlags::IN_CLOEXEC).expect("an inotify descriptor");
    let mask = AddWatchFlags::IN_CREATE
        | AddWatchFlags::IN_DELETE
        | AddWatchFlags::IN_CLOSE_WRITE
        | AddWatchFlags::IN_MOVE
        | AddWatchFlags::IN_ATTRIB
        | AddWatchFlags::IN_ONLYDIR;
    let mut count = 0;
    let mut waiting = vec![root];
    while let Some(directory) = waiting.pop() {
        inotify.add_watch(&directory, mask).unwrap_or_else(|error| panic!("{}: {error}", directory.display()));
        count += 1;
        for entry in fs::read_dir(&directory).expect("a directory").flatten() {
            // readdir(3) says so by itself: no stat(2).
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                waiting.push(entry.path());
            }
        }
    }
    Watched { _inotify: inotify, count }
}
