//! What a million pending paths cost, and that their memory goes when they have gone.

use super::{Ending, Kind, Lane, PendingSet, Seq};
use crate::heap;
use crate::path::RelPath;
use std::time::{Instant, SystemTime};

#[test]
fn a_million_paths_take_300_bytes_each_and_give_them_back() {
    let test = "pending::memory_test::a_million_paths_take_300_bytes_each_and_give_them_back";
    heap::alone(test, |resident| {
        let before = resident();
        let mut set: PendingSet<()> = PendingSet::new(2_000_000);
        for number in 0..1_000_000_u64 {
            let path = format!("uploads-{:05}/picture-{:06}.jpg", number % 1000, number / 1000);
            set.report(RelPath::of_names(path.as_bytes()), Kind::Entry, Seq(number), SystemTime::UNIX_EPOCH, false);
            // As the journal does, turn by turn.
            drop(set.take_touched());
        }
        let each = (resident() - before) / 1_000_000;
        assert!(each <= 300, "{each} bytes a path");
        assert!(!set.trim(), "nothing has gone yet");

        let now = Instant::now();
        while set.waiting() > 1000 {
            let batch = set.take(Lane::Live, 9_990, now).unwrap();
            set.finish(batch.id, Ending::success(SystemTime::UNIX_EPOCH, now), Seq(1_000_001));
            drop(set.take_touched());
        }
        assert!(set.trim());
        heap::give_back();
        assert!(!set.trim(), "once");
        let left = resident() - before;
        assert!(left < 30_000_000, "{left} bytes are left when all but 1,000 have gone");
        let last = RelPath::of_names(b"uploads-00999/picture-000999.jpg");
        assert_eq!((set.waiting(), set.get(&last).map(|entry| entry.seq)), (1000, Some(Seq(999_999))));
    });
}
