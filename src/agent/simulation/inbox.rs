//! The simulated watch: events wait in an inbox, as in the kernel's queue, and a task reports them one after the other.

use super::world::{Shared, World};
use crate::agent::machine::Watching;
use crate::path::RelPath;
use crate::time;
use crate::watch::{Change, Hint, Report};
use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant, SystemTime};
use tokio::sync::Notify;
use tokio::sync::mpsc::UnboundedSender;
use tokio::task::AbortHandle;

/// Something that a watch learns, or is asked.
#[derive(Debug)]
pub enum Item {
    Changes(Vec<Change>),
    Drain(u64),
    Mark,
    /// Events were lost; files that were changed since then are reported.
    Overflow(SystemTime),
    RootAway,
    /// The root is back; files that were changed since then are reported.
    RootBack(SystemTime),
    /// The reports that an earlier process left have all been sent.
    Resumed,
}

#[derive(Debug, Default)]
struct Queue {
    items: VecDeque<(Instant, Item)>,
    /// Reported changes that are not written down yet, with the numbers of their reports.
    spool: Vec<(u64, Vec<Change>)>,
    /// Reports sent.
    sent: u64,
    /// A walk is under way.
    walking: bool,
    /// When nothing waited last.
    caught_up: Option<SystemTime>,
    /// Something was lost while no process ran.
    broken: bool,
    ended: bool,
}

/// The events that a watch has not reported yet.
#[derive(Debug, Default)]
pub struct Inbox {
    queue: Mutex<Queue>,
    arrived: Notify,
}

impl Inbox {
    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().expect("nothing panics that holds the queue")
    }

    pub fn push(&self, item: Item, due: Instant) {
        let mut queue = self.queue();
        if queue.caught_up.is_none() || !queue.has_changes() {
            queue.caught_up = Some(time::wall());
        }
        // In the order in which they happened.
        let due = queue.items.back().map_or(due, |(last, _)| due.max(*last));
        queue.items.push_back((due, item));
        self.arrived.notify_one();
    }

    /// The same for what is noticed before all that waits.
    pub fn push_first(&self, item: Item) {
        self.queue().items.push_front((time::now(), item));
        self.arrived.notify_one();
    }

    /// Loses the changes that wait, as an overflow of the kernel's queue does, or a root that goes away. Returns since when
    /// something may be missing.
    pub fn lose_changes(&self) -> SystemTime {
        let mut queue = self.queue();
        let since = queue.since();
        queue.items.retain(|(_, item)| !matches!(item, Item::Changes(_)));
        queue.broken |= queue.ended;
        since
    }

    pub fn has_ended(&self) -> bool {
        self.queue().ended
    }

    /// Whether something is still to be reported at `path`, or all is walked. `shows`: size and time show the difference.
    pub fn covers(&self, path: &RelPath, shows: bool) -> bool {
        let queue = self.queue();
        let covers = |item: &Item| match item {
            Item::Changes(changes) => changes.iter().any(|change| reports(change, path, shows)),
            Item::Overflow(_) | Item::RootAway | Item::RootBack(_) => true,
            Item::Drain(_) | Item::Mark | Item::Resumed => false,
        };
        queue.walking || queue.items.iter().any(|(_, item)| covers(item))
    }

    /// The items to take up in a new process: what was not written down, and what was not reported.
    pub fn left(&self) -> Option<Vec<Item>> {
        let mut queue = self.queue();
        if queue.broken || queue.walking {
            return None;
        }
        let spooled = std::mem::take(&mut queue.spool).into_iter().map(|(_, changes)| Item::Changes(changes));
        let waiting = std::mem::take(&mut queue.items).into_iter().map(|(_, item)| item);
        let waiting: Vec<Item> =
            waiting.filter(|item| !matches!(item, Item::Drain(_) | Item::Mark | Item::Resumed)).collect();
        let whole = waiting.iter().all(|item| matches!(item, Item::Changes(_)));
        whole.then(|| spooled.chain(waiting).collect())
    }

    fn next(&self) -> Option<Instant> {
        self.queue().items.front().map(|(due, _)| *due)
    }

    fn walk(&self, walking: bool) {
        self.queue().walking = walking;
    }
}

impl Queue {
    fn has_changes(&self) -> bool {
        self.items.iter().any(|(_, item)| matches!(item, Item::Changes(_)))
    }

    /// Since when something that waits may have happened.
    fn since(&self) -> SystemTime {
        let now = time::wall();
        let since = if self.has_changes() { self.caught_up.unwrap_or(now) } else { now };
        since - Duration::from_secs(1)
    }
}

/// Whether acting on `change` makes `path` equal.
pub fn reports(change: &Change, path: &RelPath, shows: bool) -> bool {
    match change.hint {
        Hint::Arrived => change.path == *path || path.is_inside(&change.path) || change.path.is_root(),
        Hint::Rescan | Hint::Missed => {
            change.path == *path || shows && (path.is_inside(&change.path) || change.path.is_root())
        }
        Hint::Removed => change.path == *path || path.is_inside(&change.path),
        _ => change.path == *path,
    }
}

/// The engine's end of a simulated watch.
#[derive(Debug)]
pub struct SimulatedWatch {
    pub inbox: Arc<Inbox>,
    pub task: AbortHandle,
    pub resumed: bool,
}

impl Watching for SimulatedWatch {
    fn drain(&self, token: u64) {
        self.inbox.push(Item::Drain(token), time::now());
    }

    fn mark(&self) {
        self.inbox.push(Item::Mark, time::now());
    }

    fn may_be_resumed(&self) -> bool {
        self.resumed
    }

    fn written_down(&self, reports: u64) {
        self.inbox.queue().spool.retain(|(number, _)| *number > reports);
    }

    fn watched_directories(&self) -> u64 {
        1
    }

    fn events_seen(&self) -> u64 {
        0
    }

    fn overflows(&self) -> u64 {
        0
    }
}

impl Drop for SimulatedWatch {
    fn drop(&mut self) {
        self.inbox.queue().ended = true;
        self.task.abort();
    }
}

/// How a watch begins.
#[derive(Debug)]
pub enum Start {
    /// With a walk that reports the files that were changed since then.
    Walk(Option<SystemTime>),
    /// With what is in the inbox.
    Resume,
}

struct Attendant {
    world: Shared,
    inbox: Arc<Inbox>,
    reports: UnboundedSender<Report>,
}

/// The watch's task.
pub async fn attend(world: Shared, inbox: Arc<Inbox>, reports: UnboundedSender<Report>, start: Start) {
    let attendant = Attendant { world, inbox, reports };
    attendant.begin(start).await;
    loop {
        match attendant.inbox.next() {
            None => attendant.inbox.arrived.notified().await,
            Some(due) if due > time::now() => {
                tokio::select! {
                    biased;
                    () = attendant.inbox.arrived.notified() => {}
                    () = tokio::time::sleep_until(due.into()) => {}
                }
            }
            Some(_) => {
                let item = attendant.inbox.queue().items.pop_front();
                if let Some((_, item)) = item {
                    attendant.take(item).await;
                }
            }
        }
    }
}

impl Attendant {
    async fn begin(&self, start: Start) {
        match start {
            Start::Walk(since) => {
                // The walk is noted before anything can happen.
                if !self.world.lock().root_there {
                    self.inbox.walk(false);
                    return self.send(Report::RootMissing("gone".to_owned()));
                }
                self.walk(since, None, false).await;
            }
            Start::Resume => self.send_shape(),
        }
    }

    async fn take(&self, item: Item) {
        match item {
            Item::Changes(changes) => self.send_changes(changes),
            Item::Drain(token) => self.send(Report::Drained(token)),
            Item::Mark => {
                self.send(Report::Marked);
                self.send(Report::MarkedHeld);
            }
            Item::Resumed => self.send(Report::RootReady { returned: false, resumed: true }),
            Item::Overflow(since) => {
                self.inbox.walk(true);
                self.send(Report::Overflowed);
                self.take_time().await;
                self.found(Some(since), Some(Hint::Rescan));
            }
            Item::RootAway => self.send(Report::RootMissing("gone".to_owned())),
            Item::RootBack(since) => {
                self.inbox.walk(true);
                self.walk(Some(since), Some(Hint::Rescan), true).await;
            }
        }
    }

    async fn walk(&self, since: Option<SystemTime>, root: Option<Hint>, returned: bool) {
        self.send_shape();
        self.take_time().await;
        // The root may have gone meanwhile: then it is reported missing next.
        self.found(since, root);
        self.send(Report::RootReady { returned, resumed: false });
    }

    async fn take_time(&self) {
        let time = self.world.lock().rng.u64(0..3_000);
        tokio::time::sleep(Duration::from_millis(time)).await;
    }

    fn found(&self, since: Option<SystemTime>, root: Option<Hint>) {
        let mut changes = since.map_or_else(Vec::new, |since| self.world.lock().walked(since));
        changes.extend(root.map(|hint| Change { path: RelPath::root(), hint, from: None }));
        self.send_changes(changes);
        self.inbox.walk(false);
    }

    fn send_shape(&self) {
        let shape = self.world.lock().shape();
        if let Some(shape) = shape {
            self.send(Report::Mounted(shape));
        }
    }

    fn send_changes(&self, changes: Vec<Change>) {
        if changes.is_empty() {
            return;
        }
        let now = time::now();
        let mut world = self.world.lock();
        world.delivered.extend(changes.iter().map(|change| (now, change.clone())));
        drop(world);
        let mut queue = self.inbox.queue();
        let number = queue.sent + 1;
        queue.spool.push((number, changes.clone()));
        drop(queue);
        self.send(Report::Changes(changes));
    }

    fn send(&self, report: Report) {
        self.inbox.queue().sent += 1;
        // The engine may have ended.
        let _ = self.reports.send(report);
    }
}

impl World {
    /// Begins a watch: what it takes up, and its inbox.
    pub fn begin_watch(&mut self, since: Option<SystemTime>) -> (Arc<Inbox>, Start) {
        let (ended, running): (Vec<_>, Vec<_>) = self.inbox.take().into_iter().partition(|inbox| inbox.has_ended());
        self.replaced.extend(running);
        let left = ended.into_iter().filter(|_| self.resumable && self.root_there).find_map(|inbox| inbox.left());
        let inbox = Arc::new(Inbox::default());
        let start = match left {
            Some(items) => {
                items.into_iter().chain([Item::Resumed]).for_each(|item| inbox.push(item, time::now()));
                Start::Resume
            }
            None => Start::Walk(since),
        };
        inbox.walk(matches!(start, Start::Walk(_)));
        self.inbox = Some(inbox.clone());
        (inbox, start)
    }
}
