//! The agent on a real message bus, with a scripted engine behind the real handle.

#[path = "support/bus.rs"]
mod support;

use sersync::agent::handle::{Command, CommandError};
use sersync::agent::snapshot::{Failure, Fault, JobId, JobState, Notice, State};
use sersync::bus::{Bus, PROPERTIES_INTERVAL, SIGNALS_PER_SECOND, ServeError, Which, names, serve};
use sersync::path::RelPath;
use sersync::service::log;
use std::collections::{BTreeMap, HashMap};
use std::time::{Duration, SystemTime};
use support::{Engine, PATIENCE, PrivateBus, down, eventually, remote, snapshot};
use zbus::fdo::{ObjectManagerProxy, PropertiesProxy};
use zbus::{Connection, MatchRule, Message, MessageStream, OwnedObjectPath, OwnedVariant, Proxy};

const WWW: &str = "org.sersync.Agent1.www";
const WWW_PATH: &str = "/org/sersync/Agent1/www";

async fn at(bus: &PrivateBus, engine: &Engine) -> Bus {
    on(bus, engine.handle.clone()).await
}

async fn on(bus: &PrivateBus, handle: sersync::agent::Handle) -> Bus {
    let instance = handle.snapshot().instance.clone();
    serve(handle, &instance, Which::Address(bus.address.clone()), log::silent()).await
}

async fn client(bus: &PrivateBus) -> Connection {
    Which::Address(bus.address.clone()).builder().build().await.unwrap()
}

async fn agent(client: &Connection) -> Proxy<'static> {
    Proxy::new(client, WWW, WWW_PATH, names::AGENT).await.unwrap()
}

async fn all(client: &Connection, path: &str, interface: &str) -> HashMap<String, OwnedVariant> {
    let properties = PropertiesProxy::builder(client).destination(WWW).path(path).build().await.unwrap();
    properties.get_all(interface.try_into().unwrap()).await.unwrap()
}

fn error_name(error: &zbus::Error) -> (String, String) {
    match error {
        zbus::Error::MethodError(name, text, _) => (name.to_string(), text.clone().unwrap_or_default()),
        other => panic!("not an error of ours: {other:?}"),
    }
}

/// The next item of a stream, within the test's patience.
async fn next(stream: &mut MessageStream) -> Message {
    use futures_core::Stream;
    let item = std::future::poll_fn(|context| std::pin::Pin::new(&mut *stream).poll_next(context));
    tokio::time::timeout(PATIENCE, item).await.expect("a signal in time").expect("an open bus").unwrap()
}

async fn signals(client: &Connection, member: &'static str) -> MessageStream {
    let rule = MatchRule::builder()
        .msg_type(zbus::message::Type::Signal)
        .path_namespace(WWW_PATH)
        .member(member)
        .build()
        .unwrap();
    MessageStream::for_match_rule(rule, client, Some(1000.try_into().unwrap())).await.unwrap()
}

#[tokio::test]
async fn shows_the_snapshot() {
    let bus = PrivateBus::start();
    let engine = Engine::new(snapshot("www"));
    engine.change(|snapshot| {
        snapshot.remotes[1] = down("web2:/srv/www");
        (snapshot.remotes[1].queue_depth, snapshot.remotes[1].in_flight) = (500, 12);
        snapshot.state = State::Degraded;
        snapshot.problems.push("web2 does not answer".into());
        snapshot.never_sent.push("`-C`: object files".into());
    });
    let _agent = at(&bus, &engine).await;
    let client = client(&bus).await;

    let properties = all(&client, WWW_PATH, names::AGENT).await;
    let text = |name: &str| String::try_from(properties[name].clone()).unwrap();
    let number = |name: &str| u64::try_from(properties[name].clone()).unwrap();
    assert_eq!(text("Instance"), "www");
    assert_eq!(text("State"), "degraded");
    assert_eq!(text("Confinement"), "landlock");
    assert_eq!(text("Version"), env!("CARGO_PKG_VERSION"));
    assert_eq!(Vec::<u8>::try_from(properties["ConfigPath"].clone()).unwrap(), b"/etc/sersync/www.xml");
    assert_eq!(number("QueueDepth"), 512);
    assert_eq!(number("WatchedDirectories"), 1204);
    assert_eq!(number("NextFullSyncAt"), 0);
    assert!(number("LastSyncAt") > 1_600_000_000_000_000, "microseconds since 1970");
    assert!((185_000_000..250_000_000).contains(&number("LagUSec")), "{}", number("LagUSec"));
    assert_eq!(Vec::<String>::try_from(properties["NeverSent"].clone()).unwrap(), ["`-C`: object files"]);
    assert_eq!(Vec::<String>::try_from(properties["Problems"].clone()).unwrap(), ["web2 does not answer"]);

    let manager = ObjectManagerProxy::builder(&client).destination(WWW).path(WWW_PATH).build().await.unwrap();
    let objects = manager.get_managed_objects().await.unwrap();
    let remotes: BTreeMap<_, _> = objects
        .iter()
        .filter_map(|(path, interfaces)| Some((path.to_string(), interfaces.get(names::REMOTE)?)))
        .collect();
    assert_eq!(
        remotes.keys().collect::<Vec<_>>(),
        ["/org/sersync/Agent1/www/remote/backup_40web1_3a_3awww", "/org/sersync/Agent1/www/remote/web2_3a_2fsrv_2fwww"]
    );
    let web2 = remotes["/org/sersync/Agent1/www/remote/web2_3a_2fsrv_2fwww"];
    assert_eq!(String::try_from(web2["State"].clone()).unwrap(), "waiting");
    assert_eq!(String::try_from(web2["LastErrorName"].clone()).unwrap(), "ConnectionRefused");
    assert_eq!(u32::try_from(web2["Attempts"].clone()).unwrap(), 7);
    let number = |name: &str| u64::try_from(web2[name].clone()).unwrap();
    assert_eq!((number("QueueDepth"), number("InFlight")), (512, 12), "of an instance and of a remote alike");
}

#[tokio::test]
async fn commands_reach_the_engine_and_its_errors_come_back_named() {
    let bus = PrivateBus::start();
    let mut engine = Engine::new(snapshot("www"));
    let _agent = at(&bus, &engine).await;
    let client = client(&bus).await;
    let agent = agent(&client).await;

    let retry = async { agent.call::<_, _, u64>("Retry", &(vec!["web2:/srv/www"],)).await };
    let play = async {
        let Command::Retry(remotes, answer) = engine.command().await else { panic!("not a retry") };
        assert_eq!(remotes, ["web2:/srv/www"]);
        answer.send(Ok(17)).unwrap();
    };
    assert_eq!(tokio::join!(retry, play).0.unwrap(), 17);

    let reload = async { agent.call::<_, _, ()>("Reload", &()).await };
    let play = async {
        let Command::Reload(answer) = engine.command().await else { panic!("not a reload") };
        answer.send(Err(CommandError::BadConfig("www.xml:3:7: no such element".into()))).unwrap();
    };
    let (name, text) = error_name(&tokio::join!(reload, play).0.unwrap_err());
    assert_eq!(name, "org.sersync.Error.BadConfig");
    assert!(text.contains("the old one stays in force") && text.contains("www.xml:3:7"), "{text}");

    for (error, named) in [
        (CommandError::UnknownRemote("x".into(), "web1".into()), "UnknownRemote"),
        (CommandError::TimedOut("web2 is behind".into()), "TimedOut"),
        (CommandError::Paused("web2 is behind".into()), "Paused"),
        (CommandError::NoConfigFile, "NoConfigFile"),
        (CommandError::Stopping, "Stopping"),
    ] {
        let wait = async { agent.call::<_, _, ()>("WaitSynced", &(1_500_000_u64,)).await };
        let play = async {
            let Command::WaitSynced(timeout, answer) = engine.command().await else { panic!("not a wait") };
            assert_eq!(timeout, Duration::from_millis(1500));
            answer.send(Err(error.clone())).unwrap();
        };
        let (name, text) = error_name(&tokio::join!(wait, play).0.unwrap_err());
        assert_eq!(name, format!("org.sersync.Error.{named}"));
        assert_eq!(text, error.to_string());
    }

    // An engine that has gone is one that is stopping.
    drop(engine);
    let reply = agent.call::<_, _, ()>("Pause", &()).await;
    if let Err(error @ zbus::Error::MethodError(..)) = &reply {
        assert_eq!(error_name(error).0, "org.sersync.Error.Stopping");
    }
    assert!(reply.is_err());
}

#[tokio::test]
async fn lists_keep_bytes_and_pages() {
    let bus = PrivateBus::start();
    let mut engine = Engine::new(snapshot("www"));
    let _agent = at(&bus, &engine).await;
    let client = client(&bus).await;
    let agent = agent(&client).await;
    type Rows = Vec<(String, Vec<u8>, String, String, u32, u64, u64)>;

    let list = async { agent.call::<_, _, Rows>("ListFailures", &(10_u32, 0_u32)).await };
    let play = async {
        let Command::Failures(offset, limit, answer) = engine.command().await else { panic!("not a list") };
        assert_eq!((offset, limit), (10, 10_000), "0 asks for as many as one answer takes");
        answer.send(Ok(vec![failure(b"a\xff\n")])).unwrap();
    };
    let rows = tokio::join!(list, play).0.unwrap();
    assert_eq!((rows[0].1.as_slice(), rows[0].2.as_str(), rows[0].4), (&b"a\xff\n"[..], "NoSpace", 2));
}

fn failure(path: &[u8]) -> Failure {
    Failure {
        remote: "web2:/srv/www".into(),
        path: RelPath::new(path).unwrap(),
        fault: Fault::new("NoSpace", "No space left on device"),
        attempts: 2,
        failed_at: SystemTime::now(),
        next_try: SystemTime::now(),
    }
}

#[tokio::test]
async fn a_long_wait_holds_up_nobody() {
    let bus = PrivateBus::start();
    let mut engine = Engine::new(snapshot("www"));
    let _agent = at(&bus, &engine).await;
    let client = client(&bus).await;
    let waiter = agent(&client).await;
    let wait = tokio::spawn(async move { waiter.call::<_, _, ()>("WaitSynced", &(0_u64,)).await });
    let Command::WaitSynced(timeout, answer) = engine.command().await else { panic!("not a wait") };
    assert_eq!(timeout, Duration::MAX, "0 waits for ever");

    assert_eq!(all(&client, WWW_PATH, names::AGENT).await.len(), 25);
    let agent = agent(&client).await;
    let pause = async { agent.call::<_, _, ()>("Pause", &()).await };
    let play = async {
        let Command::Pause(_, answer) = engine.command().await else { panic!("not a pause") };
        answer.send(Ok(())).unwrap();
    };
    tokio::join!(pause, play).0.unwrap();
    assert!(!wait.is_finished());
    answer.send(Ok(())).unwrap();
    wait.await.unwrap().unwrap();
}

#[tokio::test]
async fn a_full_sync_is_a_job_from_its_first_moment_to_its_last() {
    let bus = PrivateBus::start();
    let engine = Engine::new(snapshot("www")).answer_well();
    let _agent = on(&bus, engine.handle.clone()).await;
    let client = client(&bus).await;
    let mut finished = signals(&client, "Finished").await;
    let mut told = signals(&client, "FullSyncFinished").await;

    let path: OwnedObjectPath = agent(&client).await.call("FullSync", &(Vec::<String>::new(),)).await.unwrap();
    assert_eq!(path.as_str(), "/org/sersync/Agent1/www/job/1");
    let job = all(&client, path.as_str(), names::JOB).await;
    assert_eq!(String::try_from(job["State"].clone()).unwrap(), "running");
    assert_eq!(Vec::<String>::try_from(job["Remotes"].clone()).unwrap().len(), 2);

    engine.change(|snapshot| {
        let job = &mut snapshot.jobs[0];
        (job.state, job.progress, job.result) = (JobState::Done, 1.0, "2 remotes are equal".into());
    });
    let (success, result): (bool, String) = next(&mut finished).await.body().deserialize().unwrap();
    assert!(success);
    assert_eq!(result, "2 remotes are equal");
    let job = all(&client, path.as_str(), names::JOB).await;
    assert_eq!(String::try_from(job["State"].clone()).unwrap(), "done", "final when its end is told");
    let (of, success, _): (OwnedObjectPath, bool, String) = next(&mut told).await.body().deserialize().unwrap();
    assert!(success && of == path);

    // Cancelled ones end as well, and forgotten ones have no object.
    let second: OwnedObjectPath = agent(&client).await.call("FullSync", &(vec!["web2:/srv/www"],)).await.unwrap();
    let proxy = Proxy::new(&client, WWW, second.clone(), names::JOB).await.unwrap();
    proxy.call::<_, _, ()>("Cancel", &()).await.unwrap();
    let (success, _): (bool, String) = next(&mut finished).await.body().deserialize().unwrap();
    assert!(!success);
    let mut removed = signals(&client, "InterfacesRemoved").await;
    engine.change(|snapshot| snapshot.jobs.retain(|job| job.id == JobId(2)));
    let (gone, _): (OwnedObjectPath, Vec<String>) = next(&mut removed).await.body().deserialize().unwrap();
    assert_eq!(gone, path);
    assert!(proxy.call::<_, _, ()>("Cancel", &()).await.is_ok());

    let unknown = agent(&client).await.call::<_, _, OwnedObjectPath>("FullSync", &(vec!["web9"],)).await.unwrap_err();
    let (name, text) = error_name(&unknown);
    assert_eq!(name, "org.sersync.Error.UnknownRemote");
    assert!(text.contains("web9") && text.contains("backup@web1::www"), "{text}");
}

#[tokio::test]
async fn remotes_come_and_go_with_the_config() {
    let bus = PrivateBus::start();
    let engine = Engine::new(snapshot("www"));
    let _agent = at(&bus, &engine).await;
    let client = client(&bus).await;
    let mut added = signals(&client, "InterfacesAdded").await;
    let mut removed = signals(&client, "InterfacesRemoved").await;
    engine.change(|snapshot| snapshot.remotes[0] = remote("/mnt/copy"));
    let path = next(&mut added).await;
    let (path, interfaces): (OwnedObjectPath, HashMap<String, HashMap<String, OwnedVariant>>) =
        path.body().deserialize().unwrap();
    assert_eq!(path.as_str(), "/org/sersync/Agent1/www/remote/_2fmnt_2fcopy");
    assert_eq!(String::try_from(interfaces[names::REMOTE]["Name"].clone()).unwrap(), "/mnt/copy");
    let (path, gone): (OwnedObjectPath, Vec<String>) = next(&mut removed).await.body().deserialize().unwrap();
    assert_eq!(path.as_str(), "/org/sersync/Agent1/www/remote/backup_40web1_3a_3awww");
    assert_eq!(gone, [names::REMOTE]);
}

#[tokio::test]
async fn a_burst_is_few_signals() {
    let bus = PrivateBus::start();
    let engine = Engine::new(snapshot("www"));
    let _agent = at(&bus, &engine).await;
    let client = client(&bus).await;
    let mut changes = signals(&client, "PropertiesChanged").await;
    let mut batches = signals(&client, "BatchFinished").await;
    let start = tokio::time::Instant::now();
    for number in 0..2000_u64 {
        engine.change(|snapshot| snapshot.events_seen = 1000 + number);
        let notice = Notice::BatchFinished {
            remote: "web2:/srv/www".into(),
            paths: 1,
            bytes: number,
            duration: Duration::from_millis(3),
            success: true,
        };
        engine.notices.send(notice).unwrap();
        tokio::task::yield_now().await;
    }
    // What is told last is the last state, and nothing that did not change is told.
    let mut rounds = 0;
    loop {
        let message = next(&mut changes).await;
        let (interface, changed, _): (String, HashMap<String, OwnedVariant>, Vec<String>) =
            message.body().deserialize().unwrap();
        assert_eq!((interface.as_str(), changed.len()), (names::AGENT, 1), "{changed:?}");
        rounds += 1;
        if u64::try_from(changed["EventsSeen"].clone()).unwrap() == 2999 {
            break;
        }
    }
    let most = start.elapsed().as_millis() / PROPERTIES_INTERVAL.as_millis() + 1;
    assert!(rounds <= most, "{rounds} rounds in {:?}", start.elapsed());

    // A notice that must not be lost marks the end of the batches.
    engine.notices.send(Notice::Overflowed { root: "/data/www".into() }).unwrap();
    let mut overflows = signals(&client, "Overflowed").await;
    engine.notices.send(Notice::Overflowed { root: "/data/www".into() }).unwrap();
    next(&mut overflows).await;
    let seconds = start.elapsed().as_secs() as u32 + 1;
    let mut told = 0;
    loop {
        use futures_core::Stream;
        let ready = std::future::poll_fn(|context| {
            std::task::Poll::Ready(std::pin::Pin::new(&mut batches).poll_next(context).is_ready())
        });
        if !ready.await {
            break;
        }
        told += 1;
    }
    assert!((1..=SIGNALS_PER_SECOND * seconds).contains(&told), "{told} batches told in {seconds} s");
}

#[tokio::test]
async fn what_happens_is_told() {
    let bus = PrivateBus::start();
    let engine = Engine::new(snapshot("www"));
    let _agent = at(&bus, &engine).await;
    let client = client(&bus).await;
    let mut added = signals(&client, "FailureAdded").await;
    let mut cleared = signals(&client, "FailureCleared").await;
    engine.notices.send(Notice::FailureAdded(failure(b"a\xff"))).unwrap();
    let body: (String, Vec<u8>, String, String) = next(&mut added).await.body().deserialize().unwrap();
    assert_eq!(body, ("web2:/srv/www".into(), b"a\xff".to_vec(), "NoSpace".into(), "No space left on device".into()));
    let path = RelPath::new(b"a\xff").unwrap();
    engine.notices.send(Notice::FailureCleared { remote: "web2:/srv/www".into(), path }).unwrap();
    let body: (String, Vec<u8>) = next(&mut cleared).await.body().deserialize().unwrap();
    assert_eq!(body.1, b"a\xff");
}

#[tokio::test]
async fn names_that_are_no_elements_are_escaped() {
    let bus = PrivateBus::start();
    let engine = Engine::new(snapshot("my-site.org"));
    let agent = at(&bus, &engine).await;
    assert_eq!(agent.name(), "org.sersync.Agent1.my_2dsite_2eorg");
    let client = client(&bus).await;
    let path = "/org/sersync/Agent1/my_2dsite_2eorg";
    let proxy = Proxy::new(&client, agent.name().to_owned(), path, names::AGENT).await.unwrap();
    assert_eq!(proxy.get_property::<String>("Instance").await.unwrap(), "my-site.org");
}

#[tokio::test]
async fn one_instance_one_name() {
    let bus = PrivateBus::start();
    let engine = Engine::new(snapshot("www"));
    let first = at(&bus, &engine).await;
    let again = serve(engine.handle.clone(), "www", Which::Address(bus.address.clone()), log::silent()).await;
    assert!(matches!(again.refused(), Some(ServeError::NameTaken(name)) if name == WWW), "{again:?}");
    first.close().await;
    tokio::time::timeout(PATIENCE, again.entered()).await.expect("it takes the name when that is free");
}

#[tokio::test]
async fn a_bus_that_comes_later_is_entered_later() {
    let engine = Engine::new(snapshot("www"));
    let place = tempfile::tempdir().unwrap();
    let address = format!("unix:path={}", place.path().join("bus").display());
    let agent = serve(engine.handle.clone(), "www", Which::Address(address.clone()), log::silent()).await;
    let refused = agent.refused().expect("there is no bus");
    let text = refused.to_string();
    assert!(matches!(refused, ServeError::Connect(_)) && text.contains("mirroring is not affected"), "{text}");
    let _bus = PrivateBus::listen(&address);
    tokio::time::timeout(PATIENCE, agent.entered()).await.expect("it enters the bus when that is there");
}

#[tokio::test]
async fn comes_back_when_the_bus_does() {
    let place = tempfile::tempdir().unwrap();
    let address = format!("unix:path={}", place.path().join("bus").display());
    let bus = PrivateBus::listen(&address);
    let engine = Engine::new(snapshot("www")).answer_well();
    let _agent = serve(engine.handle.clone(), "www", Which::Address(address.clone()), log::silent()).await;
    drop(bus);
    // The agent lives on, and what changes meanwhile is there afterwards.
    engine.change(|snapshot| snapshot.files_synced = 99);
    let bus = PrivateBus::listen(&address);
    let client = client(&bus).await;
    let agent = agent(&client).await;
    let files = eventually("the agent on the new bus", async || agent.get_property::<u64>("FilesSynced").await.ok());
    assert_eq!(files.await, 99);
    assert_eq!(agent.call::<_, _, u64>("Retry", &(Vec::<String>::new(),)).await.unwrap(), 2);
}

#[tokio::test]
async fn the_log_level_is_set_as_systemctl_does_it() {
    let bus = PrivateBus::start();
    let engine = Engine::new(snapshot("www"));
    let control = log::init("www", false, false).unwrap();
    let _agent = serve(engine.handle.clone(), "www", Which::Address(bus.address.clone()), control.clone()).await;
    let client = client(&bus).await;
    let log = Proxy::new(&client, WWW, names::LOG_CONTROL_PATH, "org.freedesktop.LogControl1").await.unwrap();
    assert_eq!(log.get_property::<String>("LogLevel").await.unwrap(), "info");
    log.set_property("LogLevel", "debug").await.unwrap();
    assert_eq!(control.level(), "debug");
    assert!(log.set_property("LogLevel", "loud").await.is_err());
    assert_eq!(log.get_property::<String>("SyslogIdentifier").await.unwrap(), "sersync@www");
    assert_eq!(log.get_property::<String>("LogTarget").await.unwrap(), "console");
}

/// The rules of a system bus that matter here: no name may be owned and no method called unless a policy allows it.
const STOCK: &str = r#"<policy context="default">
    <allow user="*"/>
    <deny own="*"/>
    <deny send_type="method_call"/>
    <allow send_type="signal"/>
    <allow send_requested_reply="true" send_type="method_return"/>
    <allow send_requested_reply="true" send_type="error"/>
    <allow receive_type="method_call"/>
    <allow receive_type="method_return"/>
    <allow receive_type="error"/>
    <allow receive_type="signal"/>
    <allow send_destination="org.freedesktop.DBus"/>
  </policy>"#;

/// With the policy that ships, on a bus without polkit. Needs root, to call as another user.
#[tokio::test]
async fn others_may_read_properties_and_change_nothing() {
    if !nix::unistd::geteuid().is_root() {
        eprintln!("skipped: only root can call as another user");
        return;
    }
    let shipped = concat!(env!("CARGO_MANIFEST_DIR"), "/dbus/org.sersync.Agent1.conf");
    let bus = PrivateBus::with_rules("unix:tmpdir=/tmp", &format!("{STOCK}<include>{shipped}</include>"));
    let engine = Engine::new(snapshot("www")).answer_well();
    let _agent = on(&bus, engine.handle.clone()).await;
    let nobody = async |arguments: &[&str]| {
        let output = tokio::process::Command::new("setpriv")
            .args(["--reuid=65534", "--regid=65534", "--clear-groups", "busctl"])
            .arg(format!("--address={}", bus.address))
            .args(arguments)
            .output()
            .await
            .unwrap();
        (output.status.success(), String::from_utf8_lossy(&output.stderr).into_owned())
    };
    // Only the first owns the common name; the policy lets callers in to both.
    let blog = Engine::new(snapshot("blog")).answer_well();
    let _blog = on(&bus, blog.handle.clone()).await;
    for instance in ["www", "blog"] {
        let (name, path) = (names::bus_name(instance), names::agent_path(instance));
        let (read, text) = nobody(&["get-property", &name, path.as_str(), names::AGENT, "State"]).await;
        assert!(read, "{instance}: {text}");
    }
    let refused: [(&str, &[&str]); 4] =
        [("Pause", &[]), ("Retry", &["as", "0"]), ("FullSync", &["as", "0"]), ("ListPending", &["uu", "0", "0"])];
    for (member, arguments) in refused {
        let call = [&["call", WWW, WWW_PATH, names::AGENT, member], arguments].concat();
        let (done, text) = nobody(&call).await;
        assert!(!done && text.contains("user nobody may not call"), "{member}: {text}");
    }
    let level = ["set-property", WWW, names::LOG_CONTROL_PATH, "org.freedesktop.LogControl1", "LogLevel", "s", "debug"];
    let (done, text) = nobody(&level).await;
    assert!(!done && text.contains("user nobody may not"), "{text}");
    assert_eq!(engine.handle.snapshot().state, State::Idle);
    let dbus = "org.freedesktop.DBus";
    let name = "org.sersync.Agent1.other";
    let (owned, text) = nobody(&["call", dbus, "/org/freedesktop/DBus", dbus, "RequestName", "su", name, "4"]).await;
    assert!(!owned && text.contains("Access denied"), "{text}");
}

/// An interface as its description's structure: what it has, without comments and order.
fn described(xml: &str, interface: &str) -> BTreeMap<String, String> {
    use quick_xml::events::{BytesStart, Event};
    let attributes = |tag: &BytesStart<'_>| -> BTreeMap<String, String> {
        let pairs = tag.attributes().map(|pair| pair.unwrap());
        pairs.map(|pair| (pair.key.as_ref().to_string(), pair.value.to_string())).collect()
    };
    let mut reader = quick_xml::Reader::from_str(xml);
    reader.config_mut().expand_empty_elements = true;
    let (mut found, mut inside, mut member) = (BTreeMap::new(), false, String::new());
    loop {
        match reader.read_event().unwrap() {
            Event::Start(tag) => {
                let attributes = attributes(&tag);
                let kind = tag.name().as_ref().to_string();
                match kind.as_str() {
                    "interface" => inside = attributes["name"] == interface,
                    "method" | "signal" | "property" if inside => {
                        member = format!("{kind} {}", attributes["name"]);
                        found.insert(member.clone(), format!("{attributes:?}"));
                    }
                    "arg" | "annotation" if inside => {
                        let of = found.get_mut(&member).unwrap();
                        of.push_str(&format!(" {kind} {attributes:?}"));
                    }
                    _ => {}
                }
            }
            Event::End(tag) if tag.name().as_ref() == "interface" => inside = false,
            Event::Eof => return found,
            _ => {}
        }
    }
}

#[tokio::test]
async fn the_shipped_descriptions_are_what_the_agent_answers() {
    let bus = PrivateBus::start();
    let engine = Engine::new(snapshot("www"));
    engine.change(|snapshot| snapshot.jobs.push(support::job(JobId(1), Vec::new())));
    let _agent = at(&bus, &engine).await;
    let client = client(&bus).await;
    let answered = agent(&client).await.introspect().await.unwrap();
    for interface in [names::AGENT, names::REMOTE, names::JOB] {
        let file = format!("{}/dbus/{interface}.xml", env!("CARGO_MANIFEST_DIR"));
        let shipped = described(&std::fs::read_to_string(&file).unwrap(), interface);
        assert!(!shipped.is_empty(), "{file} describes nothing");
        assert_eq!(shipped, described(&answered, interface), "{file} differs from what the agent answers");
    }
}
