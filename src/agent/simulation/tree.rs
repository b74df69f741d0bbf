//! A simulated directory tree, the source's or a remote's, and what its changes look like to a watch.

use crate::path::RelPath;
use crate::watch::{Change, Hint};
use std::collections::BTreeMap;
use std::ops::Bound;
use std::time::SystemTime;

/// What is at a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Body {
    Directory,
    /// Two contents can have one stamp: a change within one tick of the file system's clock keeps size and time.
    File {
        content: u64,
        stamp: u64,
    },
}

/// An entry of a tree.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Node {
    pub body: Body,
    /// Mode and owner.
    pub attributes: u64,
}

impl Node {
    pub fn directory() -> Self {
        Self { body: Body::Directory, attributes: 0 }
    }

    pub fn is_directory(self) -> bool {
        self.body == Body::Directory
    }

    /// Whether size and time tell the two apart, as rsync compares them.
    pub fn looks_like(self, other: Self) -> bool {
        match (self.body, other.body) {
            (Body::Directory, Body::Directory) => true,
            (Body::File { stamp, .. }, Body::File { stamp: other, .. }) => stamp == other,
            _ => false,
        }
    }
}

/// A tree without its root.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Tree(pub BTreeMap<RelPath, Node>);

impl Tree {
    pub fn get(&self, path: &RelPath) -> Option<Node> {
        if path.is_root() { Some(Node::directory()) } else { self.0.get(path).copied() }
    }

    /// What is below `directory`, parents before children.
    pub fn below(&self, directory: &RelPath) -> Vec<RelPath> {
        if directory.is_root() {
            return self.0.keys().cloned().collect();
        }
        let first = [directory.as_bytes(), b"/"].concat();
        let from = (Bound::Included(first.as_slice()), Bound::Unbounded);
        self.0
            .range::<[u8], _>(from)
            .map(|(path, _)| path)
            .take_while(|path| path.is_inside(directory))
            .cloned()
            .collect()
    }

    /// Removes `path` and what is below it.
    pub fn remove(&mut self, path: &RelPath) {
        for inside in self.below(path) {
            self.0.remove(&inside);
        }
        self.0.remove(path);
    }

    /// Puts `node` at `path`, with the directories above it; what is in the way goes.
    pub fn put(&mut self, path: &RelPath, node: Node) {
        for above in path.ancestors_below_root() {
            if !self.get(&above).is_some_and(Node::is_directory) {
                self.0.insert(above, Node::directory());
            }
        }
        if !node.is_directory() {
            self.remove(path);
        }
        self.0.insert(path.clone(), node);
    }
}

/// The source: a tree with the times at which its entries were last changed (`st_ctime`).
#[derive(Debug, Clone, Default)]
pub struct Source {
    pub tree: Tree,
    pub changed: BTreeMap<RelPath, SystemTime>,
}

/// Something that a writer does.
#[derive(Debug, Clone)]
pub enum Deed {
    /// Writes a file, which is made where there is none.
    Write(RelPath, Body),
    MakeDirectory(RelPath),
    /// Removes a file, or a directory with all that is in it, entry by entry.
    Remove(RelPath),
    Rename(RelPath, RelPath),
    SetAttributes(RelPath, u64),
}

impl Source {
    /// Does it, if the tree allows it. Returns what a watch would report of it; nothing where it was not possible.
    pub fn carry_out(&mut self, deed: &Deed, wall: SystemTime) -> Vec<Change> {
        let change = |path: &RelPath, hint: Hint| Change { path: path.clone(), hint, from: None };
        match deed {
            Deed::Write(path, body) => {
                let there = self.tree.get(path);
                if !self.has_parent(path) || there.is_some_and(Node::is_directory) {
                    return Vec::new();
                }
                let attributes = there.map_or(0, |node| node.attributes);
                self.put(path, Node { body: *body, attributes }, wall);
                vec![change(path, Hint::Entry)]
            }
            Deed::MakeDirectory(path) => {
                if !self.has_parent(path) || self.tree.get(path).is_some() {
                    return Vec::new();
                }
                self.put(path, Node::directory(), wall);
                vec![change(path, Hint::NewDirectory)]
            }
            Deed::Remove(path) => {
                if path.is_root() || self.tree.get(path).is_none() {
                    return Vec::new();
                }
                let mut gone = self.tree.below(path);
                gone.insert(0, path.clone());
                self.tree.remove(path);
                self.changed.retain(|path, _| !gone.contains(path));
                gone.iter().rev().map(|path| change(path, Hint::Removed)).collect()
            }
            Deed::Rename(from, to) => self.rename(from, to, wall),
            Deed::SetAttributes(path, attributes) => {
                let Some(node) = self.tree.get(path).filter(|_| !path.is_root()) else { return Vec::new() };
                self.put(path, Node { attributes: *attributes, ..node }, wall);
                vec![change(path, Hint::Attributes)]
            }
        }
    }

    fn rename(&mut self, from: &RelPath, to: &RelPath, wall: SystemTime) -> Vec<Change> {
        let Some(node) = self.tree.get(from).filter(|_| !from.is_root() && !to.is_root()) else { return Vec::new() };
        let fits = match self.tree.get(to) {
            None => true,
            Some(there) if there.is_directory() => node.is_directory() && self.tree.below(to).is_empty(),
            Some(_) => !node.is_directory(),
        };
        if !fits || from == to || to.is_inside(from) || from.is_inside(to) || !self.has_parent(to) {
            return Vec::new();
        }
        let inside = self.tree.below(from);
        let moved: Vec<(RelPath, Node, SystemTime)> = inside
            .iter()
            .map(|path| {
                let tail = &path.as_bytes()[from.as_bytes().len()..];
                let new = RelPath::new(&[to.as_bytes(), tail].concat()).expect("a path of the tree, renamed");
                (new, self.tree.0[path], self.changed[path])
            })
            .collect();
        self.tree.remove(from);
        self.changed.retain(|path, _| path != from && !path.is_inside(from));
        // Of what is renamed the kernel sets the ctime; of what is in it, it does not.
        self.put(to, node, wall);
        for (path, node, changed) in moved {
            self.put(&path, node, changed);
        }
        let (left, came) = match node.is_directory() {
            true => (Hint::Rescan, Hint::Arrived),
            false => (Hint::Removed, Hint::Entry),
        };
        vec![
            Change { path: from.clone(), hint: left, from: None },
            Change { path: to.clone(), hint: came, from: Some(from.clone()) },
        ]
    }

    /// The files that were changed at `since` or later.
    pub fn changed_since(&self, since: SystemTime) -> Vec<Change> {
        let is_file = |path: &&RelPath| self.tree.get(path).is_some_and(|node| !node.is_directory());
        let late = self.changed.iter().filter(|(_, at)| **at >= since).map(|(path, _)| path).filter(is_file);
        late.map(|path| Change { path: path.clone(), hint: Hint::Entry, from: None }).collect()
    }

    fn has_parent(&self, path: &RelPath) -> bool {
        path.parent().is_some_and(|parent| self.tree.get(&parent).is_some_and(Node::is_directory))
    }

    fn put(&mut self, path: &RelPath, node: Node, wall: SystemTime) {
        self.tree.put(path, node);
        self.changed.insert(path.clone(), wall);
    }
}
