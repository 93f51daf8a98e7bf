//! Priorities, health, panic and localities: which endpoints a pick may choose among.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::rc::Rc;

use super::hashing::NormalizedHost;
use super::options::{BalanceOptions, LbPolicy};
use super::schedule::{EarliestDeadline, HostSet};
use crate::outlier::Outliers;
use crate::random::Random;
use crate::runtime::{Endpoint, Endpoints, Health, Locality};

const OVERPROVISIONING: u32 = 140;

/// Sets of endpoints, each with its share of a hundred picks.
#[derive(Debug, Default)]
pub(super) struct HostSets {
    shares: Vec<WeightedHostSet>,
}

#[derive(Debug)]
pub(super) struct WeightedHostSet {
    percent: u32,
    /// Whether too few are healthy, so that all are used.
    pub(super) panic: bool,
    hosts: Hosts,
}

#[derive(Debug)]
enum Hosts {
    Together(HostSet),
    /// By the localities' weights and health first.
    ByLocality {
        turns: EarliestDeadline,
        weights: Vec<f64>,
        sets: Vec<HostSet>,
    },
}

/// The endpoints of one priority by state, as indices of the list.
#[derive(Debug, Default)]
struct PriorityHosts {
    healthy: Vec<usize>,
    degraded: Vec<usize>,
    usable: Vec<usize>,
}

/// A priority's parts of a hundred picks.
#[derive(Debug, Default, Clone, Copy)]
struct PriorityLoad {
    healthy: u32,
    degraded: u32,
    panic: bool,
}

impl PriorityHosts {
    fn percent(&self, part: usize, overprovisioning: u32) -> u32 {
        match self.usable.len() {
            0 => 0,
            all => ((part * overprovisioning as usize) / all).min(100) as u32,
        }
    }

    fn panics(&self, threshold: u8) -> bool {
        let live = self.healthy.len() + self.degraded.len();
        match self.usable.len() {
            0 => threshold > 0,
            all => live * 100 < all * usize::from(threshold),
        }
    }
}

/// What sets are made of.
struct Making<'a> {
    endpoints: &'a [Endpoint],
    overprovisioning: u32,
    options: BalanceOptions,
    loads: &'a [Rc<Cell<u32>>],
    random: &'a mut Random,
}

impl HostSets {
    /// Sorts endpoints by priority and health and gives each set its share, as Envoy's priority load does.
    pub(super) fn arrange(
        endpoints: &Endpoints,
        outliers: &Outliers,
        options: BalanceOptions,
        loads: &[Rc<Cell<u32>>],
        random: &mut Random,
    ) -> Self {
        let overprovisioning =
            if endpoints.overprovisioning == 0 { OVERPROVISIONING } else { endpoints.overprovisioning };
        let priorities = by_priority(endpoints, outliers);
        let load = distribute(&priorities, overprovisioning, options.panic_threshold);
        let mut making = Making { endpoints: &endpoints.list, overprovisioning, options, loads, random };
        let mut shares = Vec::new();
        for tier in [Tier::Healthy, Tier::Degraded] {
            for (priority, load) in priorities.iter().zip(&load) {
                let percent = match tier {
                    Tier::Healthy => load.healthy,
                    Tier::Degraded => load.degraded,
                };
                if percent > 0 {
                    let hosts = making.hosts(priority, tier, load.panic);
                    shares.push(WeightedHostSet { percent, panic: load.panic, hosts });
                }
            }
        }
        Self { shares }
    }

    /// The set for a pick.
    #[inline]
    pub(super) fn choose(&mut self, roll: u64) -> Option<&mut WeightedHostSet> {
        if self.shares.len() == 1 {
            return self.shares.first_mut();
        }
        let mut at = (roll % 100) as u32;
        for share in &mut self.shares {
            if at < share.percent {
                return Some(share);
            }
            at -= share.percent;
        }
        None
    }
}

impl WeightedHostSet {
    /// See [`HostSet::pick`].
    pub(super) fn pick(
        &mut self,
        policy: LbPolicy,
        loads: &[Rc<Cell<u32>>],
        random: &mut Random,
        roll: (u64, u32),
    ) -> Option<usize> {
        match &mut self.hosts {
            Hosts::Together(set) => set.pick(policy, loads, random, roll),
            Hosts::ByLocality { turns, weights, sets } => {
                let locality = turns.next(|locality| weights[locality])?;
                sets.get_mut(locality)?.pick(policy, loads, random, roll)
            }
        }
    }
}

impl Making<'_> {
    fn hosts(&mut self, priority: &PriorityHosts, tier: Tier, panic: bool) -> Hosts {
        let policy = self.options.policy;
        let members = match tier {
            _ if panic => &priority.usable,
            // A hash knows healthy endpoints alone, even where a share is due to degraded ones.
            Tier::Degraded if !policy.hashes() => &priority.degraded,
            Tier::Healthy | Tier::Degraded => &priority.healthy,
        };
        if policy.hashes()
            && let Some(set) = HostSet::hashed(policy, &self.normalized(members), self.endpoints)
        {
            return Hosts::Together(set);
        }
        let weighted = self.options.locality_weighted && !panic;
        weighted
            .then(|| self.by_locality(members, &priority.usable))
            .flatten()
            .unwrap_or_else(|| Hosts::Together(self.set(members)))
    }

    fn set(&mut self, members: &[usize]) -> HostSet {
        HostSet::new(members, self.endpoints, self.options.policy, self.loads, self.random)
    }

    fn localities<'b>(&'b self, members: &[usize]) -> BTreeMap<&'b Locality, Vec<usize>> {
        let mut localities: BTreeMap<&Locality, Vec<usize>> = BTreeMap::new();
        for at in members {
            localities.entry(&self.endpoints[*at].locality).or_default().push(*at);
        }
        localities
    }

    fn locality_weight(&self, members: &[usize]) -> u32 {
        members.first().map_or(0, |at| self.endpoints[*at].locality_weight)
    }

    /// By locality, where any has a weight: weights count as far as a locality's endpoints are healthy.
    fn by_locality(&mut self, members: &[usize], usable: &[usize]) -> Option<Hosts> {
        let all = self.localities(usable);
        let mut weighted = Vec::new();
        for (locality, members) in self.localities(members) {
            let available = members.len() as f64 / all.get(locality).map_or(1, Vec::len) as f64;
            let available = (available * f64::from(self.overprovisioning) / 100.0).min(1.0);
            let weight = f64::from(self.locality_weight(&members)) * available;
            if weight > 0.0 {
                weighted.push((weight, members));
            }
        }
        if weighted.is_empty() {
            return None;
        }
        let sets = weighted.iter().map(|(_, members)| self.set(members)).collect();
        let weights: Vec<f64> = weighted.iter().map(|(weight, _)| *weight).collect();
        let turns = EarliestDeadline::new(weights.iter().copied(), self.random);
        Some(Hosts::ByLocality { turns, weights, sets })
    }

    /// Each endpoint's share of a table of hashes.
    fn normalized(&self, members: &[usize]) -> Vec<NormalizedHost> {
        let mut hosts = Vec::with_capacity(members.len());
        let mut add = |members: &[usize], share: f64| {
            let sum: u64 = members.iter().map(|at| u64::from(self.endpoints[*at].weight)).sum();
            hosts.extend(members.iter().map(|at| NormalizedHost {
                at: *at,
                weight: f64::from(self.endpoints[*at].weight) * share / sum as f64,
            }));
        };
        let weighs = |at: &usize| self.endpoints[*at].locality_weight > 0;
        if !self.options.locality_weighted || !members.iter().any(weighs) {
            add(members, 1.0);
            return hosts;
        }
        let localities = self.localities(members);
        let sum: u64 = localities.values().map(|members| u64::from(self.locality_weight(members))).sum();
        for members in localities.values() {
            let weight = self.locality_weight(members);
            if weight > 0 {
                add(members, f64::from(weight) / sum as f64);
            }
        }
        hosts
    }
}

/// How the picks are shared among priorities. Each takes what it can carry, the first most; where all are in panic, health
/// does not count and each takes its part of all endpoints.
fn distribute(priorities: &[PriorityHosts], overprovisioning: u32, threshold: u8) -> Vec<PriorityLoad> {
    let mut load = vec![PriorityLoad::default(); priorities.len()];
    let healthy: Vec<u32> = priorities.iter().map(|p| p.percent(p.healthy.len(), overprovisioning)).collect();
    let degraded: Vec<u32> =
        priorities.iter().map(|p| p.percent(p.degraded.len(), overprovisioning)).collect();
    let total = (healthy.iter().sum::<u32>() + degraded.iter().sum::<u32>()).min(100);
    if total < 100 {
        for (load, priority) in load.iter_mut().zip(priorities) {
            load.panic = priority.panics(threshold);
        }
    }
    if load.iter().all(|load| load.panic) {
        in_total_panic(&mut load, priorities);
        return load;
    }
    if total == 0 {
        return load;
    }
    let mut left = 100;
    let mut take = |part: u32| {
        let percent = (part * 100 / total).min(left);
        left -= percent;
        percent
    };
    load.iter_mut().zip(&healthy).for_each(|(load, part)| load.healthy = take(*part));
    load.iter_mut().zip(&degraded).for_each(|(load, part)| load.degraded = take(*part));
    // What rounding left over belongs to the first that has a share.
    if let Some(first) = load.iter_mut().find(|load| load.healthy > 0) {
        first.healthy += left;
    } else if let Some(first) = load.iter_mut().find(|load| load.degraded > 0) {
        first.degraded += left;
    }
    load
}

fn in_total_panic(load: &mut [PriorityLoad], priorities: &[PriorityHosts]) {
    let all: usize = priorities.iter().map(|priority| priority.usable.len()).sum();
    let mut left = 100;
    for (load, priority) in load.iter_mut().zip(priorities) {
        load.healthy = (100 * priority.usable.len()).checked_div(all).unwrap_or(0) as u32;
        left -= load.healthy;
    }
    let occupied = load.iter_mut().zip(priorities).find(|(_, priority)| !priority.usable.is_empty());
    if let Some((first, _)) = occupied {
        first.healthy += left;
    }
}

#[derive(Clone, Copy)]
enum Tier {
    Healthy,
    Degraded,
}

enum EffectiveHealth {
    Healthy,
    Degraded,
    Unhealthy,
    Excluded,
}

fn state(endpoint: &Endpoint, ejected: bool) -> EffectiveHealth {
    match endpoint.health {
        Health::Draining => EffectiveHealth::Excluded,
        Health::Unhealthy => EffectiveHealth::Unhealthy,
        Health::Healthy | Health::Degraded if ejected => EffectiveHealth::Unhealthy,
        Health::Healthy => EffectiveHealth::Healthy,
        Health::Degraded => EffectiveHealth::Degraded,
    }
}

fn by_priority(endpoints: &Endpoints, outliers: &Outliers) -> Vec<PriorityHosts> {
    let mut sorted: BTreeMap<u32, PriorityHosts> = BTreeMap::new();
    for (at, endpoint) in endpoints.list.iter().enumerate() {
        let priority = sorted.entry(endpoint.priority).or_default();
        match state(endpoint, outliers.is_ejected(at)) {
            EffectiveHealth::Excluded => continue,
            EffectiveHealth::Healthy => priority.healthy.push(at),
            EffectiveHealth::Degraded => priority.degraded.push(at),
            EffectiveHealth::Unhealthy => {}
        }
        priority.usable.push(at);
    }
    sorted.into_values().collect()
}
