//! A remote that is away for long: what waits for it stays within its limit, and all of it arrives when it is back.

mod support;

use std::fs;
use std::time::Duration;
use support::SOON;
use support::config::Confxml;
use support::scene::{MODULE, Place};
use support::tree::{Judge, put};

/// As many pending paths as the config below allows.
const LIMIT: usize = 2_000;

#[test]
fn steady_writes_to_a_remote_that_is_away_take_no_more_than_the_limit() {
    let place = Place::new();
    let mut daemon = place.plan(&[]).start();
    let config = Confxml::new(&place.source())
        .daemon(&daemon, MODULE)
        .agent(&format!("<pending limit=\"{LIMIT}\"/>"))
        .write(&place.path("www.xml"));
    let agent = place.launch().config(&config).start();
    put(&place.source().join("before"), "");
    Judge::default().assert_converged(&place.source(), &place.path("copy"), SOON);
    daemon.stop();

    // Twenty times the limit; names that come again, that go again, and directories without end.
    let write = |rounds: std::ops::Range<usize>| {
        for number in rounds {
            let directory = place.source().join(format!("{}/{}", number % 7, number / 100));
            fs::create_dir_all(&directory).unwrap();
            fs::write(directory.join(number.to_string()), number.to_string()).unwrap();
            if number.is_multiple_of(3) {
                fs::remove_file(directory.join(number.to_string())).unwrap();
            }
        }
    };
    write(0..LIMIT * 2);
    let journal = place.path("agent/state/journal");
    let (memory, size) = (agent.process().status_kb("VmRSS").unwrap(), fs::metadata(&journal).unwrap().len());
    write(LIMIT * 2..LIMIT * 20);
    let (memory_after, size_after) =
        (agent.process().status_kb("VmRSS").unwrap(), fs::metadata(&journal).unwrap().len());
    // A path takes some hundred bytes; all of them would take 10 MB and more. Each directory has its watch.
    assert!(memory_after < memory + 8_000, "{memory} KB became {memory_after} KB");
    assert!(size_after < size * 4 + (1 << 20), "a journal of {size} bytes became one of {size_after}");

    daemon.start();
    Judge::default().assert_converged(&place.source(), &place.path("copy"), Duration::from_secs(90));
}
