//! What flows now, told in three ways.

use std::collections::BTreeMap;

use weft_api::ServiceId;

use super::flow::EdgeFlow;
use super::target::{EdgeTarget, TargetPart};

/// Flows by calling service and target.
pub type FlowsByTarget = BTreeMap<(ServiceId, EdgeTarget), EdgeFlow>;

/// What flows now. The same requests stand in each of the three: they are not to be summed.
#[derive(Clone, Debug, Default)]
pub struct Flows {
    /// By destination as a whole.
    pub wholes: FlowsByTarget,
    /// By the rule of a route that requests follow.
    pub rules: FlowsByTarget,
    /// By the version of those who answer, as their own sidecars tell it.
    pub versions: FlowsByTarget,
}

impl Flows {
    /// Adds what flows from a service to a target.
    pub fn add(&mut self, source: &ServiceId, target: &EdgeTarget, flow: &EdgeFlow) {
        let flows = match target.part() {
            TargetPart::Whole => &mut self.wholes,
            TargetPart::Rule(_) => &mut self.rules,
            TargetPart::Version(_) => &mut self.versions,
        };
        flows.entry((source.clone(), target.clone())).or_default().add(flow);
    }

    /// Adds what others have told.
    pub fn add_all(&mut self, more: &Self) {
        for (source, target, flow) in more.iter() {
            self.add(source, target, flow);
        }
    }

    /// All of them, one way after the other.
    pub fn iter(&self) -> impl Iterator<Item = (&ServiceId, &EdgeTarget, &EdgeFlow)> {
        let all = [&self.wholes, &self.rules, &self.versions].into_iter().flatten();
        all.map(|((source, target), flow)| (source, target, flow))
    }

    /// Keeps those between ends that are wanted.
    pub fn retain(&mut self, is_wanted: impl Fn(&ServiceId, &EdgeTarget) -> bool) {
        for flows in [&mut self.wholes, &mut self.rules, &mut self.versions] {
            flows.retain(|(source, target), _| is_wanted(source, target));
        }
    }
}
