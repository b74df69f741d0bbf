//! A simulation from its seed to its end: the steps, which a seed decides, and the rests between them.

use super::Simulated;
use super::checks::nothing_older;
use super::inbox::Item;
use super::tree::{Body, Deed};
use super::world::{Health, Shared, World};
use crate::agent::engine::{Engine, Launch};
use crate::agent::handle::{CommandError, Handle};
use crate::config::{self, Config};
use crate::path::RelPath;
use crate::time;
use crate::watch::Hint;
use std::collections::{BTreeMap, VecDeque};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant, SystemTime};
use tokio::sync::{broadcast, mpsc};
use tokio::task::JoinSet;

/// The simulated wall clock's first reading.
const EPOCH: Duration = Duration::from_secs(1_800_000_000);

/// Without faults everything is equal within this time.
const CONVERGED: Duration = Duration::from_secs(900);

/// So many turns without time passing are a busy loop.
const TURNS_AT_ONCE: u32 = 20_000;

/// Time for which everything is left alone after it became equal.
const IDLE: Duration = Duration::from_secs(120);

/// Runs in that time, should the clock want full syncs.
const IDLE_RUNS: u64 = 9;

/// Full syncs that follow from one reason: what a first one would delete is counted, and a root that changes again is
/// compared again.
const FULL_SYNCS_EACH: u64 = 4;

/// Stamps above are shared by files in different places.
const SHARED: u64 = 1 << 40;

/// Steps of the seed that a failure shows.
const SHOWN: usize = 40;

/// What a simulation did.
#[derive(Debug, Default, Clone, Copy)]
pub struct Summary {
    pub steps: u64,
    pub runs: u64,
    pub starts: u64,
    pub barriers: u64,
}

/// Why a simulation failed.
pub type Violation = String;

/// Simulates `length` from `seed`.
pub fn simulate(seed: u64, length: Duration) -> Result<Summary, Violation> {
    fastrand::seed(seed);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
    let result = runtime.block_on(async {
        time::simulated::set_wall(SystemTime::UNIX_EPOCH + EPOCH);
        let mut simulation = Simulation::new(seed);
        let result = simulation.run(length).await;
        result.map_err(|violation| simulation.describe(&violation)).map(|()| simulation.summary)
    });
    time::simulated::end();
    result
}

/// A simulation under way.
pub struct Simulation {
    seed: u64,
    rng: fastrand::Rng,
    pub world: Shared,
    directory: tempfile::TempDir,
    config: Arc<Mutex<Config>>,
    pub engine: Option<Engine>,
    handle: Option<Handle>,
    calls: JoinSet<Result<(), Violation>>,
    began: Instant,
    /// When something ended last that holds up everything.
    pub calm_since: Instant,
    /// Since when a path of a remote differs, and after which deed.
    pub behind: BTreeMap<(String, RelPath), (Instant, u64)>,
    closes: Vec<(Instant, RelPath)>,
    root_back_at: Option<(Instant, bool)>,
    /// The wall clock is set back now and then; then no change keeps size and time, since a walk goes by the time of change.
    steps_wall: bool,
    /// Files in different directories may have one size and time, as in builds that set the times of all files. What is lost
    /// of such a rename shows in nothing, so that no event is lost then, and directories keep their places while no agent
    /// runs.
    shares_stamps: bool,
    pub limit: usize,
    /// Events after which the whole tree may have to be compared.
    reasons: u64,
    trace: VecDeque<String>,
    pub summary: Summary,
}

fn names() -> Vec<String> {
    (1..4).map(|host| format!("192.0.2.{host}::www")).collect()
}

fn read_config(root: &Path, limit: usize, params: &str, workers: u32) -> Config {
    let text = format!(
        r#"<head version="2.5"><sersync>
        <localpath watch="{}"><remote ip="192.0.2.1" name="www"/><remote ip="192.0.2.2" name="www"/>
        <remote ip="192.0.2.3" name="www"/></localpath>
        <rsync><commonParams params="{params}"/></rsync><crontab start="true" schedule="600"/></sersync>
        <agent><workers max="{workers}"/></agent></head>"#,
        root.display()
    );
    let mut config = config::parse(text.as_bytes(), Path::new("simulated.xml")).unwrap().config;
    config.agent.pending_limit = limit;
    config
}

impl Simulation {
    fn new(seed: u64) -> Self {
        let mut rng = fastrand::Rng::with_seed(seed);
        // The journal is written at each turn: not to a disk.
        let memory = Path::new("/dev/shm");
        let directory = if memory.is_dir() { tempfile::tempdir_in(memory) } else { tempfile::tempdir() }.unwrap();
        let root = directory.path().join("source");
        std::fs::create_dir(&root).unwrap();
        let world = World::new(fastrand::Rng::with_seed(rng.u64(..)), &root, &names());
        let limit = if rng.u8(..) < 64 { rng.usize(4..40) } else { 100_000 };
        let config = read_config(&root, limit, "-a", rng.u32(1..12));
        Self {
            seed,
            world: Shared::new(world),
            directory,
            config: Arc::new(Mutex::new(config)),
            engine: None,
            handle: None,
            calls: JoinSet::new(),
            began: time::now(),
            calm_since: time::now(),
            behind: BTreeMap::new(),
            closes: Vec::new(),
            root_back_at: None,
            steps_wall: rng.u8(..) < 64,
            shares_stamps: rng.u8(..) < 64,
            limit,
            reasons: 0,
            trace: VecDeque::new(),
            summary: Summary::default(),
            rng,
        }
    }

    fn describe(&self, violation: &str) -> String {
        let trace: Vec<&str> = self.trace.iter().map(String::as_str).collect();
        format!("seed {}: {violation}\n{}", self.seed, trace.join("\n"))
    }

    fn note(&mut self, what: impl FnOnce() -> String) {
        self.trace.push_back(format!("{:>12.3} {}", time::now().duration_since(self.began).as_secs_f64(), what()));
        if self.trace.len() > SHOWN {
            self.trace.pop_front();
        }
    }

    async fn run(&mut self, length: Duration) -> Result<(), Violation> {
        self.start().await?;
        let end = self.began + length;
        while time::now() < end {
            let gap = self.gap();
            self.pass(gap).await?;
            self.summary.steps += 1;
            self.due()?;
            self.step().await?;
        }
        self.calm().await
    }

    /// The time to the next step: mostly a burst, sometimes a long silence.
    fn gap(&mut self) -> Duration {
        match self.rng.u8(..) {
            0..140 => Duration::from_millis(self.rng.u64(0..8)),
            140..225 => Duration::from_millis(self.rng.u64(0..1_500)),
            225..246 => Duration::from_secs(self.rng.u64(1..120)),
            _ => Duration::from_secs(self.rng.u64(60..3_000)),
        }
    }

    /// Has the engine run for `time`, and checks what must hold.
    async fn pass(&mut self, time: Duration) -> Result<(), Violation> {
        let until = time::now() + time;
        self.turn_until(until, |_| false).await?;
        self.check()
    }

    /// Has the engine run until `until`, or until `ended` holds after one of its turns.
    async fn turn_until(&mut self, until: Instant, ended: impl Fn(&Self) -> bool) -> Result<(), Violation> {
        let (mut turns, mut at) = (0, time::now());
        loop {
            let Some(engine) = &mut self.engine else {
                tokio::time::sleep_until(until.into()).await;
                return Ok(());
            };
            tokio::select! {
                biased;
                () = tokio::time::sleep_until(until.into()) => return Ok(()),
                flow = engine.turn() => if flow.is_break() { return Err("the engine ended by itself".to_owned()) },
            }
            turns = if time::now() == at { turns + 1 } else { 0 };
            at = time::now();
            if turns > TURNS_AT_ONCE {
                return Err("the engine turns and turns, and no time passes".to_owned());
            }
            if ended(self) {
                return Ok(());
            }
        }
    }

    /// Does what was to be done by now.
    fn due(&mut self) -> Result<(), Violation> {
        let now = time::now();
        while let Some(result) = self.calls.try_join_next() {
            result.unwrap()?;
        }
        let (due, later) = std::mem::take(&mut self.closes).into_iter().partition(|(at, _)| *at <= now);
        self.closes = later;
        let due: Vec<(Instant, RelPath)> = due;
        for (_, path) in due {
            self.close(&path);
        }
        if let Some((at, another)) = self.root_back_at
            && at <= now
        {
            self.root_back(another);
        }
        Ok(())
    }

    async fn step(&mut self) -> Result<(), Violation> {
        match self.rng.u16(0..1_000) {
            0..720 => self.write(),
            720..760 => self.open(),
            760..810 => self.change_health()?,
            810..830 => self.change_readability(),
            830..840 if !self.shares_stamps => self.overflow(),
            840..848 if !self.shares_stamps => self.root_away(),
            848..905 => self.call_barrier(),
            905..930 => self.command(),
            930..942 => self.set_pause(!self.is_paused()),
            942..956 => self.restart().await?,
            956..966 => self.reload(),
            966..980 => self.step_wall(),
            980..985 => self.calm().await?,
            _ => {}
        }
        Ok(())
    }

    fn path(&mut self) -> RelPath {
        let known = self.world.lock().source.tree.0.len();
        if known > 0 && self.rng.bool() {
            let nth = self.rng.usize(0..known);
            return self.world.lock().source.tree.0.keys().nth(nth).unwrap().clone();
        }
        let depth = self.rng.usize(1..4);
        let names: Vec<String> = (0..depth).map(|_| ["a", "b", "c", "d"][self.rng.usize(0..4)].to_owned()).collect();
        RelPath::new(names.join("/").as_bytes()).unwrap()
    }

    fn write(&mut self) {
        if !self.world.lock().root_there {
            return;
        }
        let path = self.path();
        let deed = match self.rng.u8(0..100) {
            0..45 => {
                let same = !self.steps_wall && self.rng.u8(..) < 40;
                let shared = (self.shares_stamps && !self.steps_wall).then(|| self.rng.u64(1..4));
                let mut body = self.world.lock().content(&path, same);
                if let (Some(shared), Body::File { stamp, .. }) = (shared, &mut body) {
                    *stamp = SHARED + shared;
                }
                Deed::Write(path, body)
            }
            45..63 => Deed::MakeDirectory(path),
            63..78 => Deed::Remove(path),
            78..94 if self.shares_stamps && self.engine.is_none() => return,
            78..94 => Deed::Rename(path, self.path()),
            _ => Deed::SetAttributes(path, self.rng.u64(0..5)),
        };
        if self.world.lock().carry_out(&deed, true, None) {
            self.note(|| format!("{deed:?}"));
        }
    }

    /// A writer begins a new file, and closes it later.
    fn open(&mut self) {
        let path = self.path();
        let mut world = self.world.lock();
        if !world.root_there || world.source.tree.get(&path).is_some() {
            return;
        }
        let body = world.content(&path, false);
        let opened = world.carry_out(&Deed::Write(path.clone(), body), true, Some(Hint::BeingWritten));
        if opened {
            let deed = world.deeds;
            world.open.insert(path.clone());
            world.opened.insert(path.clone(), deed);
        }
        drop(world);
        if opened {
            self.note(|| format!("open {}", path.display()));
            let time = Duration::from_millis(self.rng.u64(10..20_000));
            self.closes.push((time::now() + time, path));
        }
    }

    fn close(&mut self, path: &RelPath) {
        let mut world = self.world.lock();
        if !world.open.remove(path) {
            return;
        }
        let body = world.content(path, false);
        world.carry_out(&Deed::Write(path.clone(), body), true, None);
        drop(world);
        self.note(|| format!("close {}", path.display()));
    }

    fn change_health(&mut self) -> Result<(), Violation> {
        let name = names()[self.rng.usize(0..3)].clone();
        let health = [Health::Up, Health::Up, Health::Refused, Health::Hung][self.rng.usize(0..4)];
        let pace = Duration::from_millis([0, 1, 10, 300][self.rng.usize(0..4)]);
        self.note(|| format!("{name}: {health:?}, {pace:?} for an entry"));
        self.set_health(&name, health, pace)
    }

    fn set_health(&mut self, name: &str, health: Health, pace: Duration) -> Result<(), Violation> {
        let mut world = self.world.lock();
        let state = world.remotes.get_mut(name).unwrap();
        state.pace = pace;
        if state.health == health {
            return Ok(());
        }
        let (now, tries) = (time::now(), state.tries);
        let down = now.duration_since(state.up_since);
        state.health = health;
        state.up_since = now;
        state.tries = 0;
        world.health_changed.notify_waiters();
        // A second at first, then twice as long each time, up to five minutes; callers may ask for more.
        let most = 40 + down.as_secs() / 100;
        if tries > most {
            return Err(format!("{name}: {tries} tries in {down:?} while it was down"));
        }
        Ok(())
    }

    fn change_readability(&mut self) {
        let path = self.path();
        let mut world = self.world.lock();
        if world.unreadable.is_empty() || self.rng.bool() {
            world.unreadable.insert(path);
            return;
        }
        // A change of mode is what makes a file readable, and the watch reports it.
        for path in std::mem::take(&mut world.unreadable) {
            let attributes = self.rng.u64(5..1_000);
            world.carry_out(&Deed::SetAttributes(path, attributes), true, None);
        }
        drop(world);
        self.calm_since = time::now();
    }

    fn overflow(&mut self) {
        self.note(|| "overflow".to_owned());
        self.reasons += 1;
        self.calm_since = time::now();
        let world = self.world.lock();
        for inbox in world.inbox.iter().chain(&world.replaced) {
            let since = inbox.lose_changes();
            inbox.push_first(Item::Overflow(since));
        }
    }

    fn away(&self) -> PathBuf {
        self.directory.path().join("away")
    }

    fn root_away(&mut self) {
        if !self.world.lock().root_there {
            return;
        }
        let another = self.rng.bool();
        let time = Duration::from_millis(self.rng.u64(10..100_000));
        self.note(|| format!("the root goes, another comes: {another}"));
        let mut world = self.world.lock();
        std::fs::rename(&world.root, self.away()).unwrap();
        world.root_there = false;
        // A writer of the old directory writes nothing into the new one.
        world.open.clear();
        let since: Vec<SystemTime> =
            world.inbox.iter().chain(&world.replaced).map(|inbox| inbox.lose_changes()).collect();
        for inbox in world.inbox.iter().chain(&world.replaced) {
            inbox.push_first(Item::RootAway);
        }
        world.lost_at = since.into_iter().min();
        drop(world);
        self.root_back_at = Some((time::now() + time, another));
    }

    fn root_back(&mut self, another: bool) {
        self.root_back_at = None;
        self.note(|| "the root is back".to_owned());
        self.reasons += 1;
        let deeds = if another { self.rng.usize(0..8) } else { 0 };
        if another {
            std::fs::remove_dir(self.away()).unwrap();
            std::fs::create_dir(&self.world.lock().root).unwrap();
        } else {
            std::fs::rename(self.away(), &self.world.lock().root).unwrap();
        }
        for _ in 0..deeds {
            let path = self.path();
            let mut world = self.world.lock();
            let body = world.content(&path, false);
            let deed = if self.rng.bool() { Deed::Write(path, body) } else { Deed::Remove(path) };
            world.carry_out(&deed, false, None);
        }
        let mut world = self.world.lock();
        world.root_there = true;
        let since = world.lost_at.take().unwrap_or(SystemTime::UNIX_EPOCH);
        for inbox in world.inbox.iter().chain(&world.replaced) {
            inbox.push(Item::RootBack(since), time::now());
        }
        drop(world);
        self.calm_since = time::now();
    }

    fn call_barrier(&mut self) {
        let Some(handle) = self.handle.clone() else { return };
        let timeout = Duration::from_secs(self.rng.u64(1..600));
        let world = self.world.clone();
        let (called, open) = {
            let world = world.lock();
            (world.deeds, world.open.clone())
        };
        self.summary.barriers += 1;
        self.note(|| format!("a barrier, {timeout:?}"));
        self.calls.spawn(async move {
            match handle.wait_synced(timeout).await {
                Ok(()) => nothing_older(&world.lock(), called, &open),
                Err(_) => Ok(()),
            }
        });
    }

    fn command(&mut self) {
        let Some(handle) = self.handle.clone() else { return };
        let which = self.rng.u8(0..4);
        self.note(|| format!("command {which}"));
        self.reasons += 1;
        let world = self.world.clone();
        self.calls.spawn(async move {
            // Each may ask for a try of every remote.
            world.lock().remotes.values_mut().for_each(|state| state.tries = 0);
            match which {
                0 => drop(handle.full_sync(Vec::new()).await),
                1 => drop(handle.retry(Vec::new()).await),
                2 => drop(handle.full_sync_delete(Vec::new()).await),
                _ => {
                    if let Ok(job) = handle.full_sync(Vec::new()).await {
                        tokio::time::sleep(Duration::from_millis(200)).await;
                        let _ = handle.cancel(job).await;
                    }
                }
            }
            Ok(())
        });
    }

    /// Pauses the agent, or resumes it.
    fn set_pause(&mut self, paused: bool) {
        let Some(handle) = self.handle.clone() else { return };
        self.note(|| format!("paused: {paused}"));
        self.calm_since = time::now();
        self.calls.spawn(async move {
            let done = if paused { handle.pause("the simulation".to_owned()).await } else { handle.resume().await };
            match done {
                Ok(()) | Err(CommandError::Stopping) => Ok(()),
                Err(error) => Err(format!("pause or resume: {error}")),
            }
        });
    }

    /// Also one that a process before was told.
    fn is_paused(&self) -> bool {
        self.engine.as_ref().is_some_and(|engine| engine.paused.is_some())
    }

    fn reload(&mut self) {
        let Some(handle) = self.handle.clone() else { return };
        let params = if self.rng.bool() { "-a" } else { "-az" };
        let root = self.world.lock().root.clone();
        let config = read_config(&root, self.limit, params, self.rng.u32(1..12));
        let anew = config.rsync.params != self.config.lock().unwrap().rsync.params;
        self.note(|| format!("reload, compared anew: {anew}"));
        self.reasons += 1;
        *self.config.lock().unwrap() = config;
        self.calm_since = time::now();
        self.calls.spawn(async move {
            match handle.reload().await {
                Ok(()) | Err(CommandError::Stopping) => Ok(()),
                Err(error) => Err(format!("reload: {error}")),
            }
        });
    }

    fn step_wall(&mut self) {
        if self.steps_wall {
            let (by, back) = (Duration::from_secs(self.rng.u64(1..100_000)), self.rng.bool());
            self.note(|| format!("the wall clock steps by {by:?}, back: {back}"));
            time::simulated::step_wall(by, back);
        }
    }

    async fn restart(&mut self) -> Result<(), Violation> {
        let orderly = self.rng.bool();
        let resumable = self.rng.bool();
        let away = if self.rng.bool() { 0 } else { self.rng.u64(0..2_000_000) };
        self.note(|| format!("the end, orderly: {orderly}, resumable: {resumable}, for {away} ms"));
        let Some(engine) = self.engine.take() else { return Ok(()) };
        self.handle = None;
        if orderly {
            engine.shut_down().await;
        } else {
            drop(engine);
        }
        // Its tasks end.
        for _ in 0..8 {
            tokio::task::yield_now().await;
        }
        self.world.lock().resumable = resumable;
        let until = time::now() + Duration::from_millis(away);
        while time::now() < until {
            tokio::time::sleep(self.gap().min(until - time::now()) + Duration::from_millis(1)).await;
            self.due()?;
            if self.rng.u8(..) < 200 {
                self.write();
            }
        }
        self.start().await
    }

    async fn start(&mut self) -> Result<(), Violation> {
        self.summary.starts += 1;
        self.reasons += 1;
        self.calm_since = time::now();
        self.behind.clear();
        let (config, now) = (self.config.clone(), self.config.lock().unwrap().clone());
        let launch = Launch {
            instance: "www".to_owned(),
            config: now,
            load: Arc::new(move || Ok(config.lock().unwrap().clone())),
            state_directory: self.directory.path().join("state"),
            heart: None,
            keeper: None,
        };
        let (sender, commands) = mpsc::channel(64);
        let (notices, _) = broadcast::channel(64);
        let machine = Box::new(Simulated(self.world.clone()));
        let (engine, snapshots) = Engine::new(launch, machine, commands, notices.clone()).map_err(|e| e.to_string())?;
        self.engine = Some(engine);
        let handle = Handle::new(sender, snapshots, notices);
        self.handle = Some(handle.clone());
        self.calls.spawn(async move {
            match handle.begin(Vec::new()).await {
                Ok(()) | Err(CommandError::Stopping) => Ok(()),
                Err(error) => Err(format!("begin: {error}")),
            }
        });
        Ok(())
    }

    /// All faults end, and everything has to become equal.
    async fn calm(&mut self) -> Result<(), Violation> {
        self.note(|| "calm".to_owned());
        for name in names() {
            self.set_health(&name, Health::Up, Duration::from_millis(1))?;
        }
        if let Some((_, another)) = self.root_back_at {
            self.root_back(another);
        }
        self.set_pause(false);
        for (_, path) in std::mem::take(&mut self.closes) {
            self.close(&path);
        }
        let unreadable = std::mem::take(&mut self.world.lock().unreadable);
        for path in unreadable {
            let attributes = self.rng.u64(1_000..2_000);
            self.world.lock().carry_out(&Deed::SetAttributes(path, attributes), true, None);
        }
        // A root that is back may be walked after an overflow's walk.
        self.pass(Duration::from_secs(10)).await?;
        let Some(handle) = self.handle.clone() else { return Ok(()) };
        let answer = Arc::new(Mutex::new(None));
        let given = answer.clone();
        self.calls.spawn(async move {
            let result = handle.wait_synced(CONVERGED).await;
            *given.lock().unwrap() = Some(result);
            Ok(())
        });
        let seen = answer.clone();
        self.turn_until(time::now() + CONVERGED * 2, move |_| seen.lock().unwrap().is_some()).await?;
        let result = answer.lock().unwrap().take();
        match result {
            Some(Ok(())) => {}
            other => return Err(format!("without faults, not in sync after {CONVERGED:?}: {other:?}")),
        }
        for name in names() {
            let world = self.world.lock();
            let differences = world.differences(&name);
            if let Some((path, _)) = differences.first() {
                let state = world.states(&name, path);
                return Err(format!("in sync, but {} differ on {name}: {state}", differences.len()));
            }
        }
        self.rest().await
    }

    /// Nothing happens, and nothing may be done but what the clock wants.
    async fn rest(&mut self) -> Result<(), Violation> {
        let runs = |world: &World| world.remotes.values().map(|state| state.runs).sum::<u64>();
        let before = runs(&self.world.lock());
        self.pass(IDLE).await?;
        let needless = runs(&self.world.lock()) - before;
        if needless > IDLE_RUNS {
            return Err(format!("{needless} runs in {IDLE:?}, and nothing has changed"));
        }
        let clock = time::now().duration_since(self.began).as_secs() / (600 * 60);
        let most = FULL_SYNCS_EACH * (self.reasons + clock);
        for (name, state) in &self.world.lock().remotes {
            if state.full_syncs > most {
                return Err(format!("{name}: {} full syncs for {} reasons", state.full_syncs, self.reasons + clock));
            }
        }
        self.due()
    }
}
