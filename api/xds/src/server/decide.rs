//! Whether a name is sent, removed, left alone, or waits for a reference.

use std::sync::Arc;
use std::time::Instant;

use weft_api::resource::{Resource, ResourceKey, ResourceKind};

use super::gate::GateState;
use super::session::Session;
use super::watched_type::ClientVersion;

#[derive(Debug)]
pub(super) enum Decision {
    /// The client has it, refuses it, or does not care.
    Skip,
    Send(Arc<Resource>),
    Remove,
    /// Look again when a reference was answered.
    Wait,
    /// The client goes on with the version that it has, until what it refused changes.
    HoldBack,
}

impl Session {
    pub(super) fn decide(&mut self, kind: ResourceKind, name: &Arc<str>, now: Instant) -> Decision {
        if !self.state(kind).subscription.covers(name) {
            return Decision::Skip;
        }
        match self.view.as_ref().and_then(|view| view.lookup(kind, name)).cloned() {
            Some(resource) => self.decide_present(resource, now),
            None => self.decide_absent(kind, name),
        }
    }

    fn decide_present(&mut self, resource: Arc<Resource>, now: Instant) -> Decision {
        let resource = match self.decide_sendable(resource) {
            Decision::Send(resource) => resource,
            other @ (Decision::Skip | Decision::Remove | Decision::Wait | Decision::HoldBack) => {
                return other;
            }
        };
        match self.gate_of(&resource, now) {
            GateState::Open => Decision::Send(resource),
            GateState::Closed => Decision::Wait,
            GateState::HeldBack => Decision::HoldBack,
        }
    }

    /// Sends it unless the client has it, has it in flight, or refuses these very bytes.
    fn decide_sendable(&mut self, resource: Arc<Resource>) -> Decision {
        let state = self.state_mut(resource.kind);
        if let Some(held) = state.held.get_mut(&resource.name) {
            let in_flight = held.in_flight.as_ref().and_then(|in_flight| in_flight.resource.as_ref());
            if in_flight.is_some_and(|in_flight| in_flight.version == resource.version) {
                return Decision::Skip;
            }
            if held.in_flight.is_none() && held.known == ClientVersion::Exact(resource.version) {
                held.accepted.get_or_insert(resource);
                return Decision::Skip;
            }
        }
        if state.refuses(&resource) { Decision::Skip } else { Decision::Send(resource) }
    }

    fn decide_absent(&mut self, kind: ResourceKind, name: &Arc<str>) -> Decision {
        let state = self.state(kind);
        let unanswered = state.unanswered.contains(name);
        let (known, removal_in_flight, in_flight) =
            state.held.get(name).map_or((ClientVersion::Unknown, false, false), |held| {
                let in_flight = held.in_flight.as_ref();
                (
                    held.known,
                    in_flight.is_some_and(|in_flight| in_flight.resource.is_none()),
                    in_flight.is_some(),
                )
            });
        let has_it = in_flight || matches!(known, ClientVersion::Unconfirmed | ClientVersion::Exact(_));
        if removal_in_flight || !(unanswered || has_it) {
            return Decision::Skip;
        }
        let key = ResourceKey::new(kind, name.clone());
        match kind {
            // U12: a secret is never removed; it dies with what refers to it.
            ResourceKind::Secret => Decision::Skip,
            ResourceKind::Endpoint if !unanswered && self.is_kept_for_parent(&key) => Decision::Skip,
            ResourceKind::Endpoint => self.decide_sendable(empty_assignment(name)),
            ResourceKind::Route if !unanswered && self.is_referred_to(&key) => Decision::Skip,
            ResourceKind::Cluster if has_it && self.is_referred_to(&key) => Decision::Wait,
            ResourceKind::VirtualHost if !unanswered && !self.has_configuration_of(name) => Decision::Skip,
            ResourceKind::Route
            | ResourceKind::Cluster
            | ResourceKind::Listener
            | ResourceKind::VirtualHost
            | ResourceKind::Runtime => Decision::Remove,
        }
    }

    /// Whether something that the client runs, or is about to, refers to `child` (U12, W6, W7).
    fn is_referred_to(&self, child: &ResourceKey) -> bool {
        self.parents(child.kind).iter().any(|parent| self.state(*parent).may_refer_to(child))
    }

    /// Whether the route configuration of a virtual host, `CONFIGURATION/HOST`, is in the view. One that is not takes its
    /// virtual hosts along when the client lets go of it: taken away one by one, they would be missing to a listener
    /// that still drains on it.
    fn has_configuration_of(&self, host: &str) -> bool {
        let configuration = host.rsplit_once('/').map(|(configuration, _)| configuration);
        let view = self.view.as_ref();
        configuration.zip(view).is_some_and(|(name, view)| view.lookup(ResourceKind::Route, name).is_some())
    }

    /// An assignment that vanished is kept while a cluster that is about to go still uses it; it becomes empty when
    /// a cluster that stays does, or none does.
    fn is_kept_for_parent(&self, child: &ResourceKey) -> bool {
        let Some(view) = &self.view else { return true };
        let mut users = self
            .state(ResourceKind::Cluster)
            .held
            .iter()
            .filter(|(_, held)| held.may_refer_to(child))
            .peekable();
        users.peek().is_some()
            && users.all(|(name, _)| {
                view.lookup(ResourceKind::Cluster, name).is_none_or(|cluster| !cluster.refs.contains(child))
            })
    }

    fn parents(&self, kind: ResourceKind) -> &'static [ResourceKind] {
        match kind {
            ResourceKind::Cluster => {
                &[ResourceKind::Listener, ResourceKind::Route, ResourceKind::VirtualHost]
            }
            ResourceKind::Endpoint => &[ResourceKind::Cluster],
            ResourceKind::Secret => &[ResourceKind::Cluster, ResourceKind::Listener],
            ResourceKind::Route => &[ResourceKind::Listener],
            ResourceKind::VirtualHost => &[ResourceKind::Route],
            ResourceKind::Listener | ResourceKind::Runtime => &[],
        }
    }
}

/// U8, U9: a service that nobody knows has no endpoints; saying so ends the warming of its cluster at once.
fn empty_assignment(name: &Arc<str>) -> Arc<Resource> {
    use envoy_types::pb::envoy::config::endpoint::v3::ClusterLoadAssignment;
    use prost::Message as _;
    let assignment = ClusterLoadAssignment { cluster_name: name.to_string(), ..Default::default() };
    Resource::new(ResourceKind::Endpoint, name.clone(), assignment.encode_to_vec(), Vec::new())
}
