//! What `sersyncctl` tells people: every complaint ends in the next command to type, and all of it is told in Chinese to
//! those whose locale is.

use crate::client::{Ended, ctl, finish, on, run};
use crate::support::{Engine, PrivateBus, down, snapshot};
use sersync::agent::handle::{Command, CommandError};
use sersync::agent::snapshot::{Failure, Fault, State};
use sersync::path::RelPath;
use std::time::{Duration, SystemTime};

/// Answers every command with `error`.
async fn refuse(engine: &mut Engine, error: CommandError) {
    loop {
        match engine.command().await {
            Command::FullSync(_, answer) => drop(answer.send(Err(error.clone()))),
            Command::Retry(_, answer) => drop(answer.send(Err(error.clone()))),
            Command::Pause(_, answer)
            | Command::Resume(answer)
            | Command::Reload(answer)
            | Command::WaitSynced(_, answer) => drop(answer.send(Err(error.clone()))),
            other => panic!("not asked for: {other:?}"),
        }
    }
}

fn last_line(text: &str) -> &str {
    text.lines().last().unwrap_or_default()
}

#[tokio::test]
async fn every_refusal_ends_in_the_next_command() {
    let bus = PrivateBus::start();
    let mut engine = Engine::new(snapshot("www"));
    let _agent = on(&bus, engine.handle.clone()).await;
    for (arguments, error, says, next) in [
        (
            &["wait", "www", "--timeout", "1s"][..],
            CommandError::TimedOut("web2:/srv/www".into()),
            "not in sync in time: web2:/srv/www",
            "sersyncctl status www",
        ),
        (
            &["reload", "www"],
            CommandError::BadConfig("www.xml:3:7: error: no such element".into()),
            "www.xml:3:7: error",
            "sersyncctl check www",
        ),
        (&["reload", "www"], CommandError::NoConfigFile, "--watch/--to", "systemctl enable --now sersync@www"),
        (
            &["resync", "www", "web9"],
            CommandError::UnknownRemote("web9".into(), "web1, web2".into()),
            "web1, web2",
            "sersyncctl status www",
        ),
        (&["retry", "www"], CommandError::NoRemotes, "no remotes to sync", "sersyncctl status www"),
        (&["pause", "www"], CommandError::Stopping, "is stopping", "systemctl start sersync@www"),
    ] {
        let ended = tokio::select! {
            ended = run(&bus, arguments) => ended,
            () = refuse(&mut engine, error) => unreachable!("it refuses without end"),
        };
        assert_eq!(ended.code, 1, "{arguments:?}: {}", ended.out);
        assert!(ended.err.contains(says), "{arguments:?}: {}", ended.err);
        assert_eq!(last_line(&ended.err), format!("next: {next}"), "{arguments:?}");
    }
}

#[tokio::test]
async fn what_is_not_there_is_named_with_the_next_command() {
    let bus = PrivateBus::start();
    for verb in ["pause", "resume", "retry", "reload", "wait", "failures", "pending", "resync", "monitor", "status"] {
        let ended = run(&bus, &[verb, "nope"]).await;
        assert!(ended.err.contains("there is no instance \"nope\""), "{verb}: {}", ended.err);
        assert_eq!(last_line(&ended.err), "next: sersyncctl list", "{verb}");
        let ended = run(&bus, &["--user", verb, "nope"]).await;
        assert!(ended.err.contains("no connection to the user bus"), "{verb}: {}", ended.err);
        assert_eq!(last_line(&ended.err), "next: systemctl --user status dbus.socket", "{verb}");
    }
    let ended = run(&bus, &["import", "lsyncd", "/nonexistent/a b"]).await;
    assert_eq!(last_line(&ended.err), "next: ls -l '/nonexistent/a b'");
}

#[tokio::test]
async fn a_state_that_wants_attention_ends_in_the_next_command() {
    let bus = PrivateBus::start();
    let engine = Engine::new(snapshot("www"));
    let _agent = on(&bus, engine.handle.clone()).await;
    assert!(!run(&bus, &["status", "www"]).await.err.contains("next:"), "all is well");
    assert!(!run(&bus, &["status"]).await.err.contains("next:"), "all is well");
    type Change = fn(&mut sersync::agent::Snapshot);
    let states: [(Change, &str); 5] = [
        (|snapshot| snapshot.state = State::Starting, "sersyncctl wait www"),
        (|snapshot| snapshot.problems = vec!["the disk is ill".into()], "journalctl -u sersync@www -xe"),
        (|snapshot| snapshot.remotes[1] = down("web2:/srv/www"), "sersyncctl check www"),
        (|snapshot| snapshot.remotes[0].failures = 3, "sersyncctl failures www"),
        (|snapshot| snapshot.state = State::Paused, "sersyncctl resume www"),
    ];
    for (change, next) in states {
        engine.change(change);
        let details = run(&bus, &["status", "www"]).await;
        assert_eq!(details.err, format!("next: {next}\n"), "{}", details.out);
        assert!(!details.out.contains("next: "), "a pipe gets results alone: {}", details.out);
    }
    assert_eq!(last_line(&run(&bus, &["status"]).await.err), "next: sersyncctl status www");
}

#[tokio::test]
async fn verbs_of_systemd_lead_to_the_command_that_does_it() {
    let bus = PrivateBus::start();
    for (arguments, next) in [
        (&["start", "www"][..], "systemctl start sersync@www"),
        (&["stop", "sersync@www.service"], "systemctl stop sersync@www"),
        (&["--user", "logs", "www"], "journalctl --user -u sersync@www"),
        (&["edit", "www"], "sudoedit /etc/sersync/www.xml"),
    ] {
        let ended = run(&bus, arguments).await;
        assert_eq!((ended.code, last_line(&ended.err)), (2, format!("next: {next}").as_str()), "{}", ended.err);
        assert!(ended.err.contains("is left to systemd"), "{}", ended.err);
    }
}

#[tokio::test]
async fn what_was_done_says_how_to_go_on() {
    let bus = PrivateBus::start();
    let engine = Engine::new(snapshot("www")).answer_well();
    let _agent = on(&bus, engine.handle.clone()).await;
    for (arguments, next) in [
        (&["pause", "www"][..], "sersyncctl resume www"),
        (&["retry", "www"], "sersyncctl failures www"),
        (&["resync", "www", "--no-wait"], "sersyncctl status www"),
        (&["resync", "www", "--cancel"], "sersyncctl resync www"),
    ] {
        let ended = run(&bus, arguments).await;
        assert_eq!(last_line(&ended.err), format!("next: {next}"), "{arguments:?}: {}", ended.out);
    }
}

#[tokio::test]
async fn a_check_that_finds_a_mistake_ends_in_the_command_that_opens_the_config() {
    let bus = PrivateBus::start();
    let place = tempfile::tempdir().unwrap();
    let config = place.path().join("www.xml");
    let name = config.display().to_string();
    std::fs::write(&config, "<head version=\"2.5\"><sersync></head>").unwrap();
    let broken = run(&bus, &["check", &name]).await;
    assert_eq!(broken.err, format!("next: ${{EDITOR:-vi}} {name}\n"), "{}", broken.out);
    assert!(!broken.out.contains("next:") && broken.out.contains(" → "), "{}", broken.out);
}

fn in_chinese(bus: &PrivateBus, arguments: &[&str]) -> tokio::process::Command {
    let mut command = ctl(bus, arguments);
    command.env_remove("LC_ALL").env_remove("LANGUAGE").env_remove("LC_MESSAGES").env("LANG", "zh_CN.UTF-8");
    command
}

async fn run_in_chinese(bus: &PrivateBus, arguments: &[&str]) -> Ended {
    finish(in_chinese(bus, arguments)).await
}

#[tokio::test]
async fn the_status_is_told_in_chinese_and_lines_up() {
    let bus = PrivateBus::start();
    let engine = Engine::new(snapshot("www"));
    engine.change(|snapshot| {
        snapshot.state = State::Degraded;
        snapshot.remotes[1] = down("web2:/srv/www");
        snapshot.remotes[1].last_error = Some(Fault::new("NoSpace", "No space left; make room on the remote"));
    });
    let _agent = on(&bus, engine.handle.clone()).await;
    let all = run_in_chinese(&bus, &["status"]).await;
    assert_eq!(all.code, 1);
    assert_eq!(
        all.out,
        "名称  状态  已同步  待同步  失败    延迟  最近同步\n\
         www   降级     1/2     512     0  3 分钟  刚刚\n",
        "{}",
        all.out
    );
    assert_eq!(all.err, "下一步：sersyncctl status www\n");
    let details = run_in_chinese(&bus, &["status", "www"]).await;
    let details = format!("{}{}", details.out, details.err);
    for line in [
        "www - 降级\n",
        "       配置: /etc/sersync/www.xml\n",
        "       监控: /data/www（1204 个目录）\n",
        "下一步：sersyncctl check www\n",
        "  web2:/srv/www：NoSpace，已失败 3 分钟，重试 7 次，下次 59 秒后\n",
        "    No space left；请在该远端清理出空间\n",
    ] {
        let line = line.replace("59 秒", if details.contains("60 秒") { "60 秒" } else { "59 秒" });
        assert!(details.contains(&line), "{line:?} in\n{details}");
    }
    // Outside of names, commands and rsync's words nothing is left in English.
    for word in ["pending", "failed", "ago", "State", "Last", "next", "version", "sent"] {
        assert!(!details.contains(word), "{word:?} in\n{details}");
    }
}

#[tokio::test]
async fn complaints_lists_and_help_are_told_in_chinese() {
    let bus = PrivateBus::start();
    let mut engine = Engine::new(snapshot("www"));
    let _agent = on(&bus, engine.handle.clone()).await;
    let unknown = run_in_chinese(&bus, &["pause", "nope"]).await;
    assert_eq!(unknown.err, "sersyncctl: 没有实例 \"nope\"\n下一步：sersyncctl list\n");
    let play = async {
        let Command::Failures(0, _, answer) = engine.command().await else { panic!("not a list") };
        let failure = Failure {
            remote: "web2:/srv/www".into(),
            path: RelPath::new("图片/a".as_bytes()).unwrap(),
            fault: Fault::new("NoSpace", "full"),
            attempts: 2,
            failed_at: SystemTime::now(),
            next_try: SystemTime::now() + Duration::from_secs(90),
        };
        answer.send(Ok(vec![failure])).unwrap();
    };
    let list = tokio::join!(run_in_chinese(&bus, &["failures", "www"]), play).0;
    assert_eq!(
        list.out,
        "远端           错误     路径数  下次      示例    原因\n\
         web2:/srv/www  NoSpace       1  1 分钟后  图片/a  full\n\
         每个路径：sersyncctl failures www --all\n"
    );
    assert_eq!(list.err, "下一步：sersyncctl retry www\n");
    let waited = tokio::select! {
        ended = run_in_chinese(&bus, &["wait", "www"]) => ended,
        () = refuse(&mut engine, CommandError::TimedOut("web2".into())) => unreachable!("it refuses without end"),
    };
    assert_eq!(waited.err, "sersyncctl: 未能按时同步：web2\n下一步：sersyncctl status www\n");
    let mistyped = run_in_chinese(&bus, &["monitr", "www"]).await;
    assert_eq!(mistyped.code, 2);
    assert!(mistyped.err.starts_with("错误：没有命令 monitr\n是否想输入 monitor？\n\n用法："), "{}", mistyped.err);
    let help = run_in_chinese(&bus, &["resync", "--help"]).await.out;
    for text in ["用法: sersyncctl resync", "参数:", "选项:", "使远端与磁盘一致", "显示帮助"] {
        assert!(help.contains(text), "{text:?} in\n{help}");
    }
}

#[tokio::test]
async fn programs_are_spoken_to_in_english() {
    let bus = PrivateBus::start();
    let engine = Engine::new(snapshot("www"));
    engine.change(|snapshot| snapshot.state = State::Paused);
    let _agent = on(&bus, engine.handle.clone()).await;
    let status = run_in_chinese(&bus, &["status", "--json"]).await;
    assert!(status.out.contains("\"paused\""), "{}", status.out);
    let unknown = run_in_chinese(&bus, &["--json", "pause", "nope"]).await;
    assert!(unknown.err.contains("there is no instance"), "{}", unknown.err);
    let mut other = ctl(&bus, &["status"]);
    other.env("LC_ALL", "de_DE.UTF-8").env("LANGUAGE", "zh_CN");
    let other = finish(other).await;
    assert!(other.out.starts_with("名称"), "LANGUAGE comes before a locale that is not ours: {}", other.out);
}

#[tokio::test]
async fn an_import_is_told_in_chinese() {
    let bus = PrivateBus::start();
    let corpus = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/import");
    for (source, file) in [("lsyncd", "lsyncd/unsupported.lua"), ("incron", "incron/mixed")] {
        let file = format!("{corpus}/{file}");
        let import = run_in_chinese(&bus, &["import", source, &file, "--dry-run"]).await;
        // What is typed next stands below the line that says so.
        let remarks = import.err.lines().take_while(|line| !line.starts_with("下一步："));
        let remarks: Vec<_> = remarks.collect();
        assert!(remarks.len() > 20, "{}", import.err);
        for line in remarks {
            assert!(line.chars().any(|c| ('\u{4e00}'..'\u{9fff}').contains(&c)), "{line}");
        }
    }
}
