//! Who publishes which namespace, and who wants to know: a tree by namespace field.

use std::collections::BTreeMap;

use aip_codec::{
    aip::hops::Hops,
    moqt::{id::RequestId, name::TrackNamespace},
};
use bytes::Bytes;
use slab::Slab;

use super::peer::PeerIndex;

/// A request in a session: what the tree's entries are named by.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub(crate) struct RequestKey {
    pub(crate) peer: PeerIndex,
    pub(crate) request: RequestId,
}

/// A way to whoever publishes a namespace.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Route {
    /// The request by which a session of ours told of it: the next step of the way.
    pub(crate) key: RequestKey,
    /// The relays on the way, the furthest first; none if the session itself publishes.
    pub(crate) hops: Hops,
    /// What the whole way costs.
    pub(crate) cost: u64,
    /// Whether the next step is another shard of this relay, which is no hop.
    pub(crate) shard: bool,
}

impl Route {
    /// A way to a session of ours that publishes.
    pub(crate) const fn direct(key: RequestKey) -> Self {
        Self { key, hops: Hops::new(), cost: 0, shard: false }
    }

    /// Whether who publishes is no further relay.
    pub(crate) fn is_direct(&self) -> bool {
        self.hops.is_empty()
    }

    /// The smaller, the better: the cost, then the relays passed, then what is the same everywhere
    /// and at all times; of equal ways the one that needs no other shard.
    fn rank(&self) -> (u64, usize, &Hops, bool, RequestKey) {
        (self.cost, self.hops.len(), &self.hops, self.shard, self.key)
    }
}

/// What a request wants to know of the namespaces under its prefix.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Interest {
    /// Which there are (SUBSCRIBE_NAMESPACE).
    Namespaces,
    /// Every track in them (SUBSCRIBE_TRACKS).
    Tracks,
}

/// The tree. A node lives as long as something stands at it or below it.
#[derive(Debug)]
pub(crate) struct NamespaceTree {
    nodes: Slab<Node>,
    root: usize,
    published: usize,
    /// Those of them that other shards have told.
    by_shards: usize,
}

#[derive(Debug, Default)]
struct Node {
    parent: Option<usize>,
    field: Bytes,
    children: BTreeMap<Bytes, usize>,
    /// The best one first; at most one by the same request.
    publishers: Vec<Route>,
    interests: Vec<(RequestKey, Interest)>,
}

impl NamespaceTree {
    pub(crate) fn new() -> Self {
        let mut nodes = Slab::new();
        let root = nodes.insert(Node::default());
        Self { nodes, root, published: 0, by_shards: 0 }
    }

    /// Namespaces published, each publisher counted.
    pub(crate) const fn published(&self) -> usize {
        self.published
    }

    /// The same without those that other shards have told.
    pub(crate) const fn published_here(&self) -> usize {
        self.published - self.by_shards
    }

    /// Notes a way to `namespace`, in the place of what the same request told before; true if it
    /// is the first.
    pub(crate) fn publish(&mut self, namespace: &TrackNamespace, route: Route) -> bool {
        let node = self.grow(namespace);
        let publishers = &mut self.nodes[node].publishers;
        let is_first = publishers.is_empty();
        let before = publishers.len();
        publishers.retain(|other| other.key != route.key);
        let is_new = 1 - (before - publishers.len());
        self.published += is_new;
        self.by_shards += if route.shard { is_new } else { 0 };
        let at = publishers.partition_point(|other| other.rank() < route.rank());
        publishers.insert(at, route);
        is_first
    }

    /// Forgets a publisher of `namespace`; true if it was the last.
    pub(crate) fn unpublish(&mut self, namespace: &TrackNamespace, publisher: RequestKey) -> bool {
        let Some(node) = self.find(namespace) else { return false };
        let publishers = &mut self.nodes[node].publishers;
        let before = publishers.len();
        let by_shard = publishers.iter().any(|other| other.key == publisher && other.shard);
        publishers.retain(|other| other.key != publisher);
        let removed = before - publishers.len();
        self.by_shards -= usize::from(by_shard);
        let last = 0 < removed && publishers.is_empty();
        self.published -= removed;
        self.prune(node);
        last
    }

    /// Notes who wants to know of namespaces or tracks under `prefix`.
    pub(crate) fn watch(&mut self, prefix: &TrackNamespace, who: RequestKey, what: Interest) {
        let node = self.grow(prefix);
        self.nodes[node].interests.push((who, what));
    }

    /// Forgets who wanted to know.
    pub(crate) fn unwatch(&mut self, prefix: &TrackNamespace, who: RequestKey) {
        let Some(node) = self.find(prefix) else { return };
        self.nodes[node].interests.retain(|(other, _)| *other != who);
        self.prune(node);
    }

    /// The ways to who publishes a prefix of `namespace`: longest prefix first, and of the same
    /// prefix the best.
    pub(crate) fn routes_to(&self, namespace: &TrackNamespace) -> impl Iterator<Item = &Route> {
        let mut found: Vec<&[Route]> = Vec::new();
        self.walk(namespace, |node| found.push(&node.publishers));
        found.into_iter().rev().flatten()
    }

    /// The ways to exactly this namespace, the best one first.
    pub(crate) fn routes(&self, namespace: &TrackNamespace) -> &[Route] {
        self.find(namespace).map_or(&[], |node| &self.nodes[node].publishers)
    }

    /// Who wants to know of something in `namespace`.
    pub(crate) fn interested_in(
        &self,
        namespace: &TrackNamespace,
        what: Interest,
    ) -> Vec<RequestKey> {
        let mut found = Vec::new();
        self.walk(namespace, |node| {
            found.extend(
                node.interests.iter().filter(|(_, other)| *other == what).map(|(who, _)| *who),
            );
        });
        found
    }

    /// Namespaces published at or under `prefix`, in order; what follows the prefix, at most `limit`.
    pub(crate) fn published_under(
        &self,
        prefix: &TrackNamespace,
        limit: usize,
    ) -> Vec<TrackNamespace> {
        let mut found = Vec::new();
        let Some(start) = self.find(prefix) else { return found };
        let mut stack = vec![start];
        while let Some(index) = stack.pop() {
            let node = &self.nodes[index];
            if !node.publishers.is_empty() {
                if found.len() == limit {
                    break;
                }
                found.extend(self.suffix(index, start));
            }
            stack.extend(node.children.values().rev());
        }
        found
    }

    /// The fields from below `ancestor` down to `node`.
    fn suffix(&self, node: usize, ancestor: usize) -> Option<TrackNamespace> {
        let mut fields = Vec::new();
        let mut current = node;
        while current != ancestor {
            let entry = &self.nodes[current];
            fields.push(entry.field.clone());
            current = entry.parent?;
        }
        fields.reverse();
        TrackNamespace::new(fields).ok()
    }

    /// Calls `visit` with each node on the way from the root to `namespace`, as far as there are.
    fn walk<'a>(&'a self, namespace: &TrackNamespace, mut visit: impl FnMut(&'a Node)) {
        let mut node = &self.nodes[self.root];
        visit(node);
        for field in namespace.fields() {
            let Some(&child) = node.children.get(field) else { return };
            node = &self.nodes[child];
            visit(node);
        }
    }

    fn find(&self, namespace: &TrackNamespace) -> Option<usize> {
        let mut node = self.root;
        for field in namespace.fields() {
            node = *self.nodes[node].children.get(field)?;
        }
        Some(node)
    }

    fn grow(&mut self, namespace: &TrackNamespace) -> usize {
        let mut node = self.root;
        for field in namespace.fields() {
            node = match self.nodes[node].children.get(field) {
                Some(&child) => child,
                None => {
                    let field = Bytes::from(field.to_vec());
                    let child = self.nodes.insert(Node {
                        parent: Some(node),
                        field: field.clone(),
                        ..Node::default()
                    });
                    self.nodes[node].children.insert(field, child);
                    child
                }
            };
        }
        node
    }

    /// Removes `node` and its ancestors as far as nothing stands there.
    fn prune(&mut self, mut node: usize) {
        while let Some(parent) = self.nodes[node].parent {
            let entry = &self.nodes[node];
            if !(entry.publishers.is_empty()
                && entry.interests.is_empty()
                && entry.children.is_empty())
            {
                return;
            }
            let entry = self.nodes.remove(node);
            self.nodes[parent].children.remove(&entry.field);
            node = parent;
        }
    }
}

#[cfg(test)]
mod tests {
    use aip_codec::aip::hops::RelayId;

    use super::*;

    fn namespace(path: &str) -> TrackNamespace {
        TrackNamespace::new(path.split('/').filter(|field| !field.is_empty())).unwrap()
    }

    fn key(peer: usize) -> RequestKey {
        RequestKey { peer: PeerIndex(peer), request: RequestId(0) }
    }

    #[test]
    fn the_longest_prefix_comes_first() {
        let mut tree = NamespaceTree::new();
        assert!(tree.publish(&namespace("a"), Route::direct(key(1))));
        assert!(tree.publish(&namespace("a/b"), Route::direct(key(2))));
        assert!(!tree.publish(&namespace("a/b"), Route::direct(key(3))));
        let found = |path| -> Vec<RequestKey> {
            tree.routes_to(&namespace(path)).map(|route| route.key).collect()
        };
        assert_eq!(found("a/b/c"), [key(2), key(3), key(1)]);
        assert_eq!(found("a/bc"), [key(1)]);
        assert_eq!(found("b"), []);
    }

    #[test]
    fn the_best_way_is_the_cheapest_then_the_shortest_then_always_the_same() {
        let hops = |relays: &[u64]| {
            Hops::try_from(relays.iter().copied().map(RelayId).collect::<Vec<_>>()).unwrap()
        };
        let mut tree = NamespaceTree::new();
        for (peer, relays, cost) in
            [(1, &[7, 8][..], 1), (2, &[9], 2), (3, &[5], 1), (4, &[6], 1), (5, &[4], 3)]
        {
            tree.publish(
                &namespace("a"),
                Route { key: key(peer), hops: hops(relays), cost, shard: false },
            );
        }
        let order = |tree: &NamespaceTree| -> Vec<usize> {
            tree.routes(&namespace("a")).iter().map(|route| route.key.peer.0).collect()
        };
        assert_eq!(order(&tree), [3, 4, 1, 2, 5]);
        // What is told again by the same request takes the place of what it told before.
        assert!(!tree.publish(
            &namespace("a"),
            Route { key: key(5), hops: hops(&[4]), cost: 0, shard: false }
        ));
        assert_eq!((order(&tree), tree.published()), (vec![5, 3, 4, 1, 2], 5));
    }

    #[test]
    fn interest_reaches_down_and_is_of_two_kinds() {
        let mut tree = NamespaceTree::new();
        tree.watch(&namespace(""), key(1), Interest::Namespaces);
        tree.watch(&namespace("a"), key(2), Interest::Namespaces);
        tree.watch(&namespace("a"), key(3), Interest::Tracks);
        assert_eq!(tree.interested_in(&namespace("a/b"), Interest::Namespaces), [key(1), key(2)]);
        assert_eq!(tree.interested_in(&namespace("a/b"), Interest::Tracks), [key(3)]);
        assert_eq!(tree.interested_in(&namespace("b"), Interest::Tracks), []);
    }

    #[test]
    fn suffixes_are_listed_below_a_prefix() {
        let mut tree = NamespaceTree::new();
        for path in ["a", "a/b", "a/b/c", "x"] {
            tree.publish(&namespace(path), Route::direct(key(1)));
        }
        let under = |path| tree.published_under(&namespace(path), 100);
        assert_eq!(under("a"), [namespace(""), namespace("b"), namespace("b/c")]);
        assert_eq!(under("").len(), 4);
        assert_eq!(under("q"), []);
    }

    #[test]
    fn nothing_is_left_behind() {
        let mut tree = NamespaceTree::new();
        tree.publish(&namespace("a/b/c"), Route::direct(key(1)));
        tree.watch(&namespace("a/b"), key(2), Interest::Tracks);
        assert!(tree.unpublish(&namespace("a/b/c"), key(1)));
        assert!(!tree.unpublish(&namespace("a/b/c"), key(1)));
        tree.unwatch(&namespace("a/b"), key(2));
        assert_eq!(tree.nodes.len(), 1, "only the root is left");
        assert_eq!(tree.published(), 0);
    }
}
