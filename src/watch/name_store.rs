//! [`NameStore`]: the names of a million directories, one behind the other in one piece of memory.
//!
//! A name of its own on the heap costs a pointer, a length and what the allocator rounds up, more than the name itself.
//! Here it costs its bytes and two more for their number, and is called by where it begins. Names that were dropped leave
//! gaps; who owns the names moves them to a new store when there are too many.

/// Where a name begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Name(u32);

/// Bytes before each name: their number.
const LENGTH: usize = 2;

/// The names.
#[derive(Debug, Default)]
pub struct NameStore {
    bytes: Vec<u8>,
    /// Bytes that are no name any more.
    dropped: usize,
}

impl NameStore {
    /// One with room for what `other` holds, gaps aside.
    pub fn as_large_as(other: &Self) -> Self {
        Self { bytes: Vec::with_capacity(other.bytes.len() - other.dropped), dropped: 0 }
    }

    /// Adds a name.
    pub fn push(&mut self, name: &[u8]) -> Name {
        let length = u16::try_from(name.len()).expect("the kernel counts the bytes of a directory entry in 16 bits");
        // 200 million directories with names of 20 bytes, whose watches would take the kernel 200 GB and more.
        let start = u32::try_from(self.bytes.len()).expect("there are less than 4 GiB of names");
        self.bytes.extend_from_slice(&length.to_ne_bytes());
        self.bytes.extend_from_slice(name);
        Name(start)
    }

    /// The bytes of a name.
    pub fn get(&self, name: Name) -> &[u8] {
        let (start, length) = self.place(name);
        &self.bytes[start..start + length]
    }

    /// Drops a name.
    pub fn remove(&mut self, name: Name) {
        self.dropped += LENGTH + self.place(name).1;
    }

    /// Bytes in all.
    pub fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Bytes that were dropped.
    pub fn gaps(&self) -> usize {
        self.dropped
    }

    fn place(&self, Name(start): Name) -> (usize, usize) {
        let start = start as usize;
        let length = u16::from_ne_bytes([self.bytes[start], self.bytes[start + 1]]);
        (start + LENGTH, usize::from(length))
    }
}
