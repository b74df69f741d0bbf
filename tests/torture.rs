//! Thousands of random operations, with harm done meanwhile; at the end source and copies are equal.
//!
//! `SERSYNC_SEED` replays a run, `SERSYNC_TORTURE_OPS` lengthens it.

mod support;

use fastrand::Rng;
use std::time::Duration;
use support::rsyncd::Plan;
use support::scene::{MODULE, Place};
use support::tree::Judge;
use support::until;
use support::writer::Writer;

fn from_environment(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{name} is no number: {text:?}")))
}

#[test]
fn after_random_operations_and_random_harm_all_is_equal() {
    let seed = from_environment("SERSYNC_SEED").unwrap_or_else(|| fastrand::u64(..));
    let operations = from_environment("SERSYNC_TORTURE_OPS").unwrap_or(20_000);
    println!("to replay: SERSYNC_SEED={seed} SERSYNC_TORTURE_OPS={operations} cargo test --test torture");
    let mut rng = Rng::with_seed(seed);

    let place = Place::new();
    let mut daemons = ["d1", "d2"]
        .map(|name| Plan::new(&place.path(name)).module(MODULE, &place.path(&format!("{name}/copy")), &[]).start());
    let mut agent = place.launch().mirror(&place.source(), [daemons[0].url(MODULE), daemons[1].url(MODULE)]).start();
    let mut writer = Writer::new(rng.u64(..), &place.source(), &place.path("outside"));

    let mut left = operations;
    let mut turn = 0_u32;
    while left > 0 {
        let step = rng.u64(50..800).min(left);
        left -= step;
        turn += 1;
        match rng.u8(..10) {
            // A remote dies, and is back some operations later.
            0..=2 => {
                let daemon = &mut daemons[rng.usize(..2)];
                daemon.stop();
                writer.run(step);
                daemon.start();
            }
            // The agent is stopped by its supervisor; what happens meanwhile it has to find by itself.
            3 => {
                agent.terminate();
                writer.run(step);
                agent.start_again();
            }
            // The agent is killed in the middle of whatever it does.
            4 => {
                writer.run(step / 2);
                agent.kill();
                writer.run(step - step / 2);
                agent.start_again();
            }
            _ => writer.run(step),
        }
        // Now and then all comes to rest, so that a mistake is found near its cause.
        if turn.is_multiple_of(12) {
            for name in ["d1/copy", "d2/copy"] {
                Judge::default().but_remains().assert_converged(
                    &place.source(),
                    &place.path(name),
                    Duration::from_secs(60),
                );
            }
        }
    }
    for name in ["d1/copy", "d2/copy"] {
        Judge::default().but_remains().assert_converged(&place.source(), &place.path(name), Duration::from_secs(90));
    }
    assert!(writer.done > operations / 2, "only {} operations did something", writer.done);

    let children = agent.children();
    assert!(agent.process().descriptors() < 60, "{} descriptors are open", agent.process().descriptors());
    agent.terminate();
    until("the end of all its processes", Duration::from_secs(5), || children.iter().all(|child| !child.lives()));
}
