//! The watch against a real inotify and real directories.
//!
//! Most tests turn the engine by hand, so that they decide how far the disk is ahead of it: they need no sleep, and a
//! real overflow of the kernel's queue takes no more than not turning.

mod behaviour;
mod new_files;
mod random;
mod remote;
mod resume;
mod root;
mod thread;
mod tree;
mod unclosed;

use super::engine::{Engine, Shared, Turn};
use super::hold::HoldTimes;
use super::spool::Spool;
use super::{Change, Control, Counters, Hint, Kept, Report, Spec};
use crate::config::{EventSwitches, TemporaryNames};
use crate::file_system::Shape;
use crate::filter::Filter;
use crate::path::RelPath;
use nix::sys::eventfd::{EfdFlags, EventFd};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64};
use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};
use tempfile::TempDir;
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};

/// Far longer than anything here takes.
const PATIENCE: Duration = Duration::from_secs(30);

/// For tests that wait until holds have ended.
const BRIEF: HoldTimes = HoldTimes {
    name: Duration::from_millis(20),
    content: Duration::from_millis(20),
    empty: Duration::from_millis(20),
    linked: Duration::from_millis(5),
};

/// How often a condition is looked at while nothing happens.
const LOOK: Duration = Duration::from_millis(20);

fn spec(root: &Path) -> Spec {
    Spec {
        root: root.to_path_buf(),
        events: EventSwitches::EXACT,
        filter: Arc::new(Filter::none()),
        temporary_names: TemporaryNames::Hold,
        changed_since: None,
        about: Vec::new(),
        raw: false,
    }
}

/// An engine turned by hand, its root (`in`) and a directory beside it (`out`).
struct Rig {
    _turn: crate::forks::NoForks,
    _home: TempDir,
    root: PathBuf,
    out: PathBuf,
    engine: Engine,
    spec: Spec,
    kept: Kept,
    control: mpsc::Sender<Control>,
    reports: UnboundedReceiver<Report>,
    /// Reports received of this engine.
    received: u64,
    /// Changes that outlive the agent.
    written_down: Vec<Change>,
    /// How often a watch was resumed, and how often it could not be.
    resumptions: (usize, usize),
    /// The file systems of the root, as reported last.
    shape: Option<Shape>,
    /// All but the changes, as text.
    told: Vec<String>,
    changes: Vec<Change>,
}

impl Rig {
    /// Watching an empty root.
    fn new(adjust: impl FnOnce(&mut Spec)) -> Self {
        Self::with_tree(|_| {}, adjust)
    }

    /// Watching what `fill` made of the root; all of it is watched on return.
    fn with_tree(fill: impl FnOnce(&Path), adjust: impl FnOnce(&mut Spec)) -> Self {
        let mut rig = Self::unstarted(fill, adjust);
        rig.settle();
        rig
    }

    fn unstarted(fill: impl FnOnce(&Path), adjust: impl FnOnce(&mut Spec)) -> Self {
        let home = tempfile::tempdir().unwrap();
        let [root, out] = ["in", "out"].map(|name| home.path().join(name));
        fs::create_dir(&root).unwrap();
        fs::create_dir(&out).unwrap();
        fill(&root);
        let mut spec = spec(&root);
        adjust(&mut spec);
        let kept = Kept::new().unwrap();
        let (engine, control, reports) = start(&spec, &kept);
        Self {
            _turn: crate::forks::none(),
            _home: home,
            root,
            out,
            engine,
            spec,
            kept,
            control,
            reports,
            received: 0,
            written_down: Vec::new(),
            resumptions: (0, 0),
            shape: None,
            told: Vec::new(),
            changes: Vec::new(),
        }
    }

    /// What was received so far is written down.
    fn write_down(&mut self) {
        self.written_down.append(&mut self.changes);
        self.engine.shared.written_down.store(self.received, std::sync::atomic::Ordering::Release);
    }

    /// The agent is killed, with all that it has not written down, and another one starts.
    fn die(&mut self) {
        let (mut engine, control, reports) = start(&self.spec, &self.kept);
        engine.hold_times = self.engine.hold_times;
        (self.engine, self.control, self.reports, self.received) = (engine, control, reports, 0);
        self.changes.clear();
        self.told.clear();
    }

    /// Turns until everything that happened is reported, and gives back what was reported since the last call.
    fn settle(&mut self) -> Vec<String> {
        self.control.send(Control::Drain(7)).unwrap();
        self.turn_until(|rig| rig.told.last().is_some_and(|told| told == "Drained(7)"));
        self.told.pop();
        self.take()
    }

    /// Turns until a report (not of changes) starts like this.
    fn await_told(&mut self, start: &str) -> String {
        let told = |rig: &Self| rig.told.iter().rposition(|told| told.starts_with(start));
        self.turn_until(|rig| told(rig).is_some());
        let at = told(self).unwrap();
        self.told.remove(at)
    }

    fn turn_until(&mut self, done: impl Fn(&Self) -> bool) {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let turn = self.engine.turn();
            self.collect();
            if done(self) {
                return;
            }
            assert!(Instant::now() < deadline, "not within {PATIENCE:?}; told {:?}, {:?}", self.told, self.changes);
            match turn {
                Turn::Busy => {}
                Turn::Idle(until) => self.engine.wait(until.min(deadline).min(Instant::now() + LOOK)),
                Turn::Ended => panic!("the engine ended; told {:?}", self.told),
            }
        }
    }

    /// Turns for at least that long, and gives back what was reported since the last call.
    fn turn_for(&mut self, time: Duration) -> Vec<String> {
        let end = Instant::now() + time;
        self.turn_until(|_| Instant::now() >= end);
        self.take()
    }

    fn collect(&mut self) {
        while let Ok(report) = self.reports.try_recv() {
            self.received += 1;
            match report {
                Report::Changes(changes) => self.changes.extend(changes),
                Report::RootReady { resumed: true, .. } => self.resumptions.0 += 1,
                Report::RootReady { returned, .. } => {
                    self.resumptions.1 += 1;
                    // The agent compares the whole tree; it wrote down at its start that it has to.
                    self.written_down.push(Change { path: RelPath::root(), hint: Hint::Arrived, from: None });
                    self.told.push(format!("RootReady {{ returned: {returned} }}"));
                }
                Report::Mounted(shape) => self.shape = Some(shape),
                other => self.told.push(format!("{other:?}")),
            }
        }
    }

    fn take(&mut self) -> Vec<String> {
        // A file that is being written is not sent yet; the tests of new files cover that.
        let changes = self.changes.drain(..).filter(|change| change.hint != Hint::BeingWritten);
        changes.map(|change| format!("{:?} {}", change.hint, change.path.display())).collect()
    }

    /// Whether exactly the directories on disk are watched, each as itself.
    fn check_tree(&mut self, story: &str) {
        let on_disk = remote::walk(&self.root).into_iter().filter(|(path, _)| self.root.join(path).is_dir());
        let on_disk: Vec<_> = on_disk.filter(|(_, is_directory)| *is_directory).map(|(path, _)| path).collect();
        for path in &on_disk {
            let path = RelPath::new(std::os::unix::ffi::OsStrExt::as_bytes(path.as_os_str())).unwrap();
            let node = self.engine.tree.find(&path).unwrap_or_else(|| panic!("{path:?} is not known; {story}"));
            let super::walk::Found::Directory(_, watch) = self.engine.look(&path) else {
                panic!("{path:?} is no directory")
            };
            assert_eq!(self.engine.tree.watch_key(node), Some(watch.key()), "{path:?}; {story}");
        }
        assert_eq!(self.engine.tree.watched(), on_disk.len() + 1, "and none besides; {story}");
    }
}

/// An engine around the descriptors of `kept`.
fn start(spec: &Spec, kept: &Kept) -> (Engine, mpsc::Sender<Control>, UnboundedReceiver<Report>) {
    let wake = EventFd::from_flags(EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK).unwrap();
    let shared = Arc::new(Shared {
        wake,
        stop: AtomicBool::new(false),
        counters: Counters::default(),
        written_down: AtomicU64::new(0),
    });
    let (control, commands) = mpsc::channel();
    let (sender, reports) = unbounded_channel();
    let spool = Spool::open(&kept.spool).unwrap();
    let engine = Engine::new(kept.inotify.try_clone().unwrap(), spool, spec.clone(), sender, commands, shared);
    (engine, control, reports)
}

fn has(changes: &[String], change: &str) -> bool {
    changes.iter().any(|known| known == change)
}

fn position(changes: &[String], change: &str) -> usize {
    changes.iter().position(|known| known == change).unwrap_or_else(|| panic!("no {change:?} in {changes:?}"))
}

fn hint_at(rig: &Rig, path: &str, hint: Hint) -> bool {
    rig.changes.iter().any(|change| change.hint == hint && change.path.as_bytes() == path.as_bytes())
}
