//! [`Tree`]: the watched directories of one root, and which watch belongs to which.
//!
//! A node is (parent, name): renaming a directory of a million others is one step, and a path is put together when it
//! is needed. A node may be detached: it keeps its subtree and its watches but has no path until it is attached again.
//! Several nodes may share one watch (a bind mount shows one directory at two places).
//!
//! Nothing here touches the disk or the kernel. What a watch is, is up to the caller: anything with a number.
//!
//! Memory: 56 bytes a node, its name on the heap, and two index entries of 8 bytes. A million directories named like
//! `directory-123456` took 114 MB of resident memory, 114 bytes each (measured by the last test below; x86-64, glibc).

use super::table::Table;
use crate::path::RelPath;
use std::hash::{BuildHasher, RandomState};

/// What the kernel calls a watch descriptor: what a node is watched by.
pub trait Watch {
    /// The number that comes with each event.
    fn key(&self) -> i32;
}

impl Watch for inotify::WatchDescriptor {
    fn key(&self) -> i32 {
        self.get_watch_descriptor_id()
    }
}

/// Names a node for as long as it lives; never names another one afterwards.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct NodeId {
    index: u32,
    serial: u32,
}

/// "No node" among the links of a node.
const NONE: u32 = u32::MAX;
/// The root is the first node, always.
const ROOT: u32 = 0;

#[derive(Debug)]
struct Node<W> {
    /// Empty for the root.
    name: Box<[u8]>,
    watch: Option<W>,
    /// Zero while the slot is free.
    serial: u32,
    /// The number of the last listing that saw it.
    mark: u32,
    /// [`NONE`] for the root and for a detached node.
    parent: u32,
    first_child: u32,
    previous: u32,
    next: u32,
}

/// The watched directories.
#[derive(Debug)]
pub struct Tree<W> {
    nodes: Vec<Node<W>>,
    free: Vec<u32>,
    by_name: Table,
    by_watch: Table,
    hasher: RandomState,
    last_serial: u32,
    watched: usize,
    /// The path asked for last: events come in runs for one directory.
    last_path: Option<(NodeId, RelPath)>,
}

impl<W: Watch> Tree<W> {
    /// The root alone, not watched yet.
    pub fn new() -> Self {
        let root = Node {
            name: Box::default(),
            watch: None,
            serial: 1,
            mark: 0,
            parent: NONE,
            first_child: NONE,
            previous: NONE,
            next: NONE,
        };
        Self {
            nodes: vec![root],
            free: Vec::new(),
            by_name: Table::default(),
            by_watch: Table::default(),
            hasher: RandomState::new(),
            last_serial: 1,
            watched: 0,
            last_path: None,
        }
    }

    /// The root's node.
    pub fn root(&self) -> NodeId {
        self.id(ROOT)
    }

    /// Whether this node was not removed since.
    pub fn is_alive(&self, id: NodeId) -> bool {
        self.nodes[id.index as usize].serial == id.serial
    }

    /// How many nodes have a watch.
    pub fn watched(&self) -> usize {
        self.watched
    }

    /// The directory `name` in `parent`.
    pub fn child(&self, parent: NodeId, name: &[u8]) -> Option<NodeId> {
        debug_assert!(self.is_alive(parent));
        let parent = parent.index;
        let hash = self.hasher.hash_one((parent, name));
        let is = |index: u32| {
            let node = &self.nodes[index as usize];
            node.parent == parent && *node.name == *name
        };
        self.by_name.matching(hash, is).next().map(|index| self.id(index))
    }

    /// The directory at `path`.
    pub fn find(&self, path: &RelPath) -> Option<NodeId> {
        let mut names = path.as_bytes().split(|byte| *byte == b'/').filter(|name| !name.is_empty());
        names.try_fold(self.root(), |node, name| self.child(node, name))
    }

    /// The directories in `parent`, in no order.
    pub fn children(&self, parent: NodeId) -> impl Iterator<Item = NodeId> + '_ {
        let existing = |index: u32| (index != NONE).then_some(index);
        let first = existing(self.nodes[parent.index as usize].first_child);
        std::iter::successors(first, move |index| existing(self.nodes[*index as usize].next))
            .map(|index| self.id(index))
    }

    /// Adds the directory `name`, which `parent` does not have yet.
    pub fn insert(&mut self, parent: NodeId, name: &[u8]) -> NodeId {
        self.last_serial = self.last_serial.wrapping_add(1).max(1);
        let node = Node {
            name: Box::from(name),
            watch: None,
            serial: self.last_serial,
            mark: 0,
            parent: NONE,
            first_child: NONE,
            previous: NONE,
            next: NONE,
        };
        let index = match self.free.pop() {
            Some(index) => {
                self.nodes[index as usize] = node;
                index
            }
            None => {
                let index = u32::try_from(self.nodes.len()).expect("inotify has less than 2^31 watches");
                self.nodes.push(node);
                index
            }
        };
        self.link(index, parent.index);
        self.id(index)
    }

    /// Takes a node and what is below it out of its parent. It lives on, without a path.
    pub fn detach(&mut self, id: NodeId) {
        debug_assert!(self.is_alive(id) && id.index != ROOT);
        self.last_path = None;
        let index = id.index;
        if self.nodes[index as usize].parent == NONE {
            return;
        }
        let hash = self.name_hash(index);
        let (nodes, hasher) = (&self.nodes, &self.hasher);
        self.by_name.remove(hash, index, |other| name_hash(hasher, &nodes[other as usize]));
        let Node { parent, previous, next, .. } = self.nodes[index as usize];
        match previous {
            NONE => self.nodes[parent as usize].first_child = next,
            previous => self.nodes[previous as usize].next = next,
        }
        if next != NONE {
            self.nodes[next as usize].previous = previous;
        }
        let node = &mut self.nodes[index as usize];
        (node.parent, node.previous, node.next) = (NONE, NONE, NONE);
    }

    /// Puts a detached node into `parent` as `name`, which `parent` does not have, and which is not below the node.
    pub fn attach(&mut self, id: NodeId, parent: NodeId, name: &[u8]) {
        debug_assert!(self.is_alive(id) && self.nodes[id.index as usize].parent == NONE);
        debug_assert!(!self.is_in(parent, id), "a directory does not lie in itself");
        self.last_path = None;
        self.nodes[id.index as usize].name = Box::from(name);
        self.link(id.index, parent.index);
    }

    /// The directory that holds the node; `None` for the root and for a detached node.
    pub fn parent(&self, id: NodeId) -> Option<NodeId> {
        let parent = self.nodes[id.index as usize].parent;
        (parent != NONE).then(|| self.id(parent))
    }

    /// Whether `id` is `above` or lies below it.
    pub fn is_in(&self, id: NodeId, above: NodeId) -> bool {
        std::iter::successors(Some(id), |node| self.parent(*node)).any(|node| node == above)
    }

    /// Where the node lies; `None` if it, or what it lies in, is detached or removed.
    pub fn path(&mut self, id: NodeId) -> Option<RelPath> {
        if !self.is_alive(id) {
            return None;
        }
        if let Some((last, path)) = &self.last_path
            && *last == id
        {
            return Some(path.clone());
        }
        let mut names = Vec::new();
        let mut index = id.index;
        while index != ROOT {
            let node = &self.nodes[index as usize];
            if node.parent == NONE {
                return None;
            }
            names.push(&*node.name);
            index = node.parent;
        }
        names.reverse();
        let path = RelPath::new(&names.join(&b'/')).expect("each name came from the kernel: one component");
        self.last_path = Some((id, path.clone()));
        Some(path)
    }

    /// Removes a node and all below it. Returns the watches that no node has any more. Of the root it removes what is
    /// below, and the watch.
    pub fn remove(&mut self, id: NodeId) -> Vec<W> {
        debug_assert!(self.is_alive(id));
        self.last_path = None;
        if id.index != ROOT {
            self.detach(id);
        }
        let mut orphans = Vec::new();
        let mut rest = vec![id.index];
        while let Some(index) = rest.pop() {
            let id = self.id(index);
            rest.extend(self.children(id).map(|child| child.index));
            if let Some(watch) = self.unbind(id)
                && self.watched_by(watch.key()).next().is_none()
            {
                orphans.push(watch);
            }
            if index == ROOT {
                self.nodes[ROOT as usize].first_child = NONE;
                continue;
            }
            if self.nodes[index as usize].parent != NONE {
                let hash = self.name_hash(index);
                let (nodes, hasher) = (&self.nodes, &self.hasher);
                self.by_name.remove(hash, index, |other| name_hash(hasher, &nodes[other as usize]));
            }
            let node = &mut self.nodes[index as usize];
            (node.serial, node.parent, node.first_child, node.name) = (0, NONE, NONE, Box::default());
            self.free.push(index);
        }
        orphans
    }

    /// Gives the node a watch, besides whatever other nodes have it; returns the one it had.
    pub fn bind(&mut self, id: NodeId, watch: W) -> Option<W> {
        debug_assert!(self.is_alive(id));
        let former = self.unbind(id);
        let hash = watch_hash(watch.key());
        self.nodes[id.index as usize].watch = Some(watch);
        let nodes = &self.nodes;
        self.by_watch.insert(hash, id.index, |other| node_watch_hash(&nodes[other as usize]));
        self.watched += 1;
        former
    }

    /// Takes the node's watch away.
    pub fn unbind(&mut self, id: NodeId) -> Option<W> {
        let key = self.watch_key(id)?;
        let nodes = &self.nodes;
        self.by_watch.remove(watch_hash(key), id.index, |other| node_watch_hash(&nodes[other as usize]));
        self.watched -= 1;
        self.nodes[id.index as usize].watch.take()
    }

    /// The number of the node's watch.
    pub fn watch_key(&self, id: NodeId) -> Option<i32> {
        self.nodes[id.index as usize].watch.as_ref().map(Watch::key)
    }

    /// The nodes that have this watch.
    pub fn watched_by(&self, key: i32) -> impl Iterator<Item = NodeId> + '_ {
        let is = move |index: u32| self.nodes[index as usize].watch.as_ref().is_some_and(|watch| watch.key() == key);
        self.by_watch.matching(watch_hash(key), is).map(|index| self.id(index))
    }

    /// Notes that listing number `mark` saw the node.
    pub fn set_mark(&mut self, id: NodeId, mark: u32) {
        self.nodes[id.index as usize].mark = mark;
    }

    /// The last listing that saw the node.
    pub fn mark(&self, id: NodeId) -> u32 {
        self.nodes[id.index as usize].mark
    }

    fn id(&self, index: u32) -> NodeId {
        NodeId { index, serial: self.nodes[index as usize].serial }
    }

    fn link(&mut self, index: u32, parent: u32) {
        let first = self.nodes[parent as usize].first_child;
        if first != NONE {
            self.nodes[first as usize].previous = index;
        }
        self.nodes[parent as usize].first_child = index;
        let node = &mut self.nodes[index as usize];
        (node.parent, node.previous, node.next) = (parent, NONE, first);
        let hash = self.name_hash(index);
        let (nodes, hasher) = (&self.nodes, &self.hasher);
        self.by_name.insert(hash, index, |other| name_hash(hasher, &nodes[other as usize]));
    }

    fn name_hash(&self, index: u32) -> u64 {
        name_hash(&self.hasher, &self.nodes[index as usize])
    }
}

fn name_hash<W>(hasher: &RandomState, node: &Node<W>) -> u64 {
    hasher.hash_one((node.parent, &*node.name))
}

fn node_watch_hash<W: Watch>(node: &Node<W>) -> u64 {
    watch_hash(node.watch.as_ref().map_or(0, Watch::key))
}

/// The kernel counts watch descriptors up: neighbours must not all end in one run of slots.
fn watch_hash(key: i32) -> u64 {
    u64::from(key.cast_unsigned()).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::{BTreeMap, BTreeSet};

    impl Watch for i32 {
        fn key(&self) -> i32 {
            *self
        }
    }

    /// What a tree is, without any cleverness: each node's path as a list of names, and its watch. The list of an
    /// attached node starts with the empty string, that of a detached one with a name that no other has.
    #[derive(Debug, Default)]
    struct Naive {
        nodes: BTreeMap<NodeId, (Vec<String>, Option<i32>)>,
    }

    impl Naive {
        fn inside(&self, node: NodeId) -> Vec<NodeId> {
            let prefix = &self.nodes[&node].0;
            self.nodes.iter().filter(|(_, (path, _))| path.starts_with(prefix)).map(|(id, _)| *id).collect()
        }

        fn replace_prefix(&mut self, node: NodeId, with: &[String]) {
            let length = self.nodes[&node].0.len();
            for id in self.inside(node) {
                let path = &mut self.nodes.get_mut(&id).unwrap().0;
                *path = [with, &path[length..]].concat();
            }
        }
    }

    #[derive(Debug, Clone)]
    enum Operation {
        Insert(prop::sample::Index, u8),
        Remove(prop::sample::Index),
        Detach(prop::sample::Index),
        Attach(prop::sample::Index, prop::sample::Index, u8),
        Bind(prop::sample::Index, i32),
        Unbind(prop::sample::Index),
    }

    fn operation() -> impl Strategy<Value = Operation> {
        let node = any::<prop::sample::Index>;
        prop_oneof![
            6 => (node(), 0..6u8).prop_map(|(parent, name)| Operation::Insert(parent, name)),
            1 => node().prop_map(Operation::Remove),
            1 => node().prop_map(Operation::Detach),
            2 => (node(), node(), 0..6u8).prop_map(|(node, parent, name)| Operation::Attach(node, parent, name)),
            3 => (node(), 1..20i32).prop_map(|(node, key)| Operation::Bind(node, key)),
            1 => node().prop_map(Operation::Unbind),
        ]
    }

    fn apply(tree: &mut Tree<i32>, naive: &mut Naive, operation: Operation, number: usize) {
        let ids: Vec<_> = naive.nodes.keys().copied().collect();
        match operation {
            Operation::Insert(parent, name) => {
                let (parent, name) = (*parent.get(&ids), name.to_string());
                let path = [naive.nodes[&parent].0.clone(), vec![name.clone()]].concat();
                let known = naive.nodes.iter().find(|(_, (known, _))| *known == path).map(|(id, _)| *id);
                assert_eq!(tree.child(parent, name.as_bytes()), known);
                if known.is_none() {
                    let id = tree.insert(parent, name.as_bytes());
                    assert!(naive.nodes.insert(id, (path, None)).is_none(), "a new id");
                }
            }
            Operation::Remove(node) => {
                let node = *node.get(&ids);
                let mut gone = BTreeSet::new();
                for id in naive.inside(node) {
                    gone.extend(naive.nodes.get_mut(&id).unwrap().1.take());
                    if id != tree.root() {
                        naive.nodes.remove(&id);
                    }
                }
                gone.retain(|key| naive.nodes.values().all(|(_, watch)| *watch != Some(*key)));
                let mut orphans = tree.remove(node);
                orphans.sort_unstable();
                assert_eq!(orphans, gone.into_iter().collect::<Vec<_>>(), "each watch once, and no shared one");
            }
            Operation::Detach(node) => {
                let node = *node.get(&ids);
                if tree.parent(node).is_some() {
                    tree.detach(node);
                    naive.replace_prefix(node, &[format!("detached by {number}")]);
                }
            }
            Operation::Attach(node, parent, name) => {
                let (node, parent, name) = (*node.get(&ids), *parent.get(&ids), name.to_string());
                let is_free = tree.child(parent, name.as_bytes()).is_none();
                let is_top = node != tree.root() && tree.parent(node).is_none();
                assert_eq!(tree.is_in(parent, node), naive.inside(node).contains(&parent));
                if is_free && is_top && !tree.is_in(parent, node) {
                    let path = [naive.nodes[&parent].0.clone(), vec![name.clone()]].concat();
                    tree.attach(node, parent, name.as_bytes());
                    naive.replace_prefix(node, &path);
                }
            }
            Operation::Bind(node, key) => {
                let node = *node.get(&ids);
                assert_eq!(tree.bind(node, key), naive.nodes.get_mut(&node).unwrap().1.replace(key));
            }
            Operation::Unbind(node) => {
                let node = *node.get(&ids);
                assert_eq!(tree.unbind(node), naive.nodes.get_mut(&node).unwrap().1.take());
            }
        }
    }

    fn compare(tree: &mut Tree<i32>, naive: &Naive) {
        for (id, (names, watch)) in &naive.nodes {
            assert!(tree.is_alive(*id));
            let path = names[0].is_empty().then(|| RelPath::new(names[1..].join("/").as_bytes()).unwrap());
            assert_eq!(tree.path(*id), path);
            assert_eq!(tree.watch_key(*id), *watch);
            if let Some(path) = path {
                assert_eq!(tree.find(&path), Some(*id));
            }
            let is_child = |path: &[String]| path.len() == names.len() + 1 && path.starts_with(names);
            let children = naive.nodes.iter().filter(|(_, (path, _))| is_child(path)).map(|(id, _)| *id);
            assert_eq!(tree.children(*id).collect::<BTreeSet<_>>(), children.collect());
        }
        for key in 1..20 {
            let owners = naive.nodes.iter().filter(|(_, (_, watch))| *watch == Some(key)).map(|(id, _)| *id);
            assert_eq!(tree.watched_by(key).collect::<BTreeSet<_>>(), owners.collect());
        }
        assert_eq!(tree.watched(), naive.nodes.values().filter(|(_, watch)| watch.is_some()).count());
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn is_what_the_naive_tree_is(operations in prop::collection::vec(operation(), 1..150)) {
            let mut tree: Tree<i32> = Tree::new();
            let mut naive = Naive::default();
            naive.nodes.insert(tree.root(), (vec![String::new()], None));
            for (number, operation) in operations.into_iter().enumerate() {
                apply(&mut tree, &mut naive, operation, number);
                compare(&mut tree, &naive);
            }
        }
    }

    /// Other tests allocate, too: the measuring is done by this very test in a process of its own.
    #[test]
    fn a_million_directories_take_120_bytes_each() {
        const ALONE: &str = "SERSYNC_TEST_MEASURES";
        if std::env::var_os(ALONE).is_none() {
            let _turn = crate::forks::some();
            let test = "watch::tree::tests::a_million_directories_take_120_bytes_each";
            let mut alone = std::process::Command::new(std::env::current_exe().unwrap());
            let output = alone.args([test, "--exact", "--nocapture"]).env(ALONE, "1").output().unwrap();
            assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
            assert!(String::from_utf8_lossy(&output.stdout).contains("bytes a directory"), "nothing was measured");
            return;
        }
        /// As large as [`inotify::WatchDescriptor`].
        struct AsLarge([u64; 2]);
        impl Watch for AsLarge {
            fn key(&self) -> i32 {
                i32::try_from(self.0[0]).unwrap()
            }
        }
        assert_eq!(size_of::<AsLarge>(), size_of::<inotify::WatchDescriptor>());
        let resident = || {
            let status = std::fs::read_to_string("/proc/self/statm").unwrap();
            status.split(' ').nth(1).unwrap().parse::<usize>().unwrap() * 4096
        };
        let before = resident();
        let mut tree = Tree::new();
        let mut directories = Vec::new();
        directories.push(tree.root());
        for number in 1..=1_000_000_u64 {
            let node = tree.insert(directories[number as usize / 10], format!("directory-{number}").as_bytes());
            tree.bind(node, AsLarge([number; 2]));
            if number <= 100_000 {
                directories.push(node);
            }
        }
        drop(directories);
        let each = (resident() - before) / 1_000_000;
        println!("{each} bytes a directory; a node is {}", size_of::<Node<inotify::WatchDescriptor>>());
        assert!(each <= 120);
    }
}
