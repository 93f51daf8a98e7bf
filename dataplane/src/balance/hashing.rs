//! Which endpoint a hash stands for: ring and Maglev table, entry by entry as Envoy builds them, so that callers behind
//! either proxy are led to the same endpoint.
//!
//! Both are built from the endpoints' keys (address, or what the configuration says) and weights; nothing in them depends
//! on the worker or the moment.

use xxhash_rust::xxh64::xxh64;

use super::options::LbPolicy;
use crate::runtime::Endpoint;

/// Endpoints by hash, as indices of the list.
#[derive(Debug)]
pub(super) enum HashTable {
    /// Entries by hash, ascending, with the endpoint of each.
    Ring(Box<[(u64, u32)]>),
    Maglev(Box<[u32]>),
}

/// An endpoint with its share of all picks.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct NormalizedHost {
    pub(super) at: usize,
    pub(super) weight: f64,
}

impl HashTable {
    /// The table for endpoints; `None` where the policy does not hash.
    pub(super) fn new(policy: LbPolicy, hosts: &[NormalizedHost], endpoints: &[Endpoint]) -> Option<Self> {
        match policy {
            LbPolicy::RoundRobin | LbPolicy::Random | LbPolicy::LeastRequest { .. } => None,
            LbPolicy::RingHash { min, max } => Some(Self::Ring(ring(hosts, endpoints, min, max))),
            LbPolicy::Maglev { size } => Some(Self::Maglev(maglev(hosts, endpoints, size))),
        }
    }

    /// The endpoint for a hash. `attempt` is 0, or counts the picks that were turned down for this try.
    pub(super) fn pick(&self, hash: u64, attempt: u32) -> Option<usize> {
        let at = match self {
            Self::Ring(ring) if ring.is_empty() => return None,
            Self::Ring(ring) => {
                let first = ring.partition_point(|(entry, _)| *entry < hash);
                let first = if first == ring.len() { 0 } else { first };
                ring[(first + attempt as usize) % ring.len()].1
            }
            Self::Maglev(table) if table.is_empty() => return None,
            Self::Maglev(table) => {
                let hash = if attempt == 0 { hash } else { hash ^ (u64::MAX - u64::from(attempt) + 1) };
                table[(hash % table.len() as u64) as usize]
            }
        };
        Some(at as usize)
    }
}

/// What an endpoint is hashed by.
fn key(endpoint: &Endpoint) -> String {
    endpoint.hash_key.as_deref().map_or_else(|| endpoint.address.to_string(), str::to_owned)
}

/// The least-weighted endpoint gets a whole number of entries, so many that the ring has `min` of them, or the whole ring
/// has `max`. Running sums carry the fractions of the others on.
fn ring(hosts: &[NormalizedHost], endpoints: &[Endpoint], min: u64, max: u64) -> Box<[(u64, u32)]> {
    let least = hosts.iter().map(|host| host.weight).fold(1.0, f64::min);
    let scale = ((least * min as f64).ceil() / least).min(max as f64);
    let mut ring = Vec::with_capacity(if hosts.is_empty() { 0 } else { scale.ceil() as usize });
    let (mut current, mut target) = (0.0, 0.0);
    for host in hosts {
        let mut text = key(&endpoints[host.at]);
        text.push('_');
        let stem = text.len();
        target += scale * host.weight;
        let mut number = 0_u64;
        while current < target {
            text.truncate(stem);
            text.push_str(&number.to_string());
            ring.push((xxh64(text.as_bytes(), 0), host.at as u32));
            number += 1;
            current += 1.0;
        }
    }
    ring.sort_by_key(|(hash, _)| *hash);
    ring.into()
}

/// An endpoint while the table is filled.
struct Filling {
    at: u32,
    offset: u64,
    skip: u64,
    next: u64,
    weight: f64,
    target: f64,
}

const FREE: u32 = u32::MAX;

/// Listing 1 of the paper on Maglev, with turns left out in proportion to weights. The order is that of the keys, so that
/// it does not depend on the list's.
fn maglev(hosts: &[NormalizedHost], endpoints: &[Endpoint], size: u64) -> Box<[u32]> {
    if hosts.is_empty() {
        return Box::default();
    }
    let heaviest = hosts.iter().map(|host| host.weight).fold(0.0, f64::max);
    let mut keyed: Vec<(String, &NormalizedHost)> =
        hosts.iter().map(|host| (key(&endpoints[host.at]), host)).collect();
    keyed.sort_by(|(a, _), (b, _)| a.cmp(b));
    let mut filling: Vec<Filling> = keyed
        .iter()
        .map(|(key, host)| Filling {
            at: host.at as u32,
            offset: xxh64(key.as_bytes(), 0) % size,
            skip: xxh64(key.as_bytes(), 1) % (size - 1) + 1,
            next: 0,
            weight: host.weight,
            target: 0.0,
        })
        .collect();
    let mut table = vec![FREE; size as usize];
    let mut left = table.len();
    for turn in 1_u32.. {
        for host in &mut filling {
            if left == 0 {
                return table.into();
            }
            if f64::from(turn) * host.weight < host.target {
                continue;
            }
            host.target += heaviest;
            let slot = loop {
                let slot = ((host.offset + host.skip * host.next) % size) as usize;
                host.next += 1;
                if table[slot] == FREE {
                    break slot;
                }
            };
            table[slot] = host.at;
            left -= 1;
        }
    }
    table.into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::SocketAddr;

    fn endpoints(ports: impl IntoIterator<Item = u16>) -> Vec<Endpoint> {
        ports.into_iter().map(|port| Endpoint::at(SocketAddr::from(([127, 0, 0, 1], port)))).collect()
    }

    fn even(count: usize) -> Vec<NormalizedHost> {
        (0..count).map(|at| NormalizedHost { at, weight: 1.0 / count as f64 }).collect()
    }

    const RING: LbPolicy = LbPolicy::RingHash { min: 1024, max: 8 << 20 };
    const MAGLEV: LbPolicy = LbPolicy::Maglev { size: 65537 };

    /// The share of hashes whose endpoint, told by its address, is another one in the second table.
    fn moved(policy: LbPolicy, before: &[Endpoint], after: &[Endpoint]) -> f64 {
        let table = |list: &[Endpoint]| HashTable::new(policy, &even(list.len()), list).unwrap();
        let (old, new) = (table(before), table(after));
        let hashes = (0..10_000_u64).map(|number| xxh64(&number.to_le_bytes(), 7));
        let moves =
            hashes.filter(|hash| before[old.pick(*hash, 0).unwrap()] != after[new.pick(*hash, 0).unwrap()]);
        moves.count() as f64 / 10_000.0
    }

    #[test]
    fn a_member_that_leaves_takes_its_own_hashes_along_and_few_others() {
        let (all, fewer) = (endpoints(1..=10), endpoints(1..=9));
        let ring = moved(RING, &all, &fewer);
        assert!((0.05..0.16).contains(&ring), "a tenth, and nothing else moves: {ring}");
        let maglev = moved(MAGLEV, &all, &fewer);
        assert!((0.08..0.16).contains(&maglev), "a tenth, and few others: {maglev}");
    }

    #[test]
    fn the_order_of_the_list_does_not_matter() {
        let (all, turned) = (endpoints(1..=7), endpoints((1..=7).rev()));
        assert!(moved(MAGLEV, &all, &turned) == 0.0);
        assert!(moved(RING, &all, &turned) < 0.01);
    }

    #[test]
    fn weights_are_shares_of_the_table() {
        let list = endpoints(1..=2);
        let hosts = [NormalizedHost { at: 0, weight: 0.25 }, NormalizedHost { at: 1, weight: 0.75 }];
        let Some(HashTable::Ring(ring)) = HashTable::new(RING, &hosts, &list) else { panic!("no ring") };
        assert_eq!(ring.iter().filter(|(_, at)| *at == 0).count(), 256);
        assert_eq!(ring.len(), 1024);
        let Some(HashTable::Maglev(table)) = HashTable::new(MAGLEV, &hosts, &list) else {
            panic!("no table")
        };
        let first = table.iter().filter(|at| **at == 0).count();
        assert!(first.abs_diff(65537 / 4) < 2, "{first}");
    }

    #[test]
    fn a_ring_is_no_larger_than_its_bound() {
        let list = endpoints(1..=3);
        let policy = LbPolicy::RingHash { min: 1024, max: 1024 };
        let Some(HashTable::Ring(ring)) = HashTable::new(policy, &even(3), &list) else { panic!("no ring") };
        assert_eq!(ring.len(), 1024);
    }

    #[test]
    fn another_attempt_leads_elsewhere_sooner_or_later() {
        let list = endpoints(1..=3);
        for policy in [RING, MAGLEV] {
            let table = HashTable::new(policy, &even(3), &list).unwrap();
            let first = table.pick(42, 0);
            assert!((1..20).any(|attempt| table.pick(42, attempt) != first), "{policy:?}");
        }
    }

    #[test]
    fn a_key_of_its_own_stands_for_the_address() {
        let mut keyed = endpoints(1..=2);
        keyed[0].hash_key = Some("127.0.0.1:2".into());
        keyed[1].hash_key = Some("127.0.0.1:1".into());
        let (plain, turned) =
            (HashTable::new(MAGLEV, &even(2), &endpoints(1..=2)), HashTable::new(MAGLEV, &even(2), &keyed));
        let (plain, turned) = (plain.unwrap(), turned.unwrap());
        assert!((0..100).all(|hash| plain.pick(hash, 0) != turned.pick(hash, 0)));
    }

    #[test]
    fn without_endpoints_there_is_no_pick() {
        for policy in [RING, MAGLEV] {
            assert_eq!(HashTable::new(policy, &[], &[]).unwrap().pick(1, 0), None);
        }
    }
}
