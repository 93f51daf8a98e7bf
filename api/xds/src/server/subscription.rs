//! What a client asked for: a wildcard, names, or both. Set algebra, not a mode (U3).

use std::collections::BTreeSet;
use std::sync::Arc;

/// The name that means everything.
pub(super) const WILDCARD: &str = "*";

#[derive(Debug, Default)]
pub(super) struct Subscription {
    pub wildcard: bool,
    pub names: BTreeSet<Arc<str>>,
    /// An empty list means everything only until a name was given for the first time (U1).
    ever_named: bool,
}

/// How a complete list differs from the one before.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Difference {
    pub added: Vec<Arc<str>>,
    pub dropped: Vec<Arc<str>>,
    pub wildcard_began: bool,
    pub wildcard_ended: bool,
}

impl Subscription {
    /// Whether an update of `name` concerns the client. An empty name matches nothing (U18).
    pub fn covers(&self, name: &str) -> bool {
        self.wildcard || self.names.contains(name)
    }

    /// Adds a name; true if it was the wildcard and that is new.
    pub fn add(&mut self, name: &str) -> bool {
        self.ever_named = true;
        if name == WILDCARD {
            return !std::mem::replace(&mut self.wildcard, true);
        }
        if !name.is_empty() {
            self.names.insert(name.into());
        }
        false
    }

    /// Takes a name; true if it was there.
    pub fn take(&mut self, name: &str) -> bool {
        self.ever_named = true;
        if name == WILDCARD { std::mem::take(&mut self.wildcard) } else { self.names.remove(name) }
    }

    /// Begins the legacy wildcard, if the client never named anything.
    pub fn begin_legacy_wildcard(&mut self) -> bool {
        !self.ever_named && !std::mem::replace(&mut self.wildcard, true)
    }

    /// Replaces everything by a complete list (SotW).
    pub fn replace(&mut self, list: &[String], empty_means_all: bool) -> Difference {
        let before = self.wildcard;
        let names: BTreeSet<Arc<str>> = list
            .iter()
            .filter(|name| *name != WILDCARD && !name.is_empty())
            .map(|name| name.as_str().into())
            .collect();
        self.wildcard = if list.is_empty() {
            empty_means_all && !self.ever_named
        } else {
            self.ever_named = true;
            list.iter().any(|name| name == WILDCARD)
        };
        let difference = Difference {
            added: names.difference(&self.names).cloned().collect(),
            dropped: self.names.difference(&names).cloned().collect(),
            wildcard_began: self.wildcard && !before,
            wildcard_ended: before && !self.wildcard,
        };
        self.names = names;
        difference
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list(names: &[&str]) -> Vec<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    /// U1, U3: the four examples of the specification, state of the world.
    #[test]
    fn u1_u3_sotw_lists_follow_the_four_examples() {
        let mut set = Subscription::default();
        assert!(set.replace(&list(&[]), true).wildcard_began);
        let more = set.replace(&list(&["*", "a"]), true);
        assert!(set.wildcard && set.covers("a") && set.covers("b") && more.added.len() == 1);
        assert!(set.replace(&list(&["a"]), true).wildcard_ended);
        assert!(set.covers("a") && !set.covers("b"));
        set.replace(&list(&[]), true);
        assert!(!set.covers("a") && !set.covers("b"), "empty means nothing once a name was given");
    }

    /// U1, U3: the four examples of the specification, delta.
    #[test]
    fn u1_u3_delta_changes_follow_the_four_examples() {
        let mut set = Subscription::default();
        assert!(set.begin_legacy_wildcard());
        set.add("a");
        assert!(set.covers("b"));
        assert!(set.take("*"));
        assert!(set.covers("a") && !set.covers("b"));
        assert!(set.take("a"));
        assert!(!set.covers("a"));
        assert!(!set.begin_legacy_wildcard(), "names were given");
    }

    /// U2: a gRPC client that names nothing asks for nothing. F1: names are opaque. U18: so is the empty one.
    #[test]
    fn u2_f1_empty_lists_mean_nothing_where_so_agreed_and_names_are_opaque() {
        let mut set = Subscription::default();
        set.replace(&list(&[]), false);
        assert!(!set.wildcard);
        set.replace(&list(&["xdstp://x/envoy.config.cluster.v3.Cluster/a?b=c", ""]), false);
        assert!(set.covers("xdstp://x/envoy.config.cluster.v3.Cluster/a?b=c") && !set.covers(""));
    }
}
