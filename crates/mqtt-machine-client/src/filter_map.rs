//! Owns the question which filters a topic belongs to, for any number of filters.
//! It must not know what hangs on a filter.

use std::collections::HashMap;

use foldhash::fast::RandomState;
use mqtt_machine::{TopicFilter, TopicName};

/// A map from topic filters to values that finds all filters of a topic in one look-up and one walk.
///
/// The cost of [`matches`](Self::matches) grows with the length of the topic, and while there are filters with wildcards with its levels
/// and with those that match (a part of) it, not with how many are stored. Nothing here recurses, so a filter of 32,768 levels is as safe as
/// one of two. Shared subscriptions are keys of their own and match by the filter behind their share name.
///
/// ```
/// use mqtt_machine::{TopicFilter, TopicName};
/// use mqtt_machine_client::FilterMap;
///
/// let mut map = FilterMap::new();
/// map.insert(TopicFilter::new("sport/#")?, 1);
/// map.insert(TopicFilter::new("sport/+/score")?, 2);
/// map.insert(TopicFilter::new("news")?, 3);
///
/// let mut found = Vec::new();
/// map.matches(&TopicName::new("sport/tennis/score")?, |value| found.push(*value));
/// found.sort_unstable();
/// assert_eq!(found, [1, 2]);
/// # Ok::<(), mqtt_machine::TopicError>(())
/// ```
#[derive(Clone, Debug)]
pub struct FilterMap<T> {
    /// Filters without wildcards, by the one topic that they are for: the only way that a filter has to be found at once.
    plain: HashMap<Box<[u8]>, Vec<(TopicFilter, T)>, RandomState>,
    /// Filters with wildcards. The first node is the root; the others stand at the numbers that their parents hold.
    nodes: Vec<Node<T>>,
    free: Vec<usize>,
    len: usize,
    hasher: RandomState,
}

/// What stands behind one level. A level's name leads to `names`, `+` to `plus`.
#[derive(Clone, Debug)]
struct Node<T> {
    names: HashMap<Box<[u8]>, usize, RandomState>,
    plus: Option<usize>,
    /// Filters that end here.
    here: Vec<(TopicFilter, T)>,
    /// Filters that end here with one more level, `#`.
    below: Vec<(TopicFilter, T)>,
}

impl<T> Node<T> {
    fn new(hasher: &RandomState) -> Self {
        Self { names: HashMap::with_hasher(hasher.clone()), plus: None, here: Vec::new(), below: Vec::new() }
    }

    fn is_empty(&self) -> bool {
        self.names.is_empty() && self.plus.is_none() && self.here.is_empty() && self.below.is_empty()
    }

    fn child(&self, level: &[u8]) -> Option<usize> {
        if level == b"+" { self.plus } else { self.names.get(level).copied() }
    }

    fn entries(&self, multi: bool) -> &Vec<(TopicFilter, T)> {
        if multi { &self.below } else { &self.here }
    }

    fn entries_mut(&mut self, multi: bool) -> &mut Vec<(TopicFilter, T)> {
        if multi { &mut self.below } else { &mut self.here }
    }
}

const ROOT: usize = 0;

impl<T> FilterMap<T> {
    /// An empty map.
    pub fn new() -> Self {
        let hasher = RandomState::default();
        let plain = HashMap::with_hasher(hasher.clone());
        Self { plain, nodes: Vec::new(), free: Vec::new(), len: 0, hasher }
    }

    /// How many filters it holds.
    pub const fn len(&self) -> usize {
        self.len
    }

    /// Whether it holds no filter.
    pub const fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Puts `value` at `filter` and returns what stood there.
    pub fn insert(&mut self, filter: TopicFilter, value: T) -> Option<T> {
        let entries = if is_plain(&filter) {
            self.plain.entry(filter.pattern().as_bytes().into()).or_default()
        } else {
            if self.nodes.is_empty() {
                self.nodes.push(Node::new(&self.hasher));
            }
            let (levels, multi) = split(&filter);
            let mut node = ROOT;
            for level in levels {
                node = self.child_or_new(node, level);
            }
            self.nodes.get_mut(node)?.entries_mut(multi)
        };
        if let Some((_, old)) = entries.iter_mut().find(|(known, _)| *known == filter) {
            return Some(std::mem::replace(old, value));
        }
        entries.push((filter, value));
        self.len = self.len.saturating_add(1);
        None
    }

    /// The value at `filter`: at the filter itself, not at others that match the same topics.
    pub fn get(&self, filter: &TopicFilter) -> Option<&T> {
        let entries = if is_plain(filter) {
            self.plain.get(filter.pattern().as_bytes())?
        } else {
            let (node, multi) = self.find(filter)?;
            self.nodes.get(node)?.entries(multi)
        };
        entries.iter().find(|(known, _)| known == filter).map(|(_, value)| value)
    }

    /// As [`get`](Self::get), to change it.
    pub fn get_mut(&mut self, filter: &TopicFilter) -> Option<&mut T> {
        let entries = if is_plain(filter) {
            self.plain.get_mut(filter.pattern().as_bytes())?
        } else {
            let (node, multi) = self.find(filter)?;
            self.nodes.get_mut(node)?.entries_mut(multi)
        };
        entries.iter_mut().find(|(known, _)| known == filter).map(|(_, value)| value)
    }

    /// Takes `filter` and its value out, with every level that no other filter needs.
    pub fn remove(&mut self, filter: &TopicFilter) -> Option<T> {
        let value = if is_plain(filter) {
            let topic = filter.pattern().as_bytes();
            let entries = self.plain.get_mut(topic)?;
            let value = take(entries, filter)?;
            if entries.is_empty() {
                self.plain.remove(topic);
            }
            value
        } else {
            self.remove_wild(filter)?
        };
        self.len = self.len.saturating_sub(1);
        if self.len == 0 {
            // What many have needed is given back.
            *self = Self::new();
        }
        Some(value)
    }

    fn remove_wild(&mut self, filter: &TopicFilter) -> Option<T> {
        let (levels, multi) = split(filter);
        let mut path = Vec::new();
        let mut node = ROOT;
        for level in levels {
            path.push((node, level));
            node = self.nodes.get(node)?.child(level)?;
        }
        let value = take(self.nodes.get_mut(node)?.entries_mut(multi), filter)?;
        self.prune(node, path);
        Some(value)
    }

    /// Calls `visit` with the value of each filter that `topic` belongs to, once per filter, in no order to rely on.
    pub fn matches<'a>(&'a self, topic: &TopicName, visit: impl FnMut(&'a T)) {
        self.matches_bytes(topic.as_bytes(), visit);
    }

    /// As [`matches`](Self::matches), of the bytes of a topic name.
    pub(crate) fn matches_bytes<'a>(&'a self, topic: &[u8], mut visit: impl FnMut(&'a T)) {
        if let Some(entries) = self.plain.get(topic) {
            entries.iter().for_each(|(_, value)| visit(value));
        }
        if !self.nodes.is_empty() {
            self.matches_wild(topic, visit);
        }
    }

    fn matches_wild<'a>(&'a self, topic: &[u8], mut visit: impl FnMut(&'a T)) {
        // A wildcard in the first level does not match a topic that begins with `$` [MQTT-4.7.2-1].
        let dollar = topic.first() == Some(&b'$');
        // Where the walk turns off when the straight way is done: a node and the rest of the topic.
        let mut turns: Vec<(usize, Option<&[u8]>)> = Vec::new();
        let mut next = Some((ROOT, Some(topic)));
        while let Some((at, rest)) = next {
            let Some(node) = self.nodes.get(at) else { break };
            let wild = at != ROOT || !dollar;
            if wild {
                node.below.iter().for_each(|(_, value)| visit(value));
            }
            let Some(rest) = rest else {
                node.here.iter().for_each(|(_, value)| visit(value));
                next = turns.pop();
                continue;
            };
            let (level, rest) = split_level(rest);
            let name = if node.names.is_empty() { None } else { node.names.get(level).copied() };
            let plus = node.plus.filter(|_| wild);
            next = match (name, plus) {
                (Some(name), Some(plus)) => {
                    turns.push((plus, rest));
                    Some((name, rest))
                }
                (Some(child), None) | (None, Some(child)) => Some((child, rest)),
                (None, None) => turns.pop(),
            };
        }
    }

    fn find(&self, filter: &TopicFilter) -> Option<(usize, bool)> {
        let (mut levels, multi) = split(filter);
        let node = levels.try_fold(ROOT, |node, level| self.nodes.get(node)?.child(level))?;
        Some((node, multi))
    }

    fn child_or_new(&mut self, node: usize, level: &[u8]) -> usize {
        if let Some(child) = self.nodes.get(node).and_then(|node| node.child(level)) {
            return child;
        }
        let child = self.free.pop().unwrap_or_else(|| {
            self.nodes.push(Node::new(&self.hasher));
            self.nodes.len().saturating_sub(1)
        });
        if let Some(parent) = self.nodes.get_mut(node) {
            if level == b"+" {
                parent.plus = Some(child);
            } else {
                parent.names.insert(level.into(), child);
            }
        }
        child
    }

    /// Gives `node` and those above it back while they are empty. `path` leads to it from the root.
    fn prune(&mut self, mut node: usize, path: Vec<(usize, &[u8])>) {
        for (parent, level) in path.into_iter().rev() {
            if !self.nodes.get(node).is_some_and(Node::is_empty) {
                return;
            }
            if let Some(above) = self.nodes.get_mut(parent) {
                if level == b"+" {
                    above.plus = None;
                } else {
                    above.names.remove(level);
                }
            }
            if let Some(emptied) = self.nodes.get_mut(node) {
                *emptied = Node::new(&self.hasher);
            }
            self.free.push(node);
            node = parent;
        }
    }
}

impl<T> Default for FilterMap<T> {
    fn default() -> Self {
        Self::new()
    }
}

/// Whether the filter has no wildcard.
fn is_plain(filter: &TopicFilter) -> bool {
    !filter.pattern().contains(['+', '#'])
}

fn take<T>(entries: &mut Vec<(TopicFilter, T)>, filter: &TopicFilter) -> Option<T> {
    let at = entries.iter().position(|(known, _)| known == filter)?;
    Some(entries.swap_remove(at).1)
}

/// The levels of a filter without a last `#`, and whether there is one.
fn split(filter: &TopicFilter) -> (impl Iterator<Item = &[u8]>, bool) {
    let pattern = filter.pattern();
    let multi = pattern == "#" || pattern.ends_with("/#");
    let levels = match pattern {
        "#" => None,
        _ => Some(pattern.strip_suffix("/#").unwrap_or(pattern)),
    };
    (levels.into_iter().flat_map(|levels| levels.split('/').map(str::as_bytes)), multi)
}

/// The first level of a topic, and what follows it, if anything does.
fn split_level(topic: &[u8]) -> (&[u8], Option<&[u8]>) {
    let mut parts = topic.splitn(2, |byte| *byte == b'/');
    (parts.next().unwrap_or_default(), parts.next())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn filter(text: &str) -> TopicFilter {
        TopicFilter::new(text).unwrap()
    }

    fn found(map: &FilterMap<usize>, topic: &str) -> Vec<usize> {
        let mut found = Vec::new();
        map.matches(&TopicName::new(topic).unwrap(), |value| found.push(*value));
        found.sort_unstable();
        found
    }

    // 5.0: MQTT-4.7.2-1
    // 3.1.1: MQTT-4.7.2-1
    #[test]
    fn overlapping_filters_are_each_found_once() {
        let mut map = FilterMap::new();
        for (value, text) in ["#", "a/#", "a/b/#", "a/b", "+/b", "a/+", "+/+", "a/b/+"].iter().enumerate() {
            assert_eq!(map.insert(filter(text), value), None);
        }
        assert_eq!(found(&map, "a/b"), [0, 1, 2, 3, 4, 5, 6]);
        assert_eq!(found(&map, "a"), [0, 1]);
        assert_eq!(found(&map, "a/b/c"), [0, 1, 2, 7]);
        assert_eq!(found(&map, "$a/b"), [0; 0]);
    }

    #[test]
    fn shared_subscriptions_match_by_their_pattern_and_are_keys_of_their_own() {
        let mut map = FilterMap::new();
        map.insert(filter("$share/one/a/+"), 1);
        map.insert(filter("$share/two/a/+"), 2);
        map.insert(filter("a/+"), 3);
        assert_eq!(found(&map, "a/b"), [1, 2, 3]);
        assert_eq!(map.remove(&filter("$share/two/a/+")), Some(2));
        assert_eq!(found(&map, "a/b"), [1, 3]);
        assert_eq!(map.get(&filter("a/+")), Some(&3));
        assert_eq!(map.get(&filter("$share/two/a/+")), None);
    }

    #[test]
    fn an_emptied_map_keeps_no_levels() {
        let mut map = FilterMap::new();
        let filters = ["a/b/c/#", "a/+/c", "a", "+/#", "#", "/", "//+"];
        for round in 0..3 {
            for text in filters {
                map.insert(filter(text), round);
            }
            for text in filters {
                assert_eq!(map.remove(&filter(text)), Some(round), "{text}");
                assert_eq!(map.remove(&filter(text)), None, "{text}");
            }
            assert!(map.is_empty());
            assert_eq!((map.plain.capacity(), map.nodes.capacity()), (0, 0));
        }
    }

    #[test]
    fn levels_that_no_filter_needs_are_used_again() {
        let mut map = FilterMap::new();
        map.insert(filter("#"), 0);
        for round in 0..3 {
            for text in ["a/b/c/#", "a/+/c", "+/#", "//+"] {
                map.insert(filter(text), round);
            }
            let most = map.nodes.len();
            for text in ["a/b/c/#", "a/+/c", "+/#", "//+"] {
                assert_eq!(map.remove(&filter(text)), Some(round), "{text}");
            }
            assert_eq!((map.free.len() + 1, map.nodes.len()), (most, most));
            assert!(most < 12);
        }
    }

    #[test]
    fn the_deepest_filters_and_topics_are_walked_without_recursion() {
        let deep = "+/".repeat(32_767) + "+";
        let mut map = FilterMap::new();
        map.insert(filter(&deep), 1);
        map.insert(filter("#"), 2);
        assert_eq!(found(&map, &"/".repeat(32_767)), [1, 2]);
        assert_eq!(map.remove(&filter(&deep)), Some(1));
        assert_eq!(found(&map, &"/".repeat(32_767)), [2]);
    }

    fn level() -> impl Strategy<Value = &'static str> {
        prop::sample::select(vec!["", "a", "b", "$a", "ab"])
    }

    fn any_filter() -> impl Strategy<Value = TopicFilter> {
        let part = prop_oneof![4 => level(), 2 => Just("+")];
        (
            prop::collection::vec(part, 0..4),
            any::<bool>(),
            prop::option::of(prop::sample::select(vec!["$share/g/", "$share/h/"])),
        )
            .prop_filter_map("no filter", |(mut levels, multi, share)| {
                if multi {
                    levels.push("#");
                }
                TopicFilter::new(&(share.unwrap_or_default().to_owned() + &levels.join("/"))).ok()
            })
    }

    proptest! {
        // 5.0: MQTT-4.7.2-1, MQTT-4.7.3-4
        // 3.1.1: MQTT-4.7.2-1, MQTT-4.7.3-4
        #[test]
        fn the_map_finds_exactly_what_the_filters_match(
            inserted in prop::collection::vec(any_filter(), 0..24),
            removed in prop::collection::vec(any::<prop::sample::Index>(), 0..12),
            topics in prop::collection::vec(prop::collection::vec(level(), 1..5), 1..8),
        ) {
            let mut map = FilterMap::new();
            let mut model: Vec<(TopicFilter, usize)> = Vec::new();
            for (value, filter) in inserted.into_iter().enumerate() {
                let old = map.insert(filter.clone(), value);
                let known = model.iter().position(|(known, _)| *known == filter);
                prop_assert_eq!(old, known.map(|at| model.remove(at).1));
                model.push((filter, value));
            }
            for index in removed {
                if model.is_empty() { break; }
                let (filter, value) = model.remove(index.index(model.len()));
                prop_assert_eq!(map.remove(&filter), Some(value));
            }
            prop_assert_eq!(map.len(), model.len());
            for levels in topics {
                let Ok(topic) = TopicName::new(&levels.join("/")) else { continue };
                let mut expected: Vec<usize> = model.iter()
                    .filter(|(filter, _)| filter.matches(&topic)).map(|(_, value)| *value).collect();
                expected.sort_unstable();
                prop_assert_eq!(found(&map, topic.as_str()), expected);
            }
        }
    }
}
