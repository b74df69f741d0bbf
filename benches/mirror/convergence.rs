//! When were the copies equal? Asked from outside, at the price of as little of the machine as can be: names are counted
//! now and then, and compared whole only once there are as many as there should be. The moment itself is read from the
//! copies: no file, no directory of theirs changed after it.

use crate::figures::thousands;
use crate::stand::Stand;
use crate::support::tree::Judge;
use crate::tools::Running;
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime};

/// Between two looks.
const PAUSE: Duration = Duration::from_millis(25);
/// Who has used no CPU and changed nothing for so long has ended, equal or not.
const AT_REST: Duration = Duration::from_secs(10);

/// When the copies became equal to the source, which nobody writes to any more; or, after `patience` since now or once
/// the tool is at rest without that, what is missing.
pub fn moment(stand: &Stand, judge: &Judge, tool: &Running, patience: Duration) -> Result<SystemTime, String> {
    let start = Instant::now();
    let wanted = survey(&stand.source()).map_or(0, |found| found.entries);
    let mut behind: Vec<PathBuf> = stand.copies().collect();
    let mut done = SystemTime::UNIX_EPOCH;
    let mut seen = (0.0, SystemTime::UNIX_EPOCH, Instant::now());
    loop {
        let look = Instant::now();
        let mut latest = SystemTime::UNIX_EPOCH;
        behind.retain(|copy| {
            let Ok(found) = survey(copy) else { return true };
            latest = latest.max(found.changed);
            let equal = found.entries == wanted && judge.differences(&stand.source(), copy).is_empty();
            if equal {
                // What made it equal may have come after the first survey: a rename changes no number.
                done = survey(copy).map_or(done, |found| done.max(found.changed));
            }
            !equal
        });
        if behind.is_empty() {
            return Ok(done);
        }
        let cpu = tool.cpu();
        if (cpu, latest) != (seen.0, seen.1) {
            seen = (cpu, latest, Instant::now());
        }
        let resting = seen.2.elapsed() > AT_REST.min(patience / 2);
        if resting || start.elapsed() > patience {
            return Err(shortfall(stand, judge, &behind, wanted, resting, start.elapsed()));
        }
        // The dearer a look, the rarer it is.
        std::thread::sleep(PAUSE.max(look.elapsed() * 2));
    }
}

/// `8,090 of 10,000 after 60 s`
fn shortfall(
    stand: &Stand,
    judge: &Judge,
    behind: &[PathBuf],
    wanted: usize,
    resting: bool,
    after: Duration,
) -> String {
    let when = match resting {
        true => "and it rests".to_owned(),
        false => format!("after {:.0} s", after.as_secs_f64()),
    };
    let farthest = behind.iter().map(|copy| judge.differences(&stand.source(), copy)).max_by_key(Vec::len);
    let differences = farthest.unwrap_or_default();
    let number = |mark: &str| differences.iter().filter(|line| line.contains(mark)).count();
    let (missing, left) = (number(": missing ("), number(": superfluous"));
    let differing = differences.len() - missing - left;
    let mut parts = Vec::new();
    if missing > 0 {
        parts.push(format!("{} of {} there", thousands(wanted.saturating_sub(missing)), thousands(wanted)));
    }
    if left > 0 {
        parts.push(format!("{} not removed", thousands(left)));
    }
    if differing > 0 {
        parts.push(format!("contents differ in {}", thousands(differing)));
    }
    format!("{}, {when}", parts.join(", "))
}

/// What is known of a tree without opening a file.
struct Survey {
    /// Names that are final: rsync's own temporary ones start with a dot and have a suffix of six.
    entries: usize,
    /// The last change of anything in it.
    changed: SystemTime,
}

fn survey(root: &Path) -> io::Result<Survey> {
    let mut found = Survey { entries: 0, changed: changed(&fs::metadata(root)?) };
    let mut waiting = vec![root.to_owned()];
    while let Some(directory) = waiting.pop() {
        for entry in fs::read_dir(&directory)? {
            let entry = entry?;
            let metadata = entry.metadata()?;
            found.changed = found.changed.max(changed(&metadata));
            found.entries += 1;
            if metadata.is_dir() {
                waiting.push(entry.path());
            }
        }
    }
    Ok(found)
}

/// When the inode itself changed: a rename, which puts an arrived file in place, counts.
fn changed(metadata: &fs::Metadata) -> SystemTime {
    let nanoseconds = u32::try_from(metadata.ctime_nsec()).unwrap_or(0);
    SystemTime::UNIX_EPOCH + Duration::new(u64::try_from(metadata.ctime()).unwrap_or(0), nanoseconds)
}
