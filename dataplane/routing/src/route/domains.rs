//! Which virtual host an authority belongs to.

use std::cmp::Reverse;
use std::collections::hash_map::Entry;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

/// Domains of all virtual hosts, by how they match.
#[derive(Clone, Debug, Default)]
pub struct Domains {
    exact: HashMap<Arc<str>, usize>,
    /// `*.example.org` without the star.
    suffixes: Parts,
    /// `www.*` without the star.
    prefixes: Parts,
    any: Option<usize>,
    ignore_port: bool,
}

/// Parts of domains by their length, the longest first: a look-up for each length, however many there are.
#[derive(Clone, Debug, Default)]
struct Parts(BTreeMap<Reverse<usize>, HashMap<Box<str>, usize>>);

impl Parts {
    fn insert(&mut self, part: &str, host: usize) -> Result<(), usize> {
        claim(self.0.entry(Reverse(part.len())).or_default().entry(part.into()), host)
    }

    /// The longest one that is the part which `cut` takes of a name. A star stands for at least one character.
    fn find<'a>(&self, name: &'a str, cut: impl Fn(&'a str, usize) -> Option<&'a str>) -> Option<usize> {
        let shorter = self.0.range(Reverse(name.len().saturating_sub(1))..);
        shorter.into_iter().find_map(|(Reverse(length), parts)| parts.get(cut(name, *length)?).copied())
    }
}

/// The first one keeps it.
fn claim<K>(entry: Entry<'_, K, usize>, host: usize) -> Result<(), usize> {
    match entry {
        Entry::Occupied(taken) => Err(*taken.get()),
        Entry::Vacant(free) => {
            free.insert(host);
            Ok(())
        }
    }
}

impl Domains {
    /// The same domains, for which the port of an authority does not matter: `ignore_port_in_host_matching`.
    pub(crate) fn ignoring_port(self) -> Self {
        Self { ignore_port: true, ..self }
    }

    /// Adds a domain, which is in lower case.
    ///
    /// # Errors
    /// When a host has it already: that host, which keeps it.
    pub(crate) fn insert(&mut self, domain: &Arc<str>, host: usize) -> Result<(), usize> {
        if **domain == *"*" {
            return match self.any {
                Some(taken) => Err(taken),
                None => {
                    self.any = Some(host);
                    Ok(())
                }
            };
        }
        if let Some(suffix) = domain.strip_prefix('*') {
            self.suffixes.insert(suffix, host)
        } else if let Some(prefix) = domain.strip_suffix('*') {
            self.prefixes.insert(prefix, host)
        } else {
            claim(self.exact.entry(Arc::clone(domain)), host)
        }
    }

    #[inline]
    pub(super) fn find(&self, authority: &str) -> Option<usize> {
        if authority.is_empty() {
            return self.any;
        }
        let authority = if self.ignore_port { without_port(authority) } else { authority };
        if authority.bytes().any(|b| b.is_ascii_uppercase()) {
            return self.find_lower(&authority.to_ascii_lowercase());
        }
        self.find_lower(authority)
    }

    fn find_lower(&self, host: &str) -> Option<usize> {
        let exact = self.exact.get(host).copied();
        exact
            .or_else(|| self.suffixes.find(host, |host, length| host.get(host.len() - length..)))
            .or_else(|| self.prefixes.find(host, |host, length| host.get(..length)))
            .or(self.any)
    }
}

/// `host:port` without the port; brackets of IPv6 stay.
#[inline]
pub fn without_port(authority: &str) -> &str {
    match authority.rsplit_once(':') {
        Some((host, port))
            if port.bytes().all(|b| b.is_ascii_digit()) && (!host.contains(':') || host.ends_with(']')) =>
        {
            host
        }
        _ => authority,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_domain_with_a_star_wins_and_the_first_host_keeps_a_domain() {
        let mut domains = Domains::default();
        for (host, domain) in ["a.test", "*.test", "*.b.test", "www.*", "www.b*", "*"].into_iter().enumerate()
        {
            assert_eq!(domains.insert(&domain.into(), host), Ok(()));
            assert_eq!(domains.insert(&domain.into(), 9), Err(host));
        }
        for (authority, host) in [
            ("a.test", 0),
            ("A.Test", 0),
            ("c.test", 1),
            ("x.b.test", 2),
            (".b.test", 1),
            ("www.a", 3),
            ("www.bc", 4),
            ("www.b", 3),
            ("www.", 5),
            ("\u{e9}.test", 1),
            ("\u{e9}", 5),
            ("", 5),
        ] {
            assert_eq!(domains.find(authority), Some(host), "{authority}");
        }
    }
}
