//! A private message bus, and an engine that plays a script behind the real [`Handle`].

use sersync::agent::handle::{Command, CommandError};
use sersync::agent::snapshot::{
    Fault, Job, JobId, JobState, Notice, Protection, Remote, RemoteState, StartedFrom, State,
};
use sersync::agent::{Handle, Snapshot};
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Stdio};
use std::sync::Arc;
use std::time::{Duration, SystemTime};
use tokio::sync::{broadcast, mpsc, watch};
use tokio::time::Instant;

/// How long a test waits for what must happen.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// A dbus-daemon of the test's own: anybody may connect, own and send.
pub struct PrivateBus {
    daemon: Child,
    /// Where it listens.
    pub address: String,
    _place: tempfile::TempDir,
}

impl PrivateBus {
    pub fn start() -> Self {
        // A path of its own, not under the temporary directory: other users of a test have to reach it.
        Self::listen("unix:tmpdir=/tmp")
    }

    /// Listens at `address`, in libdbus's notation.
    pub fn listen(address: &str) -> Self {
        Self::with_rules(address, OPEN)
    }

    /// Listens at `address` and holds to `rules`, in the notation of dbus-daemon(1).
    pub fn with_rules(address: &str, rules: &str) -> Self {
        let place = tempfile::tempdir().unwrap();
        let config = place.path().join("bus.conf");
        std::fs::write(&config, config_text(address, rules)).unwrap();
        let mut daemon = std::process::Command::new("dbus-daemon")
            .arg(format!("--config-file={}", config.display()))
            .args(["--nofork", "--nopidfile", "--print-address=1"])
            .stdout(Stdio::piped())
            .spawn()
            .expect("dbus-daemon is installed");
        let mut line = String::new();
        BufReader::new(daemon.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let address = line.trim().to_owned();
        assert!(address.starts_with("unix:"), "dbus-daemon said {line:?}");
        Self { daemon, address, _place: place }
    }
}

impl Drop for PrivateBus {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.daemon.kill();
        let _ = self.daemon.wait();
        if let Some(path) = self.address.strip_prefix("unix:path=").and_then(|rest| rest.split(',').next()) {
            let _ = std::fs::remove_file(Path::new(path));
        }
    }
}

/// Anybody may do anything.
const OPEN: &str = r#"<policy context="default">
    <allow user="*"/>
    <allow own="*"/>
    <allow send_destination="*" eavesdrop="true"/>
    <allow eavesdrop="true"/>
  </policy>"#;

fn config_text(address: &str, rules: &str) -> String {
    format!(
        r#"<!DOCTYPE busconfig PUBLIC "-//freedesktop//DTD D-Bus Bus Configuration 1.0//EN"
 "http://www.freedesktop.org/standards/dbus/1.0/busconfig.dtd">
<busconfig>
  <listen>{address}</listen>
  <auth>EXTERNAL</auth>
  {rules}
</busconfig>
"#
    )
}

/// The other ends of a [`Handle`]'s channels, for the test to play the engine.
pub struct Engine {
    pub handle: Handle,
    pub commands: mpsc::Receiver<Command>,
    pub snapshots: watch::Sender<Arc<Snapshot>>,
    pub notices: broadcast::Sender<Notice>,
}

impl Engine {
    pub fn new(snapshot: Snapshot) -> Self {
        let (sender, commands) = mpsc::channel(16);
        let (snapshots, receiver) = watch::channel(Arc::new(snapshot));
        let (notices, _) = broadcast::channel(1024);
        Self { handle: Handle::new(sender, receiver, notices.clone()), commands, snapshots, notices }
    }

    /// The next command, within the test's patience.
    pub async fn command(&mut self) -> Command {
        tokio::time::timeout(PATIENCE, self.commands.recv()).await.expect("a command in time").expect("a handle")
    }

    /// A new snapshot: the last one, changed.
    pub fn change(&self, change: impl FnOnce(&mut Snapshot)) {
        change_snapshot(&self.snapshots, change);
    }

    /// Answers every command as an engine does for which all goes well; full syncs run until the test ends them.
    pub fn answer_well(mut self) -> Obliging {
        let snapshots = self.snapshots.clone();
        let task = tokio::spawn(async move {
            while let Some(command) = self.commands.recv().await {
                oblige(&self.snapshots, command);
            }
        });
        Obliging { handle: self.handle, snapshots, task }
    }
}

/// An engine that answers by itself.
pub struct Obliging {
    pub handle: Handle,
    pub snapshots: watch::Sender<Arc<Snapshot>>,
    task: tokio::task::JoinHandle<()>,
}

impl Obliging {
    pub fn change(&self, change: impl FnOnce(&mut Snapshot)) {
        change_snapshot(&self.snapshots, change);
    }
}

impl Drop for Obliging {
    fn drop(&mut self) {
        self.task.abort();
    }
}

fn change_snapshot(snapshots: &watch::Sender<Arc<Snapshot>>, change: impl FnOnce(&mut Snapshot)) {
    snapshots.send_modify(|snapshot| change(Arc::make_mut(snapshot)));
}

fn oblige(snapshots: &watch::Sender<Arc<Snapshot>>, command: Command) {
    // A caller that has gone wants no answer.
    match command {
        Command::FullSync(remotes, answer) | Command::FullSyncDelete(remotes, answer) => {
            let known: Vec<_> = snapshots.borrow().remotes.iter().map(|remote| remote.name.clone()).collect();
            if let Some(unknown) = remotes.iter().find(|name| !known.contains(name)) {
                let _ = answer.send(Err(CommandError::UnknownRemote(unknown.clone(), known.join(", "))));
                return;
            }
            let remotes = if remotes.is_empty() { known } else { remotes };
            let id = JobId(snapshots.borrow().jobs.last().map_or(1, |job| job.id.0 + 1));
            let _ = answer.send(Ok(id));
            change_snapshot(snapshots, |snapshot| snapshot.jobs.push(job(id, remotes)));
        }
        Command::Cancel(id, answer) => {
            let mut found = false;
            change_snapshot(snapshots, |snapshot| {
                for job in snapshot.jobs.iter_mut().filter(|job| job.id == id) {
                    found = true;
                    job.state = JobState::Canceled;
                    job.result = "canceled by the caller".into();
                    job.finished_at = Some(SystemTime::now());
                }
            });
            let _ = answer.send(if found { Ok(()) } else { Err(CommandError::UnknownJob(id.0)) });
        }
        Command::Retry(_, answer) => drop(answer.send(Ok(2))),
        Command::AcceptDeletions(_, answer) => drop(answer.send(Ok(2))),
        Command::Failures(_, _, answer) => drop(answer.send(Ok(Vec::new()))),
        Command::Pending(_, _, answer) => drop(answer.send(Ok(Vec::new()))),
        Command::Pause(_, answer) => {
            change_snapshot(snapshots, |snapshot| snapshot.state = State::Paused);
            let _ = answer.send(Ok(()));
        }
        Command::Resume(answer) => {
            change_snapshot(snapshots, |snapshot| snapshot.state = State::Idle);
            let _ = answer.send(Ok(()));
        }
        Command::Reload(answer) => drop(answer.send(Ok(()))),
        Command::WaitSynced(_, answer) => drop(answer.send(Ok(()))),
        Command::Begin(_, answer) => drop(answer.send(Ok(()))),
        Command::Stop => {}
    }
}

/// A full sync at its beginning.
pub fn job(id: JobId, remotes: Vec<String>) -> Job {
    Job {
        id,
        remotes,
        state: JobState::Running,
        progress: 0.0,
        entries_checked: 0,
        entries_total: 0,
        bytes_sent: 0,
        created_at: SystemTime::now(),
        finished_at: None,
        result: String::new(),
    }
}

/// A remote that has all.
pub fn remote(name: &str) -> Remote {
    Remote {
        name: name.into(),
        address: name.into(),
        port: None,
        root: "/data/www".into(),
        state: RemoteState::Idle,
        queue_depth: 0,
        in_flight: 0,
        failures: 0,
        oldest_pending: None,
        last_error: None,
        failing_since: None,
        attempts: 0,
        last_success: Some(SystemTime::now()),
        last_full_sync: None,
        next_try: None,
        bytes_sent: 4096,
        files_synced: 7,
        deletions_withheld: 0,
        withheld_reason: String::new(),
        withheld_paths: Vec::new(),
        refused_options: Vec::new(),
    }
}

/// A remote that does not answer.
pub fn down(name: &str) -> Remote {
    Remote {
        state: RemoteState::Waiting,
        queue_depth: 512,
        oldest_pending: Some(SystemTime::now() - Duration::from_secs(185)),
        last_error: Some(Fault::new("ConnectionRefused", "failed to connect to web2\ncheck rsyncd")),
        failing_since: Some(SystemTime::now() - Duration::from_secs(185)),
        attempts: 7,
        next_try: Some(SystemTime::now() + Duration::from_secs(60)),
        ..remote(name)
    }
}

/// An instance `www` with two remotes, in sync.
pub fn snapshot(instance: &str) -> Snapshot {
    Snapshot {
        instance: instance.into(),
        config_path: Some(format!("/etc/sersync/{instance}.xml").into()),
        watch_roots: vec!["/data/www".into()],
        state: State::Idle,
        paused: None,
        problems: Vec::new(),
        watched_directories: 1204,
        too_long_directories: 0,
        events_seen: 10,
        overflows: 0,
        files_synced: 14,
        bytes_sent: 8192,
        started_at: SystemTime::now() - Duration::from_secs(3600),
        started_from: StartedFrom::Resumed,
        confinement: Protection::Landlock,
        never_sent: Vec::new(),
        last_sync_at: Some(SystemTime::now()),
        last_full_sync_at: None,
        next_full_sync_at: None,
        remotes: vec![remote("backup@web1::www"), remote("web2:/srv/www")],
        jobs: Vec::new(),
        plugins: Vec::new(),
    }
}

/// Polls until `probe` gives something.
pub async fn eventually<T>(what: &str, mut probe: impl AsyncFnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(found) = probe().await {
            return found;
        }
        assert!(Instant::now() < deadline, "never came: {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}
