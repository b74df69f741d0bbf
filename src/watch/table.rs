//! [`Table`]: an index from a key to numbers, which costs eight bytes an entry because it holds the numbers alone.
//!
//! The keys lie where the numbers point to: whoever asks brings the key's hash, and a way to compare or to hash what a
//! number stands for. Several numbers may have the same key. Open addressing with linear probing; an entry is removed
//! by moving its followers back, so there are no tombstones and look-ups do not slow down with age.

/// A slot that holds no number.
const EMPTY: u32 = u32::MAX;

/// The index.
#[derive(Debug, Default)]
pub struct Table {
    /// A power of two of them, or none.
    slots: Vec<u32>,
    entries: usize,
}

impl Table {
    /// All numbers whose key has this `hash` and passes `is`.
    pub fn matching<'a>(&'a self, hash: u64, is: impl Fn(u32) -> bool + 'a) -> impl Iterator<Item = u32> + 'a {
        self.probe(hash).map(|slot| self.slots[slot]).take_while(|number| *number != EMPTY).filter(move |n| is(*n))
    }

    /// Adds `number` under `hash`. `rehash` gives the hash of any number that is in the table.
    pub fn insert(&mut self, hash: u64, number: u32, rehash: impl Fn(u32) -> u64) {
        debug_assert_ne!(number, EMPTY, "the marker of empty slots is no number");
        if (self.entries + 1) * 4 > self.slots.len() * 3 {
            let larger = (self.slots.len() * 2).max(8);
            let old = std::mem::replace(&mut self.slots, vec![EMPTY; larger]);
            for number in old.into_iter().filter(|number| *number != EMPTY) {
                self.place(rehash(number), number);
            }
        }
        self.place(hash, number);
        self.entries += 1;
    }

    /// Takes `number`, which was added under `hash`, out again; says whether it was there.
    pub fn remove(&mut self, hash: u64, number: u32, rehash: impl Fn(u32) -> u64) -> bool {
        let mask = self.slots.len().wrapping_sub(1);
        let found =
            self.probe(hash).take_while(|slot| self.slots[*slot] != EMPTY).find(|slot| self.slots[*slot] == number);
        let Some(mut hole) = found else { return false };
        let mut next = (hole + 1) & mask;
        while self.slots[next] != EMPTY {
            let home = rehash(self.slots[next]) as usize & mask;
            // An entry may move back into the hole only if the hole is not before its home.
            if next.wrapping_sub(home) & mask >= next.wrapping_sub(hole) & mask {
                self.slots[hole] = self.slots[next];
                hole = next;
            }
            next = (next + 1) & mask;
        }
        self.slots[hole] = EMPTY;
        self.entries -= 1;
        true
    }

    /// The slots to look at for `hash`, in order. At least a quarter of all slots is empty, so a search that stops at
    /// an empty one ends.
    fn probe(&self, hash: u64) -> impl Iterator<Item = usize> + use<> {
        let (length, mask) = (self.slots.len(), self.slots.len().wrapping_sub(1));
        (0..length).map(move |step| (hash as usize).wrapping_add(step) & mask)
    }

    fn place(&mut self, hash: u64, number: u32) {
        let free = self.probe(hash).find(|slot| self.slots[*slot] == EMPTY);
        self.slots[free.expect("a quarter of the slots is empty")] = number;
    }
}
