//! The tree of directories against one without any cleverness, and what it costs.

use crate::path::RelPath;
use crate::watch::descriptor::WatchDescriptor;
use crate::watch::tree::{NodeId, Tree};
use proptest::prelude::*;
use std::collections::{BTreeMap, BTreeSet};

fn watch(key: i32) -> WatchDescriptor {
    WatchDescriptor::new(key).unwrap()
}

/// What a tree is, without any cleverness: each node's path as a list of names, and its watch. The list of an
/// attached node starts with the empty string, that of a detached one with a name that no other has.
#[derive(Debug, Default)]
struct Naive {
    nodes: BTreeMap<NodeId, (Vec<String>, Option<i32>)>,
    gone: Vec<NodeId>,
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
    Trim,
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
        1 => Just(Operation::Trim),
    ]
}

fn apply(tree: &mut Tree, naive: &mut Naive, operation: Operation, number: usize) {
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
                    naive.gone.push(id);
                }
            }
            gone.retain(|key| naive.nodes.values().all(|(_, watch)| *watch != Some(*key)));
            let mut orphans: Vec<_> = tree.remove(node).into_iter().map(WatchDescriptor::key).collect();
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
            let former = tree.bind(node, watch(key)).map(WatchDescriptor::key);
            assert_eq!(former, naive.nodes.get_mut(&node).unwrap().1.replace(key));
        }
        Operation::Unbind(node) => {
            let node = *node.get(&ids);
            let former = tree.unbind(node).map(WatchDescriptor::key);
            assert_eq!(former, naive.nodes.get_mut(&node).unwrap().1.take());
        }
        Operation::Trim => tree.trim(),
    }
}

fn compare(tree: &mut Tree, naive: &Naive) {
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
    assert!(naive.gone.iter().all(|id| !tree.is_alive(*id) && tree.path(*id).is_none()));
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
        let mut tree = Tree::new();
        let mut naive = Naive::default();
        naive.nodes.insert(tree.root(), (vec![String::new()], None));
        for (number, operation) in operations.into_iter().enumerate() {
            apply(&mut tree, &mut naive, operation, number);
            compare(&mut tree, &naive);
        }
    }
}

#[test]
fn a_million_directories_take_90_bytes_each_and_give_them_back() {
    let test = "watch::tests::tree::a_million_directories_take_90_bytes_each_and_give_them_back";
    crate::heap::alone(test, |resident| {
        let before = resident();
        let mut tree = Tree::new();
        let mut directories = vec![tree.root()];
        for number in 1..=1_000_000 {
            let node = tree.insert(directories[number as usize / 10], format!("directory-{number}").as_bytes());
            tree.bind(node, watch(number));
            if number <= 100_000 {
                directories.push(node);
            }
        }
        drop(directories);
        let each = (resident() - before) / 1_000_000;
        assert!(each <= 90, "{each} bytes a directory");
        let top: Vec<_> = tree.children(tree.root()).collect();
        top.into_iter().for_each(|node| drop(tree.remove(node)));
        tree.trim();
        let left = resident() - before;
        // Some of it is what the test itself has touched.
        assert!(left < 8_000_000, "{left} bytes are left when all are gone");
    });
}
