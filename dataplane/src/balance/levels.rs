//! Priorities, health and panic: which endpoints a pick may choose among.

use std::cell::Cell;
use std::rc::Rc;

use super::options::BalanceOptions;
use super::schedule::HostSet;
use crate::outlier::Outliers;
use crate::random::Random;
use crate::runtime::{Endpoint, Endpoints, Health};

const OVERPROVISIONING: u32 = 140;

/// Sets of endpoints, each with its share of a hundred picks.
#[derive(Debug, Default)]
pub(super) struct HostSets {
    shares: Vec<WeightedHostSet>,
}

#[derive(Debug)]
struct WeightedHostSet {
    percent: u32,
    panic: bool,
    set: HostSet,
}

/// The endpoints of one priority by state, as indices of the list.
#[derive(Debug, Default)]
struct PriorityHosts {
    healthy: Vec<usize>,
    degraded: Vec<usize>,
    usable: Vec<usize>,
}

impl PriorityHosts {
    fn percent(&self, part: usize, overprovisioning: u32) -> u32 {
        match self.usable.len() {
            0 => 0,
            all => ((part * overprovisioning as usize) / all).min(100) as u32,
        }
    }
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
        let factor =
            if endpoints.overprovisioning == 0 { OVERPROVISIONING } else { endpoints.overprovisioning };
        let priorities = by_priority(endpoints, outliers);
        let health: Vec<u32> = priorities.iter().map(|p| p.percent(p.healthy.len(), factor)).collect();
        let degraded: Vec<u32> = priorities.iter().map(|p| p.percent(p.degraded.len(), factor)).collect();
        let total = (health.iter().sum::<u32>() + degraded.iter().sum::<u32>()).min(100);
        let panicking = |p: &PriorityHosts| {
            let live = p.healthy.len() + p.degraded.len();
            total < 100 && live * 100 < p.usable.len() * usize::from(options.panic_threshold)
        };
        let mut build = |members: &[usize], percent: u32, panic: bool| WeightedHostSet {
            percent,
            panic,
            set: HostSet::new(members, &endpoints.list, options.policy, loads, random),
        };
        let mut shares = Vec::new();
        if total == 0 {
            // Nothing is live anywhere: the first priority that has endpoints takes all, in panic.
            let first = priorities.iter().find(|p| !p.usable.is_empty());
            let all = first.filter(|p| panicking(p)).map(|p| build(&p.usable, 100, true));
            return Self { shares: all.into_iter().collect() };
        }
        let mut left = 100;
        for (parts, tier) in [(&health, Tier::Healthy), (&degraded, Tier::Degraded)] {
            for (priority, part) in priorities.iter().zip(parts) {
                let percent = (part * 100 / total).min(left);
                if percent > 0 {
                    left -= percent;
                    let panic = panicking(priority);
                    let members = match tier {
                        _ if panic => &priority.usable,
                        Tier::Healthy => &priority.healthy,
                        Tier::Degraded => &priority.degraded,
                    };
                    shares.push(build(members, percent, panic));
                }
            }
        }
        // What rounding left over belongs to the first set that has a share.
        if let Some(first) = shares.first_mut() {
            first.percent += left;
        }
        Self { shares }
    }

    /// The set for a pick and whether it is one of panic.
    pub(super) fn choose(&mut self, roll: u64) -> Option<(&mut HostSet, bool)> {
        if self.shares.len() == 1 {
            return self.shares.first_mut().map(|share| (&mut share.set, share.panic));
        }
        let mut at = (roll >> 32) as u32 % 100;
        for share in &mut self.shares {
            if at < share.percent {
                return Some((&mut share.set, share.panic));
            }
            at -= share.percent;
        }
        None
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
    let mut sorted: std::collections::BTreeMap<u32, PriorityHosts> = std::collections::BTreeMap::new();
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
