//! [`Engine`]: what the watch thread runs: reads events, has them interpreted, goes on with the walk, keeps time.
//!
//! One turn reads one buffer of events, interprets all of it, and does a slice of the walk; so a walk of a million
//! directories neither lets the kernel's queue overflow nor holds up the report of a change. What is found is
//! reported in the order in which it was found, once a turn.
//!
//! The parts of its work lie beside it: `interpret` (what an event means), `walk` (looking at directories), `root`
//! (the root comes and goes). They share this state.

use super::descriptor::{Descriptor, Event, WatchDescriptor};
use super::disk::Disk;
use super::hold::{HoldTimes, Holds};
use super::long_paths::LongPaths;
use super::nap::Naps;
use super::open_files::OpenFiles;
use super::rescan::{Rescans, WallTime};
use super::root::Root;
use super::settle::Settling;
use super::spool::Spool;
use super::tree::{NodeId, Tree};
use super::unclosed::Unclosed;
use super::unwatched::Unwatched;
use super::walk::{Mode, Step};
use super::{Change, Control, Counters, EventMask, Hint, Report, Spec};
use crate::failpoint::may_die_here;
use crate::mounts;
use crate::path::{Extent, RelPath};
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::eventfd::EventFd;
use std::collections::{HashMap, HashSet, VecDeque};
use std::ffi::OsString;
use std::fs::File;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant, SystemTime};
use tokio::sync::mpsc::UnboundedSender;

/// Steps of the walk in one turn.
const SLICE: usize = 32;
/// Changes in one report, at most.
const REPORT: usize = 4096;
/// Events kept in memory during one long step; above that they count as lost.
const BACKLOG: usize = 1_000_000;
/// Maximum time during which events wait for a walk that a caller waits for, and maximum number of these events.
const WALKED_FOR: Duration = Duration::from_secs(1);
const WAITING_FOR_WALK: usize = 100_000;
/// So long nothing is tried with a descriptor that could not be read.
const UNREADABLE: Duration = Duration::from_millis(500);
/// The second half of a rename is waited for so many milliseconds at most: nothing lies between them in the kernel but
/// what else wants the processor. Where a file leaves the tree there is none.
const SECOND_HALF: u16 = 5;
/// A change's ctime may be this much older than the moment from which on it is looked for: the kernel's clock for
/// files is coarse.
const SLACK: WallTime = 2_000_000_000;

/// Where the thread and its handle meet.
#[derive(Debug)]
pub struct Shared {
    /// Wakes the thread.
    pub wake: EventFd,
    /// The thread is to end.
    pub stop: AtomicBool,
    /// What it counts.
    pub counters: Counters,
    /// So many of its reports have been written down.
    pub written_down: AtomicU64,
}

/// A directory that left its place and has not arrived at another one yet.
#[derive(Debug)]
pub struct Limbo {
    /// Its node, detached.
    pub node: NodeId,
    /// Where it was.
    pub parent: NodeId,
    /// What it was called there.
    pub name: OsString,
    /// Where that was, if that it left was reported.
    pub from: Option<RelPath>,
    /// The size of its path there.
    pub extent: Extent,
    /// Until then its arrival is waited for.
    pub until: Instant,
}

/// A caller that waits for [`Report::Drained`].
#[derive(Debug)]
struct Drain {
    token: u64,
    phase: Phase,
}

/// How far the answer to a caller is.
#[derive(Debug, Clone, Copy)]
enum Phase {
    /// Events that were queued at its call are being read, up to this byte.
    Reading(u64),
    /// All of them were interpreted at that time; what follows from them is being done.
    Walking(Instant),
    /// Waits for deferred names.
    Holding {
        /// It is known by then of each file whether a writer has it open.
        until: Instant,
        /// The last of [`Engine::holds`].
        holds: u64,
        /// The last of [`Engine::unclosed`].
        unclosed: u64,
    },
}

/// Position in the event queue, in bytes read: everything that happened before it was taken has been read at that count.
#[derive(Debug, Clone, Copy)]
struct Milestone {
    bytes: u64,
    wall: WallTime,
    at: Instant,
}

/// The state of one watched root.
pub struct Engine {
    pub(super) spec: Spec,
    pub(super) disk: Disk,
    pub(super) descriptor: Descriptor,
    pub(super) tree: Tree,
    pub(super) root: Root,
    pub(super) backlog: VecDeque<Event>,
    /// What is left to do of the walk; the last one comes first.
    pub(super) steps: Vec<Step>,
    /// Counts listings; see [`Tree::mark`].
    pub(super) listing: u32,
    /// Where directories are read into.
    pub(super) listing_buffer: Vec<u8>,
    /// By the cookie of the rename.
    pub(super) limbo: HashMap<u32, Vec<Limbo>>,
    /// The file whose leaving was reported last, with the cookie of its rename.
    pub(super) left: Option<(u32, RelPath)>,
    /// The cookie of the rename by which a held directory got its name.
    pub(super) unpacked: Option<u32>,
    /// The last event read is the first half of a rename.
    half: bool,
    /// Directories in which something was not found because they had left their path: walked when they arrive.
    pub(super) overlooked: HashSet<NodeId>,
    /// Nodes whose watch the kernel ended, until the event comes that tells of their removal, or they are watched again.
    pub(super) ended: HashSet<NodeId>,
    pub(super) holds: Holds,
    pub(super) hold_times: HoldTimes,
    pub(super) open_files: OpenFiles,
    pub(super) unclosed: Unclosed,
    /// From when on no close was missed; see [`Engine::may_be_new`].
    pub(super) closes_known_since: SystemTime,
    /// When events were last read.
    pub(super) read_at: Instant,
    /// There were none at the last read.
    is_queue_empty: bool,
    pub(super) long_paths: LongPaths,
    pub(super) rescans: Rescans,
    pub(super) unwatched: Unwatched,
    pub(super) shared: Arc<Shared>,
    mountinfo: Option<File>,
    pub(super) mounts_changed: bool,
    pub(super) changes: Vec<Change>,
    events: Vec<super::Event>,
    pub(super) settling: Settling,
    reports: UnboundedSender<Report>,
    control: mpsc::Receiver<Control>,
    drains: Vec<Drain>,
    naps: Naps,
    /// Positions, in bytes read, at which marks are reported.
    marks: Vec<u64>,
    /// Where the queue ended a while ago, while it is never seen empty.
    milestone: Option<Milestone>,
    /// When all has ended that was held at a mark.
    marks_of_holds: VecDeque<Instant>,
    /// Up to when everything that happened has been read.
    pub(super) caught_up: WallTime,
    /// The same by the clock that holds go by.
    pub(super) emptied: Instant,
    /// The same at the time when the first overflow was read that is not interpreted yet.
    lost_since: Option<WallTime>,
}

/// What comes after a turn.
#[derive(Debug, PartialEq, Eq)]
pub enum Turn {
    /// There is more to do.
    Busy,
    /// Nothing to do until an event, a command, or this time.
    Idle(Instant),
    /// The thread is to end.
    Ended,
}

impl Engine {
    /// Around an inotify descriptor and the spool of its events; does nothing yet. What a process before had read and
    /// not settled is interpreted when all is watched again.
    pub fn new(
        descriptor: OwnedFd,
        mut spool: Spool,
        spec: Spec,
        reports: UnboundedSender<Report>,
        control: mpsc::Receiver<Control>,
        shared: Arc<Shared>,
    ) -> Self {
        let resuming = spool.is_complete(&spec.label());
        let (backlog, caught_up) = match resuming {
            true => (spool.events(), spool.caught_up()),
            false => {
                spool.begin(&spec.label());
                (VecDeque::new(), wall_time(SystemTime::now()))
            }
        };
        Self {
            disk: Disk::new(spec.root.clone()),
            descriptor: Descriptor::new(descriptor, spool, spec.events, spec.watches_writes()),
            tree: Tree::new(),
            root: Root::new(spec.root.clone()),
            backlog,
            settling: Settling::new(resuming),
            steps: Vec::new(),
            listing: 0,
            listing_buffer: Vec::new(),
            limbo: HashMap::new(),
            left: None,
            unpacked: None,
            half: false,
            overlooked: HashSet::new(),
            ended: HashSet::new(),
            holds: Holds::default(),
            hold_times: HoldTimes::USUAL,
            open_files: OpenFiles::default(),
            unclosed: Unclosed::default(),
            closes_known_since: SystemTime::now(),
            read_at: Instant::now(),
            is_queue_empty: false,
            long_paths: LongPaths::new(),
            rescans: Rescans::new(),
            unwatched: Unwatched::new(),
            // Without /proc/self/mountinfo, mounts below the root are noticed by the next rescan.
            mountinfo: File::open(mounts::MOUNTINFO).ok(),
            mounts_changed: false,
            changes: Vec::new(),
            events: Vec::new(),
            reports,
            control,
            drains: Vec::new(),
            naps: Naps::default(),
            marks: Vec::new(),
            milestone: None,
            marks_of_holds: VecDeque::new(),
            caught_up,
            emptied: Instant::now(),
            lost_since: None,
            shared,
            spec,
        }
    }

    /// Runs until it is told to end, or nobody listens any more.
    pub fn run(mut self) {
        self.descriptor.wander();
        loop {
            match self.turn() {
                Turn::Busy => {}
                Turn::Idle(until) => self.wait(until),
                Turn::Ended => return,
            }
        }
    }

    /// One turn.
    pub fn turn(&mut self) -> Turn {
        self.obey();
        let now = Instant::now();
        self.forget_settled(now);
        self.keep_time(now);
        let more = match self.read() {
            Ok(more) => more,
            Err(error) => {
                // Not known to happen. What could not be read counts as lost.
                tracing::error!("the inotify descriptor cannot be read: {error}; tried again");
                self.overflowed();
                self.flush();
                std::thread::sleep(UNREADABLE);
                return Turn::Busy;
            }
        };
        if more || !self.backlog.is_empty() {
            may_die_here!("events-read");
        }
        if !self.backlog.is_empty() {
            self.root.look_soon(now);
        }
        if let Some(last) = self.backlog.back() {
            self.half = last.mask.contains(EventMask::MOVED_FROM);
        }
        // Events of a process before name watches: they mean nothing before all is watched again.
        let may_interpret = !self.settling.resuming && !self.walks_for_drains(now);
        while may_interpret && let Some(event) = self.backlog.pop_front() {
            self.interpret(event);
        }
        if self.backlog.is_empty() {
            self.end_holds();
            self.drains_were_read();
        }
        for _ in 0..SLICE {
            if self.is_stopped() {
                return Turn::Ended;
            }
            let Some(step) = self.steps.pop() else { break };
            self.step(step);
        }
        self.overlooked.retain(|node| self.tree.is_alive(*node));
        self.ended.retain(|node| self.tree.is_alive(*node));
        self.long_paths.forget(|node| self.tree.is_alive(node));
        let busy = more || !self.backlog.is_empty() || !self.steps.is_empty();
        if self.steps.is_empty() && self.unwatched.all_mended(|node| self.tree.is_alive(node)) {
            self.send(Report::AllWatched);
        }
        if !busy && self.is_between_halves() {
            return Turn::Busy;
        }
        if self.backlog.is_empty() && self.steps.is_empty() {
            let read = self.bytes_read();
            for _ in self.marks.extract_if(.., |bytes| *bytes <= read).collect::<Vec<_>>() {
                self.send(Report::Marked);
                self.marks_of_holds.push_back(Instant::now() + self.hold_times.longest());
            }
        }
        self.answer_drains();
        self.flush();
        self.say_whether_complete();
        self.count_directories();
        if self.is_stopped() {
            return Turn::Ended;
        }
        if busy || !self.backlog.is_empty() || !self.steps.is_empty() {
            Turn::Busy
        } else {
            self.rest();
            Turn::Idle(self.next_time())
        }
    }

    /// Whether all that was read ends with the first half of a rename, and the second has come by now. The kernel queues
    /// them one after the other: who reads in between, and tells of the first alone, has the file sent again.
    fn is_between_halves(&mut self) -> bool {
        if !std::mem::take(&mut self.half) {
            return false;
        }
        let mut polled = [PollFd::new(self.descriptor.as_fd(), PollFlags::POLLIN)];
        loop {
            match poll(&mut polled, SECOND_HALF) {
                // A signal that is handled: it says nothing of the descriptor.
                Err(Errno::EINTR) => {}
                ready => return ready.is_ok_and(|ready| ready > 0),
            }
        }
    }

    pub(super) fn count_directories(&self) {
        self.shared.counters.directories.store(self.tree.watched() as u64, Ordering::Relaxed);
    }

    /// Keeps nothing that a quiet moment has no use for.
    fn rest(&mut self) {
        self.disk.rest();
        self.descriptor.rest();
        self.tree.trim();
        self.steps.shrink_to(SLICE);
    }

    /// Sleeps until there is something to do.
    pub fn wait(&mut self, until: Instant) {
        let patience = until.saturating_duration_since(Instant::now());
        // poll(2) counts whole milliseconds; rounded down it would come too early, over and over.
        let timeout = PollTimeout::try_from(patience + Duration::from_millis(1)).unwrap_or(PollTimeout::MAX);
        let mut polled = vec![
            PollFd::new(self.descriptor.as_fd(), PollFlags::POLLIN),
            PollFd::new(self.shared.wake.as_fd(), PollFlags::POLLIN),
        ];
        polled.extend(self.mountinfo.as_ref().map(|file| PollFd::new(file.as_fd(), PollFlags::POLLPRI)));
        let asleep = Instant::now();
        // An interrupted or failed poll is an early wake-up, nothing more.
        let _ = poll(&mut polled, timeout);
        if let Some(nap) = self.naps.after(asleep, Instant::now()) {
            // A command still comes through at once.
            let _ = poll(&mut polled[1..], nap);
        }
        let mounts_changed = polled.get(2).and_then(PollFd::any).unwrap_or(false);
        let woken = polled[1].any().unwrap_or(false);
        self.mounts_changed |= mounts_changed;
        if woken {
            let _ = self.shared.wake.read();
        }
    }

    /// Adds a change to the next report.
    pub(super) fn report(&mut self, path: RelPath, hint: Hint) {
        self.add(Change { path, hint, from: None });
    }

    /// Adds to the next report that `path` was renamed from `from`.
    pub(super) fn report_renamed(&mut self, from: RelPath, path: RelPath, hint: Hint) {
        // What is held back below the old path is reported there, if at all.
        let from = Some(from).filter(|from| !self.holds.has_inside(from));
        self.add(Change { path, hint, from });
    }

    fn add(&mut self, change: Change) {
        if self.changes.last() == Some(&change) {
            return;
        }
        self.changes.push(change);
        if self.changes.len() >= REPORT {
            self.flush();
        }
    }

    /// Adds an event to the next report, if events are asked for.
    pub(super) fn tell(&mut self, path: &RelPath, mask: EventMask, cookie: u32) {
        if self.spec.raw {
            self.events.push(super::Event { path: path.clone(), mask, cookie });
            if self.events.len() >= REPORT {
                self.flush();
            }
        }
    }

    /// Sends a report, after all changes seen before.
    pub(super) fn send(&mut self, report: Report) {
        self.flush();
        self.settling.sent += 1;
        if self.reports.send(report).is_err() {
            self.shared.stop.store(true, Ordering::Relaxed);
        }
    }

    fn flush(&mut self) {
        if !self.events.is_empty() {
            let events = std::mem::take(&mut self.events);
            self.settling.sent += 1;
            if self.reports.send(Report::Events(events)).is_err() {
                self.shared.stop.store(true, Ordering::Relaxed);
            }
        }
        if let Some(news) = self.long_paths.news(&mut self.tree) {
            self.settling.sent += 1;
            if self.reports.send(Report::TooLong(news)).is_err() {
                self.shared.stop.store(true, Ordering::Relaxed);
            }
        }
        if !self.changes.is_empty() {
            let changes = std::mem::take(&mut self.changes);
            self.settling.sent += 1;
            if self.reports.send(Report::Changes(changes)).is_err() {
                self.shared.stop.store(true, Ordering::Relaxed);
            }
        }
    }

    /// Whether the thread is to end.
    pub(super) fn is_stopped(&self) -> bool {
        self.shared.stop.load(Ordering::Relaxed)
    }

    /// Reads one buffer into the backlog; false when the kernel's queue was empty.
    fn read(&mut self) -> std::io::Result<bool> {
        let (before, now) = (wall_time(SystemTime::now()), Instant::now());
        let known = self.backlog.len();
        let more = self.descriptor.read(&mut self.backlog)?;
        let fresh = self.backlog.len() - known;
        self.naps.read(fresh);
        self.shared.counters.events.fetch_add(fresh as u64, Ordering::Relaxed);
        if self.backlog.range(known..).any(|event| event.mask.contains(EventMask::Q_OVERFLOW)) {
            self.lost_since.get_or_insert(self.caught_up);
        }
        // While events of before wait, nothing is caught up with.
        self.is_queue_empty = !more;
        if fresh > 0 {
            self.read_at = Instant::now();
        }
        if !self.settling.resuming {
            let read = self.descriptor.spool.bytes_read;
            let passed = match self.milestone {
                _ if !more => Some((before, now)),
                Some(Milestone { bytes, wall, at }) if bytes <= read => Some((wall, at)),
                _ => None,
            };
            if let Some((wall, at)) = passed {
                (self.caught_up, self.emptied, self.milestone) = (wall, at, None);
                self.descriptor.spool.set_caught_up(wall);
            }
            if more && self.milestone.is_none() {
                let (wall, at) = (wall_time(SystemTime::now()), Instant::now());
                self.milestone = Some(Milestone { bytes: self.bytes_queued(), wall, at });
            }
        }
        Ok(more)
    }

    /// The number of bytes read; where the queue was empty, any number.
    fn bytes_read(&self) -> u64 {
        if self.is_queue_empty { u64::MAX } else { self.descriptor.spool.bytes_read }
    }

    /// The number of bytes that will have been read when all events queued now are.
    fn bytes_queued(&self) -> u64 {
        // Without an answer an empty queue is waited for.
        let queued = rustix::io::ioctl_fionread(&self.descriptor).unwrap_or(u64::MAX);
        self.descriptor.spool.bytes_read.saturating_add(queued)
    }

    /// Empties the kernel's queue into memory, in the middle of something long.
    pub(super) fn relieve(&mut self) {
        while !self.is_stopped() && matches!(self.read(), Ok(true)) {
            if self.backlog.len() > BACKLOG {
                let lost_since = self.lost_since.unwrap_or(self.caught_up);
                self.backlog.clear();
                self.lost_since = Some(lost_since);
                self.overflowed();
            }
        }
    }

    /// The kernel lost events.
    pub(super) fn overflowed(&mut self) {
        let since = self.lost_since.take().unwrap_or(self.caught_up);
        self.shared.counters.overflows.fetch_add(1, Ordering::Relaxed);
        self.open_files.clear();
        self.closes_known_since = SystemTime::now();
        self.send(Report::Overflowed);
        if self.root.is_present() {
            self.rescans.overflowed(Instant::now(), with_slack(since));
        } else if self.settling.resuming {
            self.not_resumed();
        }
    }

    /// Ends the watches of nodes that are gone. Each ended watch is an event (`IN_IGNORED`): the queue must not
    /// overflow from them.
    pub(super) fn unwatch(&mut self, watches: Vec<WatchDescriptor>) {
        if !watches.is_empty() {
            self.unwatched.watches_freed(Instant::now());
        }
        for (count, watch) in watches.into_iter().enumerate() {
            self.descriptor.remove(watch);
            if count % 1024 == 1023 {
                self.relieve();
            }
        }
    }

    fn obey(&mut self) {
        while let Ok(control) = self.control.try_recv() {
            match control {
                Control::Drain(token) => {
                    // Nothing reports that another directory has taken its place.
                    self.root.look_now(Instant::now());
                    self.drains.push(Drain { token, phase: Phase::Reading(self.bytes_queued()) });
                }
                Control::Mark => self.marks.push(self.bytes_queued()),
                Control::Rescan if self.root.is_present() => {
                    self.rescans.asked(Instant::now(), with_slack(self.caught_up));
                }
                // When the root comes back all of it is looked at anyway.
                Control::Rescan => {}
            }
        }
    }

    fn keep_time(&mut self, now: Instant) {
        if std::mem::take(&mut self.mounts_changed) {
            self.root.look_now(now);
            // What cannot be found out now is looked at again with the root.
            self.mounts_changed = !self.look_at_mounts();
        }
        if self.root.next_look() <= now {
            self.look_at_root(now);
        }
        self.end_limbo(now);
        for (node, since) in self.unwatched.retry(now) {
            self.steps.push(Step::Walk(node, Mode::Changed(Some(since))));
        }
        self.steps.extend(self.long_paths.due(now).into_iter().map(Step::Count));
        if let Some(since) = self.rescans.start(now) {
            let root = self.tree.root();
            self.steps.push(Step::RescanEnded);
            self.steps.push(Step::Report(root, Hint::Rescan));
            self.steps.push(Step::Walk(root, Mode::Changed(Some(since))));
        }
    }

    /// Ends the holds whose time had come when the queue was last seen empty. An event that waits there may say that a
    /// file is being written.
    fn end_holds(&mut self) {
        while let Some((path, reason)) = self.holds.due(self.emptied) {
            self.hold_ended(path, reason);
        }
        while let Some(due) = self.unclosed.due(self.emptied) {
            self.unclosed_ended(due);
        }
        while self.marks_of_holds.front().is_some_and(|until| *until <= self.emptied) {
            self.marks_of_holds.pop_front();
            self.send(Report::MarkedHeld);
        }
    }

    /// Whether events wait until the walk is done that follows from those before a drain: a writer that never rests could
    /// put it off without end.
    fn walks_for_drains(&self, now: Instant) -> bool {
        let walks = |drain: &Drain| matches!(drain.phase, Phase::Walking(since) if now < since + WALKED_FOR);
        self.drains.iter().any(walks) && !self.rescans.is_owed() && self.backlog.len() < WAITING_FOR_WALK
    }

    /// Whether a caller waits for what is held back.
    pub(super) fn is_drained_for(&self) -> bool {
        self.drains.iter().any(|drain| matches!(drain.phase, Phase::Holding { .. }))
    }

    /// All that was read is interpreted.
    fn drains_were_read(&mut self) {
        let (now, read) = (Instant::now(), self.bytes_read());
        for drain in &mut self.drains {
            if matches!(drain.phase, Phase::Reading(bytes) if bytes <= read) {
                drain.phase = Phase::Walking(now);
            }
        }
    }

    /// Answers the callers that wait for nothing except files that a writer has open.
    fn answer_drains(&mut self) {
        let walks = |drain: &Drain| matches!(drain.phase, Phase::Walking(_));
        if self.rescans.is_owed() {
            let now = Instant::now();
            self.drains.iter_mut().filter(|drain| walks(drain)).for_each(|drain| drain.phase = Phase::Walking(now));
        }
        if self.drains.iter().any(walks) && self.steps.is_empty() && !self.rescans.is_owed() {
            self.end_limbo(Instant::now() + Duration::from_secs(60));
            if self.steps.is_empty() {
                for (path, reason) in self.holds.take_closed() {
                    self.hold_ended(path, reason);
                }
            }
            if self.steps.is_empty() {
                let now = Instant::now();
                self.unclosed.hurry(now, self.hold_times.content);
                let (holds, unclosed) = (self.holds.last_number(), self.unclosed.last());
                let phase = Phase::Holding { until: now + self.hold_times.longest(), holds, unclosed };
                self.drains.iter_mut().filter(|drain| walks(drain)).for_each(|drain| drain.phase = phase);
            }
        }
        let (held, unclosed, emptied) = (self.holds.oldest(), self.unclosed.oldest(), self.emptied);
        let is_done = |drain: &mut Drain| drain.is_done(held, unclosed, emptied);
        for drain in self.drains.extract_if(.., is_done).collect::<Vec<_>>() {
            self.send(Report::Drained(drain.token));
        }
    }

    fn next_time(&self) -> Instant {
        let limbo = self.limbo.values().flatten().map(|limbo| limbo.until).min();
        let times = [
            self.holds.next(),
            self.unclosed.next(),
            self.marks_of_holds.front().copied(),
            self.drains.iter().filter_map(Drain::until).min(),
            limbo,
            self.unwatched.next(),
            self.long_paths.next(),
            self.rescans.next(),
        ];
        times.into_iter().flatten().fold(self.root.next_look(), Instant::min)
    }
}

impl Drain {
    /// When it is answered at the latest.
    fn until(&self) -> Option<Instant> {
        match self.phase {
            Phase::Holding { until, .. } => Some(until),
            Phase::Reading(_) | Phase::Walking(_) => None,
        }
    }

    /// Whether nothing is left of what was held back, given the oldest of what is held back now.
    fn is_done(&self, held: Option<u64>, unclosed: Option<u64>, emptied: Instant) -> bool {
        match self.phase {
            Phase::Holding { until, holds: last_hold, unclosed: last_unclosed } => {
                let none_left = held.is_none_or(|oldest| oldest > last_hold)
                    && unclosed.is_none_or(|oldest| oldest > last_unclosed);
                none_left || until <= emptied
            }
            Phase::Reading(_) | Phase::Walking(_) => false,
        }
    }
}

/// Nanoseconds since the epoch; a clock before 1970 counts as 1970.
pub fn wall_time(time: SystemTime) -> WallTime {
    let since = time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    WallTime::try_from(since.as_nanos()).unwrap_or(WallTime::MAX)
}

/// From when on to look for ctimes, if changes were lost after `since`. A clock that was set back meanwhile gives
/// changes ctimes before `since`.
pub(super) fn with_slack(since: WallTime) -> WallTime {
    since.min(wall_time(SystemTime::now())) - SLACK
}
