//! What a client asked for: a wildcard, names, or both. Set algebra, not a mode (U3).

use std::sync::Arc;

use imbl::OrdSet;

use super::limits::MAX_NAMES;
use crate::interest::TypeInterest;

/// The name that means everything.
pub(super) const WILDCARD: &str = "*";

/// A name counts once for each so many bytes, so that a bound on names bounds memory.
const NAME_UNIT: usize = 128;

/// How much a name counts.
pub(super) fn weight(name: &str) -> usize {
    name.len().div_ceil(NAME_UNIT).max(1)
}

/// The names are more than one type may have on one stream.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct TooManyNames;

#[derive(Debug, Default)]
pub(super) struct Subscription {
    wanted: TypeInterest,
    /// How much the names count together.
    weight: usize,
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
        self.wanted.covers(name)
    }

    /// Whether everything is asked for.
    pub fn is_wildcard(&self) -> bool {
        self.wanted.wildcard
    }

    /// What is asked for by name.
    pub fn names(&self) -> &OrdSet<Arc<str>> {
        &self.wanted.names
    }

    /// What is asked for, as it is now; shares its memory with the subscription.
    pub fn interest(&self) -> TypeInterest {
        self.wanted.clone()
    }

    /// How much all names count together.
    pub fn weight(&self) -> usize {
        self.weight
    }

    /// Adds a name; true if it was the wildcard and that is new.
    pub fn add(&mut self, name: &str) -> Result<bool, TooManyNames> {
        self.ever_named = true;
        if name == WILDCARD {
            return Ok(!std::mem::replace(&mut self.wanted.wildcard, true));
        }
        if !name.is_empty() && !self.wanted.names.contains(name) {
            let weight = self.weight + weight(name);
            if weight > MAX_NAMES {
                return Err(TooManyNames);
            }
            self.weight = weight;
            self.wanted.names.insert(name.into());
        }
        Ok(false)
    }

    /// Takes a name; true if it was there.
    pub fn take(&mut self, name: &str) -> bool {
        self.ever_named = true;
        if name == WILDCARD {
            return std::mem::take(&mut self.wanted.wildcard);
        }
        let was_there = self.wanted.names.remove(name).is_some();
        if was_there {
            self.weight -= weight(name);
        }
        was_there
    }

    /// Begins the legacy wildcard, if the client never named anything.
    pub fn begin_legacy_wildcard(&mut self) -> bool {
        !self.ever_named && !std::mem::replace(&mut self.wanted.wildcard, true)
    }

    /// Replaces everything by a complete list (SotW).
    pub fn replace(&mut self, list: &[String], empty_means_all: bool) -> Result<Difference, TooManyNames> {
        let total: usize = list.iter().map(|name| weight(name)).sum();
        if total > MAX_NAMES {
            return Err(TooManyNames);
        }
        let before = std::mem::take(&mut self.wanted);
        let names: OrdSet<Arc<str>> = list
            .iter()
            .filter(|name| *name != WILDCARD && !name.is_empty())
            .map(|name| Arc::from(name.as_str()))
            .collect();
        let wildcard = if list.is_empty() {
            empty_means_all && !self.ever_named
        } else {
            self.ever_named = true;
            list.iter().any(|name| name == WILDCARD)
        };
        let difference = Difference {
            added: missing(&names, &before.names),
            dropped: missing(&before.names, &names),
            wildcard_began: wildcard && !before.wildcard,
            wildcard_ended: before.wildcard && !wildcard,
        };
        self.weight = names.iter().map(|name| weight(name)).sum();
        self.wanted = TypeInterest { wildcard, names };
        Ok(difference)
    }
}

/// Names of the first set that the second does not have.
fn missing(names: &OrdSet<Arc<str>>, other: &OrdSet<Arc<str>>) -> Vec<Arc<str>> {
    names.iter().filter(|name| !other.contains(*name)).cloned().collect()
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
        assert!(set.replace(&list(&[]), true).unwrap().wildcard_began);
        let more = set.replace(&list(&["*", "a"]), true).unwrap();
        assert!(set.is_wildcard() && set.covers("a") && set.covers("b") && more.added.len() == 1);
        assert!(set.replace(&list(&["a"]), true).unwrap().wildcard_ended);
        assert!(set.covers("a") && !set.covers("b"));
        set.replace(&list(&[]), true).unwrap();
        assert!(!set.covers("a") && !set.covers("b"), "empty means nothing once a name was given");
    }

    /// U1, U3: the four examples of the specification, delta.
    #[test]
    fn u1_u3_delta_changes_follow_the_four_examples() {
        let mut set = Subscription::default();
        assert!(set.begin_legacy_wildcard());
        set.add("a").unwrap();
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
        set.replace(&list(&[]), false).unwrap();
        assert!(!set.is_wildcard());
        set.replace(&list(&["xdstp://x/envoy.config.cluster.v3.Cluster/a?b=c", ""]), false).unwrap();
        assert!(set.covers("xdstp://x/envoy.config.cluster.v3.Cluster/a?b=c") && !set.covers(""));
    }

    /// D8, M4: one type on one stream has its bound, and a long name counts as several.
    #[test]
    fn d8_m4_names_are_bounded_by_number_and_length() {
        let mut set = Subscription::default();
        for n in 0..MAX_NAMES {
            set.add(&format!("c{n}")).unwrap();
        }
        assert_eq!(set.add("one more"), Err(TooManyNames));
        assert_eq!(set.add("c7"), Ok(false), "it is there already");
        assert!(set.take("c7"));
        set.add("one more").unwrap();
        let long = "x".repeat(4096);
        let mut set = Subscription::default();
        assert!((0..MAX_NAMES).any(|n| set.add(&format!("{n}{long}")).is_err()));
        assert!(set.names().len() < 400 && set.weight() <= MAX_NAMES);
        let all: Vec<String> = (0..=MAX_NAMES).map(|n| n.to_string()).collect();
        assert_eq!(set.replace(&all, true), Err(TooManyNames));
        set.replace(&all[1..], true).unwrap();
        assert_eq!(set.weight(), MAX_NAMES);
    }
}
