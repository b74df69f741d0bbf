//! One target's task: it owns the queue, makes the calls, and decides what becomes of those that fail.

use super::queue::{Item, Place, Queue, Told};
use super::target::{CallError, Target};
use super::unfinished::Unfinished;
use crate::human;
use crate::message_ids;
use crate::pending::{LONGEST_PAUSE, backoff};
use crate::repeats::{Ration, Repeats};
use crate::time;
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant, SystemTime};
use tokio::sync::{Notify, mpsc, oneshot, watch};
use tokio::task::{Id, JoinError, JoinSet};

/// So many paths at most wait for one target.
const WAITING_AT_MOST: usize = 100_000;

/// A new status at most so often.
const STATUS_INTERVAL: Duration = Duration::from_millis(100);

/// How one target is doing.
#[derive(Debug, Clone, PartialEq)]
pub struct Status {
    /// The plugin's name, such as `http`.
    pub plugin: String,
    /// Who is told; holds no secret.
    pub target: String,
    /// Paths that wait.
    pub waiting: u64,
    /// Paths that it is being told of.
    pub running: u64,
    /// Paths that it was told of since start.
    pub done: u64,
    /// Paths that were given up since start: after too many failures, or for want of room.
    pub failed: u64,
    /// The last error, while nothing has succeeded since; empty: none.
    pub last_error: String,
    /// Since when calls fail.
    pub failing_since: Option<SystemTime>,
    /// When a target that is down is tried again.
    pub next_try: Option<SystemTime>,
}

/// A target's task, as its owner sees it.
#[derive(Debug)]
pub(super) struct Running {
    target: Arc<Target>,
    told: mpsc::UnboundedSender<Arc<[Told]>>,
    status: watch::Receiver<Status>,
    /// Number of messages of `told` that `status` does not count yet.
    uncounted: Arc<AtomicUsize>,
    stop: oneshot::Sender<(Duration, oneshot::Sender<Vec<Told>>)>,
}

impl Running {
    /// Starts the task. `changed` is rung with each new status.
    pub fn start(target: Target, instance: &str, changed: Arc<Notify>, paused: watch::Receiver<bool>) -> Self {
        let target = Arc::new(target);
        let status = Status {
            plugin: target.plugin().to_string(),
            target: target.address(),
            waiting: 0,
            running: 0,
            done: 0,
            failed: 0,
            last_error: String::new(),
            failing_since: None,
            next_try: None,
        };
        let (told, news) = mpsc::unbounded_channel();
        let (publish, published) = watch::channel(status.clone());
        let (stop, stopped) = oneshot::channel();
        let uncounted = Arc::new(AtomicUsize::new(0));
        let worker = Worker {
            target: target.clone(),
            instance: instance.into(),
            queue: Queue::new(WAITING_AT_MOST),
            calls: JoinSet::new(),
            in_hand: HashMap::new(),
            failures: 0,
            down_told: Repeats::default(),
            given_up_told: Ration::default(),
            crowd_told: Repeats::default(),
            next_try: None,
            status,
            publish,
            changed,
            paused,
            published_at: None,
            uncounted: uncounted.clone(),
            taken: 0,
        };
        tokio::spawn(worker.run(news, stopped));
        Self { target, told, status: published, uncounted, stop }
    }

    /// The plugin and its target, as the status names them.
    pub fn name(&self) -> (String, String) {
        (self.target.plugin().to_string(), self.target.address())
    }

    pub fn target(&self) -> &Target {
        &self.target
    }

    /// Never waits: the task takes what it is told at once, into a queue that is bounded.
    pub fn tell(&self, told: Arc<[Told]>) {
        self.uncounted.fetch_add(1, Ordering::Relaxed);
        // The task ends only after this handle.
        let _ = self.told.send(told);
    }

    /// Whether the target has been told everything.
    pub fn is_idle(&self) -> bool {
        let status = self.status.borrow();
        self.uncounted.load(Ordering::Acquire) == 0 && status.waiting + status.running == 0
    }

    pub fn status(&self) -> Status {
        self.status.borrow().clone()
    }

    /// Ends the task, and returns what it was not told of. The calls that run get `within` to end.
    pub fn stop(self, within: Duration) -> impl Future<Output = Unfinished> {
        let target = self.name();
        let (answer, answered) = oneshot::channel();
        // Should the task be gone, nothing is left to end.
        let _ = self.stop.send((within, answer));
        drop(self.told);
        async { Unfinished { target, told: answered.await.unwrap_or_default() } }
    }
}

struct Worker {
    target: Arc<Target>,
    instance: Arc<str>,
    queue: Queue,
    calls: JoinSet<Result<(), CallError>>,
    in_hand: HashMap<Id, Vec<Item>>,
    /// Failures of the target as a whole since its last success.
    failures: u32,
    /// How often the journal tells that it is down.
    down_told: Repeats,
    /// How many of the paths that are given up the journal names.
    given_up_told: Ration,
    /// How often the journal tells that too many paths wait.
    crowd_told: Repeats,
    next_try: Option<Instant>,
    status: Status,
    publish: watch::Sender<Status>,
    changed: Arc<Notify>,
    /// Whether no call may start.
    paused: watch::Receiver<bool>,
    /// When the last status was published, if a newer one may follow it.
    published_at: Option<Instant>,
    /// See [`Running`].
    uncounted: Arc<AtomicUsize>,
    /// Messages that were taken in, and are in no published status yet.
    taken: usize,
}

type Stop = oneshot::Receiver<(Duration, oneshot::Sender<Vec<Told>>)>;

impl Worker {
    async fn run(mut self, mut news: mpsc::UnboundedReceiver<Arc<[Told]>>, mut stop: Stop) {
        loop {
            let now = time::now();
            self.start_calls(now);
            let publish_at = self.publish_if_due(now);
            let may_start = !*self.paused.borrow();
            let next_try = self.next_try.filter(|_| may_start && self.calls.is_empty() && self.queue.waiting() > 0);
            let unpark = self.queue.next_unpark().filter(|_| may_start && self.next_try.is_none());
            let wake = [publish_at, next_try, unpark].into_iter().flatten().min();
            tokio::select! {
                biased;
                asked = &mut stop => {
                    // Without an answer to give, the owner is gone and so is all reason to go on.
                    let (within, answer) = match asked {
                        Ok((within, answer)) => (within, Some(answer)),
                        Err(_) => (Duration::ZERO, None),
                    };
                    while let Ok(told) = news.try_recv() {
                        self.take_in(&told);
                    }
                    let untold = self.end(within).await;
                    let _ = answer.map(|answer| answer.send(untold));
                    return;
                }
                Some(ended) = self.calls.join_next_with_id(), if !self.calls.is_empty() => self.ended(ended),
                Some(told) = news.recv() => {
                    self.take_in(&told);
                    self.taken += 1;
                }
                Ok(()) = self.paused.changed() => {}
                () = sleep_until(wake) => {}
            }
        }
    }

    fn take_in(&mut self, told: &[Told]) {
        for told in told.iter().filter(|told| self.target.wants(&told.place)) {
            if !self.queue.push(told.clone()) {
                self.status.failed += 1;
                if let Some(times) = self.crowd_told.happened_again(time::now()) {
                    tracing::error!(
                        message_id = message_ids::PLUGIN_FAILED,
                        sersync_path = %told.place.path.display(),
                        "{} {}: {WAITING_AT_MOST} paths wait, so that {} is not reported to it (nor {})",
                        self.status.plugin,
                        self.status.target,
                        told.place.path.display(),
                        human::plural(times.count - 1, "other path", "other paths")
                    );
                }
            }
        }
    }

    fn start_calls(&mut self, now: Instant) {
        if *self.paused.borrow_and_update() || self.next_try.is_some_and(|at| at > now) {
            return;
        }
        // While it does not answer, one call at a time tries.
        let most = if self.failures > 0 { 1 } else { self.target.calls_at_once() };
        while self.calls.len() < most {
            let items = self.queue.take(self.target.paths_per_call(), now);
            if items.is_empty() {
                break;
            }
            let (target, instance, carried) = (self.target.clone(), self.instance.clone(), items.clone());
            let call = self.calls.spawn(async move { target.call(&carried, &instance).await });
            self.in_hand.insert(call.id(), items);
        }
    }

    fn ended(&mut self, ended: Result<(Id, Result<(), CallError>), JoinError>) {
        let (id, result) = match ended {
            Ok((id, result)) => (id, result),
            Err(broke) => (broke.id(), Err(CallError::path(format!("the call broke: {broke}")))),
        };
        let Some(items) = self.in_hand.remove(&id) else { return };
        match result {
            Ok(()) => self.succeeded(&items),
            Err(error) => self.failed(items, &error),
        }
    }

    fn succeeded(&mut self, items: &[Item]) {
        items.iter().for_each(|item| self.queue.done(&item.told.place));
        self.status.done += items.len() as u64;
        self.answered();
        self.status.last_error.clear();
        self.status.failing_since = None;
    }

    /// It does not have to be waited for any more.
    fn answered(&mut self) {
        (self.failures, self.next_try) = (0, None);
        if let Some(times) = self.down_told.ended(time::now()) {
            tracing::info!(
                message_id = message_ids::PLUGIN_BACK,
                "{} {}: answers again, after {times}",
                self.status.plugin,
                self.status.target
            );
        }
    }

    fn failed(&mut self, items: Vec<Item>, error: &CallError) {
        let now = time::now();
        self.status.last_error.clone_from(&error.message);
        self.status.failing_since.get_or_insert_with(time::wall);
        if error.is_target_down {
            // Calls side by side that fail together are one failure.
            if self.next_try.is_none_or(|at| at <= now) {
                self.failures += 1;
                let pause = backoff(self.failures, LONGEST_PAUSE).mul_f64(1.0 - fastrand::f64() / 4.0);
                self.next_try = Some(now + pause);
                if let Some(times) = self.down_told.happened(now) {
                    let still = match times.count {
                        1 => String::new(),
                        _ => format!("still down, {times}: "),
                    };
                    tracing::warn!(
                        message_id = message_ids::PLUGIN_DOWN,
                        sersync_paths = self.queue.waiting() + items.len(),
                        "{} {still}{error} (the next try in {:.0} s; its paths wait)",
                        self.status.plugin,
                        pause.as_secs_f64()
                    );
                }
            }
            items.into_iter().for_each(|item| self.queue.again(item, None));
            return;
        }
        // It did answer, only not as it should.
        self.answered();
        let retries = self.target.calls().retries;
        for mut item in items {
            item.attempts += 1;
            if item.attempts <= retries {
                let pause = backoff(item.attempts, LONGEST_PAUSE);
                self.queue.again(item, Some(now + pause));
                continue;
            }
            self.queue.done(&item.told.place);
            self.give_up(&item.told.place, error);
        }
    }

    fn give_up(&mut self, place: &Place, error: &CallError) {
        self.status.failed += 1;
        let share = self.given_up_told.share(1, time::now());
        if share.lines == 0 {
            return;
        }
        let before = match share.others {
            0 => String::new(),
            others => format!(", as for {} before it", human::plural(others as u64, "other", "others")),
        };
        tracing::error!(
            message_id = message_ids::PLUGIN_FAILED,
            sersync_path = %place.path.display(),
            "{} {error}: given up for {}{before}",
            self.status.plugin, place.path.display()
        );
    }

    /// Publishes the status unless it was published a moment ago; then returns when it is to be.
    fn publish_if_due(&mut self, now: Instant) -> Option<Instant> {
        self.status.waiting = self.queue.waiting() as u64;
        self.status.running = self.queue.running() as u64;
        let until = self.next_try.filter(|at| *at > now).map(|at| at - now);
        let known = self.publish.borrow().clone();
        // The wall-clock time of the next try is computed once, not anew at each look.
        self.status.next_try = match (until, known.next_try) {
            (Some(_), Some(known)) if self.status.last_error == self.publish.borrow().last_error => Some(known),
            (Some(until), _) => Some(time::wall() + until),
            (None, _) => None,
        };
        if known == self.status {
            self.counted();
            return None;
        }
        if let Some(at) = self.published_at.map(|at| at + STATUS_INTERVAL).filter(|at| *at > now) {
            return Some(at);
        }
        self.publish.send_replace(self.status.clone());
        self.published_at = Some(now);
        self.changed.notify_one();
        self.counted();
        None
    }

    /// The published status counts all that was taken in.
    fn counted(&mut self) {
        if self.taken > 0 {
            self.uncounted.fetch_sub(std::mem::take(&mut self.taken), Ordering::Release);
            self.changed.notify_one();
        }
    }

    async fn end(mut self, within: Duration) -> Vec<Told> {
        let all_ended = async {
            while let Some(ended) = self.calls.join_next_with_id().await {
                self.ended(ended);
            }
        };
        // What is cut off counts as untold.
        let _ = tokio::time::timeout(within, all_ended).await;
        self.calls.shutdown().await;
        let cut_off = std::mem::take(&mut self.in_hand).into_values().flatten();
        cut_off.map(|item| item.told).chain(self.queue.into_told()).collect()
    }
}

async fn sleep_until(at: Option<Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at.into()).await,
        None => std::future::pending().await,
    }
}
