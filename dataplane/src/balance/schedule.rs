//! The order of picks within one set of endpoints.

use std::cell::Cell;
use std::cmp::Ordering;
use std::collections::BinaryHeap;
use std::rc::Rc;

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
    /// Weights differ: earliest deadline first, where a pick moves the deadline by the inverse of the weight.
    Deadlines { queue: BinaryHeap<ScheduledHost>, weights: Vec<f64> },
}

#[derive(Debug)]
struct ScheduledHost {
    deadline: f64,
    /// Breaks ties by age, so that equal deadlines take turns.
    turn: u64,
    member: usize,
}

impl PartialEq for ScheduledHost {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for ScheduledHost {}

impl PartialOrd for ScheduledHost {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for ScheduledHost {
    fn cmp(&self, other: &Self) -> Ordering {
        other.deadline.total_cmp(&self.deadline).then(other.turn.cmp(&self.turn))
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
            let queue = (0..members.len()).map(|member| {
                let step = 1.0 / effective(weights[member], policy, loads, members[member]);
                // A random start within the first step keeps workers apart.
                ScheduledHost { deadline: step * random.fraction(), turn: member as u64, member }
            });
            Order::Deadlines { queue: queue.collect(), weights }
        };
        Self { members: members.to_vec(), order }
    }

    pub(super) fn pick(
        &mut self,
        policy: LbPolicy,
        loads: &[Rc<Cell<u32>>],
        random: &mut Random,
    ) -> Option<usize> {
        if self.members.len() < 2 {
            return self.members.first().copied();
        }
        match &mut self.order {
            Order::Deadlines { queue, weights } => {
                let mut earliest = queue.peek_mut()?;
                let (member, deadline) = (earliest.member, earliest.deadline);
                let at = self.members[member];
                earliest.deadline = deadline + 1.0 / effective(weights[member], policy, loads, at);
                earliest.turn += weights.len() as u64;
                Some(at)
            }
            Order::Cycle(position) => Some(match policy {
                LbPolicy::RoundRobin => {
                    *position = (*position + 1) % self.members.len();
                    self.members[*position]
                }
                LbPolicy::Random => self.members[random.below(self.members.len())],
                LbPolicy::LeastRequest { choices, .. } => least(&self.members, choices, loads, random),
            }),
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
        LbPolicy::RoundRobin | LbPolicy::Random => weight,
        LbPolicy::LeastRequest { bias, .. } => {
            let active = f64::from(loads.get(at).map_or(0, |load| load.get())) + 1.0;
            weight / if bias == 1.0 { active } else { active.powf(f64::from(bias)) }
        }
    }
}
