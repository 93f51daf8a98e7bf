//! The order of picks within one set of endpoints.

use std::cell::Cell;
use std::cmp::Ordering;
use std::collections::BinaryHeap;
use std::rc::Rc;

use super::hashing::{HashTable, NormalizedHost};
use super::options::LbPolicy;
use crate::random::Random;
use crate::runtime::Endpoint;

/// Endpoints that are equal but for weight and load.
#[derive(Debug)]
pub(super) struct HostSet {
    members: Vec<usize>,
    order: Order,
}

#[derive(Debug)]
enum Order {
    /// All weights are equal: a position.
    Cycle(usize),
    /// Weights differ: each has its turn when its deadline is the next.
    Deadlines { turns: EarliestDeadline, weights: Vec<f64> },
    /// The request's hash decides.
    Hashed(HashTable),
}

/// Earliest deadline first: a pick moves the deadline of what was picked by the inverse of its weight.
#[derive(Debug)]
pub(super) struct EarliestDeadline {
    queue: BinaryHeap<Scheduled>,
    members: u64,
}

#[derive(Debug)]
struct Scheduled {
    deadline: f64,
    /// Breaks ties by age, so that equal deadlines take turns.
    turn: u64,
    member: usize,
}

impl PartialEq for Scheduled {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Scheduled {}

impl PartialOrd for Scheduled {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Scheduled {
    fn cmp(&self, other: &Self) -> Ordering {
        other.deadline.total_cmp(&self.deadline).then(other.turn.cmp(&self.turn))
    }
}

impl EarliestDeadline {
    /// Over members with these weights, each above 0.
    pub(super) fn new(weights: impl Iterator<Item = f64>, random: &mut Random) -> Self {
        let scheduled = weights.enumerate().map(|(member, weight)| {
            // A random start within the first step keeps workers apart.
            Scheduled { deadline: random.fraction() / weight, turn: member as u64, member }
        });
        let queue: BinaryHeap<_> = scheduled.collect();
        Self { members: queue.len() as u64, queue }
    }

    /// The member whose turn it is; `weight` says how much it weighs now.
    pub(super) fn next(&mut self, weight: impl FnOnce(usize) -> f64) -> Option<usize> {
        let mut earliest = self.queue.peek_mut()?;
        let member = earliest.member;
        earliest.deadline += 1.0 / weight(member);
        earliest.turn += self.members;
        Some(member)
    }
}

impl HostSet {
    pub(super) fn new(
        members: &[usize],
        endpoints: &[Endpoint],
        policy: LbPolicy,
        loads: &[Rc<Cell<u32>>],
        random: &mut Random,
    ) -> Self {
        let weight = |member: &usize| f64::from(endpoints.get(*member).map_or(1, |e| e.weight.max(1)));
        let equal = members.windows(2).all(|pair| weight(&pair[0]) == weight(&pair[1]));
        let order = if equal || policy == LbPolicy::Random {
            Order::Cycle(random.below(members.len().max(1)))
        } else {
            let weights: Vec<f64> = members.iter().map(weight).collect();
            let now = weights.iter().zip(members).map(|(weight, at)| effective(*weight, policy, loads, *at));
            Order::Deadlines { turns: EarliestDeadline::new(now, random), weights }
        };
        Self { members: members.to_vec(), order }
    }

    /// Endpoints among which the request's hash decides; `None` where the policy does not hash.
    pub(super) fn hashed(policy: LbPolicy, hosts: &[NormalizedHost], endpoints: &[Endpoint]) -> Option<Self> {
        let members = hosts.iter().map(|host| host.at).collect();
        HashTable::new(policy, hosts, endpoints).map(|table| Self { members, order: Order::Hashed(table) })
    }

    /// The endpoint for a request. `roll` is its hash, where the policy hashes, and `attempt` counts the picks that were
    /// turned down before.
    pub(super) fn pick(
        &mut self,
        policy: LbPolicy,
        loads: &[Rc<Cell<u32>>],
        random: &mut Random,
        (roll, attempt): (u64, u32),
    ) -> Option<usize> {
        if self.members.len() < 2 {
            return self.members.first().copied();
        }
        match &mut self.order {
            Order::Deadlines { turns, weights } => {
                let members = &self.members;
                let next = turns.next(|member| effective(weights[member], policy, loads, members[member]))?;
                Some(members[next])
            }
            Order::Cycle(position) => Some(match policy {
                LbPolicy::RoundRobin | LbPolicy::RingHash { .. } | LbPolicy::Maglev { .. } => {
                    *position = (*position + 1) % self.members.len();
                    self.members[*position]
                }
                LbPolicy::Random => self.members[random.below(self.members.len())],
                LbPolicy::LeastRequest { choices, .. } => least(&self.members, choices, loads, random),
            }),
            Order::Hashed(table) => table.pick(roll, attempt),
        }
    }
}

fn least(members: &[usize], choices: u32, loads: &[Rc<Cell<u32>>], random: &mut Random) -> usize {
    let load = |at: usize| loads.get(at).map_or(0, |load| load.get());
    if choices as usize >= members.len() {
        // As many choices as endpoints: look at all, from a random start so that ties are spread.
        let start = random.below(members.len());
        let turned = members[start..].iter().chain(&members[..start]).copied();
        return turned.min_by_key(|at| load(*at)).unwrap_or(members[start]);
    }
    let mut best = members[random.below(members.len())];
    for _ in 1..choices.max(1) {
        let other = members[random.below(members.len())];
        if load(other) < load(best) {
            best = other;
        }
    }
    best
}

fn effective(weight: f64, policy: LbPolicy, loads: &[Rc<Cell<u32>>], at: usize) -> f64 {
    match policy {
        LbPolicy::LeastRequest { bias, .. } => {
            let active = f64::from(loads.get(at).map_or(0, |load| load.get())) + 1.0;
            weight / if bias == 1.0 { active } else { active.powf(f64::from(bias)) }
        }
        LbPolicy::RoundRobin | LbPolicy::Random | LbPolicy::RingHash { .. } | LbPolicy::Maglev { .. } => {
            weight
        }
    }
}
