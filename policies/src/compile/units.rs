//! What is compiled together, and which of it a change touches.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;

use weft_api::names::{Name, ServiceId, WorkloadId};

use super::model::{Model, WorkloadState};
use crate::kinds::kind::Kind;
use crate::kinds::service::Service;
use crate::kinds::spec::{Part, Relation, Target};
use crate::object::{Object, PolicyKey};
use crate::policy::Policy;

/// The least that is compiled at once.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Unit {
    /// The cluster and endpoints of a service's port, and of each of its subsets.
    ServicePort(ServiceId, Name),
    /// The route configuration of all callers of a namespace.
    Routes(Name),
    /// The listeners of one sidecar, and what belongs to it alone.
    Workload(WorkloadId),
}

impl fmt::Display for Unit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::ServicePort(service, port) => write!(f, "service port {service}/{port}"),
            Self::Routes(namespace) => write!(f, "routes of {namespace}"),
            Self::Workload(workload) => write!(f, "workload {workload}"),
        }
    }
}

/// Something that is not as it was: made, changed or gone.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Change {
    /// A policy. Those of kind Workload change nothing by themselves: the registry's workload does.
    Policy(PolicyKey),
    /// A workload of the registry.
    Workload(WorkloadId),
}

/// Everything there is to compile.
#[must_use]
pub fn all_units(model: &Model<'_>) -> BTreeSet<Unit> {
    let mut units = BTreeSet::new();
    for service in model.set.services() {
        units
            .extend(service.spec.ports.iter().map(|port| Unit::ServicePort(service.id(), port.name.clone())));
    }
    add_all_routes(&mut units, model);
    add_workloads(&mut units, model, |_| true);
    units
}

/// The units that the changes touch, those that are gone included (they compile to nothing).
#[must_use]
pub fn affected(changes: &[Change], old: &Model<'_>, new: &Model<'_>) -> BTreeSet<Unit> {
    let mut units = BTreeSet::new();
    for change in changes {
        match change {
            Change::Workload(id) => by_workload(&mut units, id, old, new),
            Change::Policy(key) => {
                for model in [old, new] {
                    by_policy(&mut units, key, model, new);
                }
            }
        }
    }
    units
}

/// The services whose virtual hosts the changes touch; `None` is all of them.
pub(super) fn services_with_changed_hosts(
    changes: &[Change],
    old: &Model<'_>,
    new: &Model<'_>,
) -> Option<BTreeSet<ServiceId>> {
    let mut services = BTreeSet::new();
    for change in changes {
        let Change::Policy(key) = change else { continue };
        for model in [old, new] {
            let Some(policy) = model.set.get(key) else { continue };
            if policy.shapes().contains(&Part::Hosts) {
                match Services::called_by(policy, model) {
                    Services::All => return None,
                    Services::These(found) => services.extend(found),
                }
            }
        }
    }
    Some(services)
}

fn by_workload(units: &mut BTreeSet<Unit>, id: &WorkloadId, old: &Model<'_>, new: &Model<'_>) {
    units.insert(Unit::Workload(id.clone()));
    let (before, after) = (old.workloads.get(id), new.workloads.get(id));
    let endpoint_is_same = matches!((before, after), (Some(a), Some(b)) if same_endpoint(a, b));
    if !endpoint_is_same {
        for (model, state) in [(old, before), (new, after)] {
            for (service, spec) in state.into_iter().flat_map(|state| model.services_of(state)) {
                let ports =
                    spec.ports.iter().map(|port| Unit::ServicePort(service.clone(), port.name.clone()));
                units.extend(ports);
            }
        }
    }
    // The first and the last sidecar of a namespace bring and take its routes.
    let sidecar = |state: Option<&WorkloadState>| state.is_some_and(WorkloadState::has_sidecar);
    if sidecar(before) != sidecar(after) {
        units.insert(Unit::Routes(id.namespace.clone()));
    }
}

/// Whether peers see no difference.
fn same_endpoint(a: &WorkloadState, b: &WorkloadState) -> bool {
    let seen = |state: &WorkloadState| WorkloadState {
        outbound: a.outbound,
        upstreams: Vec::new(),
        ..state.clone()
    };
    seen(a) == seen(b)
}

/// What a policy of a model touches follows from what its kind shapes, and from the services that it speaks of.
fn by_policy(units: &mut BTreeSet<Unit>, key: &PolicyKey, model: &Model<'_>, new: &Model<'_>) {
    let Some(policy) = model.set.get(key) else { return };
    let own = Services::of(policy, model);
    let called = Services::called_by(policy, model);
    for part in policy.shapes() {
        match part {
            Part::Clusters => {
                for service in own.iter(model) {
                    let ports = service.spec.ports.iter();
                    units.extend(ports.map(|port| Unit::ServicePort(service.id(), port.name.clone())));
                }
            }
            Part::Hosts | Part::Routes => add_all_routes(units, new),
            Part::Upstreams => add_workloads(units, new, |workload| {
                workload.upstreams.iter().any(|upstream| called.has(&upstream.service))
            }),
            Part::Inbound => add_workloads(units, new, |workload| {
                own.iter(model).any(|service| workload.belongs_to(&service.id(), &service.spec))
            }),
            Part::Sidecars => add_workloads(units, new, |_| true),
        }
    }
}

/// The services that a policy speaks of.
enum Services {
    All,
    These(BTreeSet<ServiceId>),
}

impl Services {
    /// A service speaks of itself, a route of its parents, another policy of what it targets.
    fn of(policy: &Policy, model: &Model<'_>) -> Self {
        let mut found = BTreeSet::new();
        found.extend(policy.of::<Service>().map(|service| service.id()));
        for reference in policy.references() {
            match (reference.relation, reference.target) {
                (Relation::Parent | Relation::Target, Target::Object(key, _)) => {
                    found.extend(behind(&key, model));
                }
                (Relation::Target, Target::Namespace(name)) => {
                    let services = model.set.services();
                    let inside = services.filter(|service| service.metadata.namespace == name);
                    found.extend(inside.map(|service| service.id()));
                }
                (Relation::Target, Target::Mesh) => return Self::All,
                (Relation::Parent, Target::Mesh | Target::Namespace(_) | Target::Hostname(_))
                | (Relation::Target, Target::Hostname(_))
                | (Relation::Backend | Relation::Mention | Relation::Claim, _) => {}
            }
        }
        Self::These(found)
    }

    /// Those of [`Services::of`], and the parents of routes that lead to the policy, if it is a service: what callers of
    /// any of them are told depends on it.
    fn called_by(policy: &Policy, model: &Model<'_>) -> Self {
        let Self::These(mut found) = Self::of(policy, model) else { return Self::All };
        for route in model.set.naming_any(Relation::Backend, &Target::Object(policy.key(), None)) {
            if let Self::These(parents) = Self::of(route, model) {
                found.extend(parents);
            }
        }
        Self::These(found)
    }

    fn has(&self, service: &ServiceId) -> bool {
        match self {
            Self::All => true,
            Self::These(services) => services.contains(service),
        }
    }

    /// Those that exist.
    fn iter<'a>(&'a self, model: &Model<'a>) -> Box<dyn Iterator<Item = &'a Arc<Object<Service>>> + 'a> {
        let set = model.set;
        match self {
            Self::All => Box::new(set.services()),
            Self::These(services) => Box::new(services.iter().filter_map(|id| set.service(id))),
        }
    }
}

/// The services that an object stands for: itself, or the parents of a route.
fn behind(key: &PolicyKey, model: &Model<'_>) -> Vec<ServiceId> {
    if key.kind == Kind::Service {
        return vec![key.id()];
    }
    let references = model.set.get(key).map(Policy::references).unwrap_or_default().into_iter();
    let parents = references.filter(|reference| reference.relation == Relation::Parent);
    let services = parents.filter_map(|reference| match reference.target {
        Target::Object(key, _) => Some(key.id()),
        Target::Mesh | Target::Namespace(_) | Target::Hostname(_) => None,
    });
    services.collect()
}

fn add_all_routes(units: &mut BTreeSet<Unit>, model: &Model<'_>) {
    let callers = model.workloads.values().filter(|workload| workload.has_sidecar());
    units.extend(callers.map(|workload| Unit::Routes(workload.id.namespace.clone())));
}

fn add_workloads(units: &mut BTreeSet<Unit>, model: &Model<'_>, wanted: impl Fn(&WorkloadState) -> bool) {
    let found = model.workloads.values().filter(|workload| workload.has_sidecar() && wanted(workload));
    units.extend(found.map(|workload| Unit::Workload(workload.id.clone())));
}
