//! [`Table`]: an index from a key to numbers, eight bytes a slot, because it holds the numbers and their hashes alone.
//!
//! The keys lie where the numbers point to: whoever asks brings the key's hash, and a way to compare what a number
//! stands for. That is looked at only where the hash is the same, and never when the table grows: at a million entries
//! each such look is a wait for memory. Several numbers may have the same key. Open addressing with linear probing; an
//! entry is removed by moving its followers back, so there are no tombstones and look-ups do not slow down with age.

/// The fewest slots, a power of two.
const SMALL: usize = 8;

/// What a slot holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Slot {
    hash: u32,
    number: u32,
}

/// A slot that holds no number.
const EMPTY: Slot = Slot { hash: 0, number: u32::MAX };

/// The index.
#[derive(Debug, Default)]
pub struct Table {
    /// A power of two of them, or none.
    slots: Vec<Slot>,
    entries: usize,
}

impl Table {
    /// All numbers that were added under this `hash` and pass `is`.
    pub fn matching<'a>(&'a self, hash: u32, is: impl Fn(u32) -> bool + 'a) -> impl Iterator<Item = u32> + 'a {
        let run = self.probe(hash).map(|at| self.slots[at]).take_while(|slot| *slot != EMPTY);
        run.filter(move |slot| slot.hash == hash && is(slot.number)).map(|slot| slot.number)
    }

    /// Adds `number` under `hash`.
    pub fn insert(&mut self, hash: u32, number: u32) {
        debug_assert_ne!(number, EMPTY.number, "the marker of empty slots is no number");
        if (self.entries + 1) * 4 > self.slots.len() * 3 {
            self.resize((self.slots.len() * 2).max(SMALL));
        }
        self.place(Slot { hash, number });
        self.entries += 1;
    }

    /// Takes `number`, which was added under `hash`, out again; says whether it was there.
    pub fn remove(&mut self, hash: u32, number: u32) -> bool {
        let mask = self.slots.len().wrapping_sub(1);
        let wanted = Slot { hash, number };
        let found = self.probe(hash).take_while(|at| self.slots[*at] != EMPTY).find(|at| self.slots[*at] == wanted);
        let Some(mut hole) = found else { return false };
        let mut next = (hole + 1) & mask;
        while self.slots[next] != EMPTY {
            let home = self.slots[next].hash as usize & mask;
            // An entry may move back into the hole only if the hole is not before its home.
            if next.wrapping_sub(home) & mask >= next.wrapping_sub(hole) & mask {
                self.slots[hole] = self.slots[next];
                hole = next;
            }
            next = (next + 1) & mask;
        }
        self.slots[hole] = EMPTY;
        self.entries -= 1;
        // Far from where it grows, so that it does not go to and fro.
        if self.slots.len() > SMALL && self.entries * 8 < self.slots.len() {
            self.resize(self.slots.len() / 2);
        }
        true
    }

    /// The slots to look at for `hash`, in order. At least a quarter of all slots is empty, so a search that stops at
    /// an empty one ends.
    fn probe(&self, hash: u32) -> impl Iterator<Item = usize> + use<> {
        let (length, mask) = (self.slots.len(), self.slots.len().wrapping_sub(1));
        (0..length).map(move |step| (hash as usize).wrapping_add(step) & mask)
    }

    fn place(&mut self, slot: Slot) {
        let free = self.probe(slot.hash).find(|at| self.slots[*at] == EMPTY);
        self.slots[free.expect("a quarter of the slots is empty")] = slot;
    }

    fn resize(&mut self, slots: usize) {
        let old = std::mem::replace(&mut self.slots, vec![EMPTY; slots]);
        old.into_iter().filter(|slot| *slot != EMPTY).for_each(|slot| self.place(slot));
    }
}
