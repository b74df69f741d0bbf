//! What `--json` prints is what docs/json-schema.json says: no field is missing, and none is left unsaid.

use crate::client::{ctl, on, run};
use crate::support::{Engine, PATIENCE, PrivateBus, down, eventually, snapshot};
use serde_json::{Value, json};
use sersync::agent::handle::Command;
use sersync::agent::snapshot::{Failure, Fault, JobState, Notice, PendingPath, PluginStatus};
use sersync::path::RelPath;
use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, SystemTime};
use tokio::io::{AsyncBufReadExt, BufReader};

/// The schema of one definition, in which a field that is not named is an error.
fn schema(definition: &str) -> jsonschema::Validator {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/json-schema.json");
    let mut whole: Value = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
    assert!(whole["$defs"][definition].is_object(), "{definition} is not defined");
    seal(&mut whole);
    whole["$ref"] = format!("#/$defs/{definition}").into();
    jsonschema::options().with_draft(jsonschema::Draft::Draft202012).build(&whole).unwrap()
}

/// Objects whose fields are all named may have no others.
fn seal(schema: &mut Value) {
    match schema {
        Value::Object(map) => {
            if map.contains_key("properties") && map.contains_key("required") {
                map.insert("additionalProperties".into(), false.into());
            }
            map.values_mut().for_each(seal);
        }
        Value::Array(all) => all.iter_mut().for_each(seal),
        _ => {}
    }
}

fn holds(definition: &str, value: &Value) {
    let schema = schema(definition);
    let wrong: Vec<String> =
        schema.iter_errors(value).map(|error| format!("{}: {error}", error.instance_path())).collect();
    assert!(wrong.is_empty(), "{definition}: {wrong:#?}\n{value:#}");
}

fn parsed(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|error| panic!("{error}: {text}"))
}

#[tokio::test]
async fn the_schema_is_one_and_tells_right_from_wrong() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/json-schema.json");
    let whole: Value = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
    jsonschema::meta::validate(&whole).unwrap();
    assert!(schema("retried").is_valid(&json!({"retried": 2})));
    assert!(!schema("retried").is_valid(&json!({"retried": "2"})), "a wrong type");
    assert!(!schema("retried").is_valid(&json!({})), "a missing field");
    assert!(!schema("retried").is_valid(&json!({"retried": 2, "more": 1})), "a field that is not named");
    // Every definition of the table in docs/json.md is there.
    let page = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/json.md")).unwrap();
    let named = page
        .lines()
        .filter(|line| line.starts_with("| `"))
        .filter_map(|line| line.trim_end_matches(" |").rsplit('`').nth(1).filter(|_| line.ends_with("` |")));
    let named: Vec<&str> = named.collect();
    assert_eq!(named.len(), 11, "{named:?}");
    named.into_iter().for_each(|definition| drop(schema(definition)));
}

#[tokio::test]
async fn instances_jobs_and_counts() {
    let bus = PrivateBus::start();
    holds("status", &parsed(&run(&bus, &["list", "--json"]).await.out));
    let engine = Engine::new(snapshot("www")).answer_well();
    engine.change(|snapshot| {
        snapshot.remotes[1] = down("web2:/srv/www");
        snapshot.watch_roots.push(Path::new("/data").join(odd_name()));
        snapshot.plugins.push(PluginStatus {
            plugin: "http".into(),
            target: "http://127.0.0.1/".into(),
            waiting: 1,
            running: 1,
            done: 3,
            failed: 0,
            last_error: "refused".into(),
            failing_since: Some(SystemTime::now()),
            next_try: Some(SystemTime::now()),
        });
    });
    let _agent = on(&bus, engine.handle.clone()).await;
    holds("retried", &parsed(&run(&bus, &["retry", "www", "--json"]).await.out));
    engine.change(|snapshot| {
        let remote = &mut snapshot.remotes[0];
        (remote.deletions_withheld, remote.withheld_reason) = (2, "would delete everything".into());
        remote.withheld_paths = vec![RelPath::new(b"a\xff").unwrap()];
    });
    let withheld = |status: &Value| status[0]["remotes"][0]["deletions_withheld_paths"][0]["path_hex"] == "61ff";
    eventually("the withheld paths", async || {
        let status = parsed(&run(&bus, &["status", "www", "--json"]).await.out);
        holds("status", &status);
        withheld(&status).then_some(())
    })
    .await;
    let unasked = run(&bus, &["accept", "www", "--json"]).await;
    assert_eq!((unasked.code, unasked.out.as_str()), (1, ""), "nobody was asked");
    holds("accepted", &parsed(&run(&bus, &["accept", "www", "--json", "--yes"]).await.out));
    holds("started", &parsed(&run(&bus, &["resync", "www", "--json", "--no-wait"]).await.out));
    let status = parsed(&run(&bus, &["status", "www", "--json"]).await.out);
    holds("status", &status);
    assert_eq!(status[0]["jobs"].as_array().unwrap().len(), 1);
    assert_eq!(status[0]["watch_roots"][1]["path_hex"], "2f646174612f61ff");
    holds("canceled", &parsed(&run(&bus, &["resync", "www", "--json", "--cancel"]).await.out));

    let follower = ctl(&bus, &["resync", "www", "--json"]).stdout(Stdio::piped()).spawn().unwrap();
    eventually("the second job", async || engine.handle.snapshot().jobs.get(1).map(|_| ())).await;
    engine.change(|snapshot| {
        (snapshot.jobs[1].state, snapshot.jobs[1].result) = (JobState::Done, "2 remotes are equal".into());
    });
    let output = tokio::time::timeout(PATIENCE, follower.wait_with_output()).await.unwrap().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(text.lines().count() >= 1);
    text.lines().for_each(|line| holds("job", &parsed(line)));
    for verb in ["pause", "resume", "wait", "reload"] {
        assert_eq!(run(&bus, &[verb, "www", "--json"]).await.out, "", "{verb}");
    }
}

fn odd_name() -> std::ffi::OsString {
    std::os::unix::ffi::OsStringExt::from_vec(b"a\xff".to_vec())
}

fn failure() -> Failure {
    Failure {
        path: RelPath::new(b"a\xff").unwrap(),
        fault: Fault::new("NoSpace", "No space left on device"),
        ..super::failure(0)
    }
}

#[tokio::test]
async fn paths_that_failed_or_wait() {
    let bus = PrivateBus::start();
    let mut engine = Engine::new(snapshot("www"));
    let _agent = on(&bus, engine.handle.clone()).await;
    let play = async {
        let Command::Failures(_, _, answer) = engine.command().await else { panic!("not a list") };
        answer.send(Ok(vec![failure()])).unwrap();
        let Command::Pending(_, _, answer) = engine.command().await else { panic!("not a list") };
        let path = RelPath::new(b"a").unwrap();
        let (remote, since) = ("web2:/srv/www".into(), SystemTime::now());
        answer.send(Ok(vec![PendingPath { remote, path, kind: "tree", since, in_flight: false }])).unwrap();
    };
    let ask = async {
        let failures = run(&bus, &["failures", "www", "--json"]).await.out;
        (failures, run(&bus, &["pending", "www", "--json"]).await.out)
    };
    let ((failures, pending), ()) = tokio::join!(ask, play);
    holds("failures", &parsed(&failures));
    holds("pending", &parsed(&pending));
    assert_eq!(parsed(&failures)[0]["path_hex"], "61ff");
}

#[tokio::test]
async fn what_happens() {
    let bus = PrivateBus::start();
    let engine = Engine::new(snapshot("www"));
    let _agent = on(&bus, engine.handle.clone()).await;
    let mut monitor = ctl(&bus, &["monitor", "www", "--json"]).stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(monitor.stdout.take().unwrap()).lines();
    // It listens some time after its start: tell until all was heard.
    let mut heard = std::collections::BTreeSet::new();
    let mut number = 0;
    eventually("every event", async || {
        number += 1;
        engine.change(|snapshot| snapshot.files_synced = number);
        for notice in [
            Notice::FailureAdded(failure()),
            Notice::FailureCleared { remote: "web2:/srv/www".into(), path: RelPath::new(b"a").unwrap() },
            Notice::BatchFinished {
                remote: "web2:/srv/www".into(),
                paths: 1,
                bytes: 2,
                duration: Duration::from_millis(3),
                success: true,
            },
            Notice::Overflowed { root: "/data/www".into() },
        ] {
            engine.notices.send(notice).unwrap();
        }
        while let Ok(line) = tokio::time::timeout(Duration::from_millis(100), lines.next_line()).await {
            let event = parsed(&line.unwrap().unwrap());
            holds("event", &event);
            heard.insert(event["event"].as_str().unwrap().to_owned());
        }
        (heard.len() >= 5).then_some(())
    })
    .await;
    holds("event", &json!({"event": "full_sync", "at_usec": 1, "job": 1, "success": true, "result": "done"}));
    monitor.kill().await.unwrap();
}

#[tokio::test]
async fn checks_and_imports() {
    let bus = PrivateBus::start();
    let place = tempfile::tempdir().unwrap();
    let config = place.path().join("www.xml");
    std::fs::write(
        &config,
        format!(
            "<head version=\"2.5\"><sersync><localpath watch=\"{0}\"><remote ip=\"/{0}/copy\" name=\"\"/></localpath></sersync></head>",
            place.path().display()
        ),
    )
    .unwrap();
    let broken = place.path().join("broken.xml");
    std::fs::write(&broken, "<head version=\"2.5\"><sersync></head>").unwrap();
    let (config, broken) = (config.display().to_string(), broken.display().to_string());
    let check = parsed(&run(&bus, &["check", "--json", "--no-probe", &config, &broken]).await.out);
    holds("check", &check);
    assert_eq!((check[1]["level"].as_str(), check.as_array().unwrap().len()), (Some("error"), 2));

    let old = place.path().join("old");
    std::fs::create_dir(&old).unwrap();
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/import/sersync");
    for part in ["seed", "odd"] {
        for entry in std::fs::read_dir(corpus.join(part)).unwrap() {
            let entry = entry.unwrap();
            std::fs::copy(entry.path(), old.join(entry.file_name())).unwrap();
        }
    }
    let old = old.display().to_string();
    let rc = format!("{old}/rc.local");
    let import = run(&bus, &["import", "--json", "sersync", &old, "--rc", &rc, "--dry-run"]).await;
    let import = parsed(&import.out);
    holds("import", &import);
    assert!(!import["lines"].as_array().unwrap().is_empty(), "{import:#}");
}
