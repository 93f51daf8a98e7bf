//! What is compiled together, and which of it a change touches.

use std::collections::BTreeSet;
use std::fmt;

use weft_api::names::{Name, ServiceId, WorkloadId};

use super::model::{Model, WorkloadState};
use super::scope::Scope;
use super::{hosts, unknown_hosts};
use crate::kinds::backend::Backend;
use crate::kinds::kind::Kind;
use crate::kinds::mesh::DefaultView;
use crate::kinds::port::Port;
use crate::kinds::spec::{Part, Relation, Target};
use crate::object::PolicyKey;
use crate::policy::Policy;

/// The least that is compiled at once.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Unit {
    /// The cluster of a service's port, and of each of its subsets.
    Cluster(ServiceId, Name),
    /// The endpoints of a service's port, and of each of its subsets.
    Endpoints(ServiceId, Name),
    /// The virtual hosts of a service, as callers of one namespace reach it.
    Hosts(ServiceId, Name),
    /// The route configuration of callers, but for the virtual hosts of services.
    Routes(Scope),
    /// The listeners of one sidecar, and what belongs to it alone.
    Workload(WorkloadId),
}

impl fmt::Display for Unit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Cluster(service, port) | Self::Endpoints(service, port) => {
                write!(f, "service port {service}/{port}")
            }
            Self::Hosts(service, namespace) => write!(f, "hosts of {service} for {namespace}"),
            Self::Routes(scope) => write!(f, "routes of {scope}"),
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
    let namespaces = calling_namespaces(model);
    for backend in model.set.backends() {
        add_ports(&mut units, &backend.id(), backend.ports(), Unit::Cluster);
        if backend.service().is_some() {
            add_ports(&mut units, &backend.id(), backend.ports(), Unit::Endpoints);
        }
        add_hosts(&mut units, &backend.id(), &namespaces);
    }
    add_routes(&mut units, model);
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
    if changes.iter().any(is_of_the_outside)
        && unknown_hosts::are_looked_up(old) != unknown_hosts::are_looked_up(new)
    {
        add_workloads(&mut units, new, |_| true);
    }
    units
}

fn is_of_the_outside(change: &Change) -> bool {
    matches!(change, Change::Policy(key) if key.kind == Kind::ExternalService)
}

fn by_workload(units: &mut BTreeSet<Unit>, id: &WorkloadId, old: &Model<'_>, new: &Model<'_>) {
    units.insert(Unit::Workload(id.clone()));
    let (before, after) = (old.workloads.get(id), new.workloads.get(id));
    let endpoint_is_same = matches!((before, after), (Some(a), Some(b)) if same_endpoint(a, b));
    if !endpoint_is_same {
        for (model, state) in [(old, before), (new, after)] {
            let Some(state) = state else { continue };
            for (service, spec) in model.services_of(state) {
                add_ports(units, &service, &spec.ports, Unit::Endpoints);
                // A cluster names the identities of its members: all have the service's own, unless a file says more.
                if state.identity.as_ref() != Some(&service) {
                    add_ports(units, &service, &spec.ports, Unit::Cluster);
                }
            }
        }
    }
    let scope = |model: &Model<'_>, state: Option<&WorkloadState>| {
        let state = state.filter(|state| state.has_sidecar())?;
        Some(Scope::of(state, model.set.defaults().0.view))
    };
    let (before, after) = (scope(old, before), scope(new, after));
    if before != after {
        units.extend(before.into_iter().chain(after).map(Unit::Routes));
    }
    // The first and the last sidecar of a namespace bring and take its virtual hosts.
    if calls(&id.namespace, old) != calls(&id.namespace, new) {
        let namespaces = BTreeSet::from([id.namespace.clone()]);
        for backend in new.set.backends() {
            add_hosts(units, &backend.id(), &namespaces);
        }
    }
}

/// Whether peers see no difference.
fn same_endpoint(a: &WorkloadState, b: &WorkloadState) -> bool {
    let seen = |state: &WorkloadState| WorkloadState {
        outbound: a.outbound,
        upstreams: Vec::new(),
        access_log_dir: None,
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
                for backend in own.iter(model) {
                    add_ports(units, &backend.id(), backend.ports(), Unit::Cluster);
                }
            }
            Part::Endpoints => {
                for service in own.iter(model).filter_map(Backend::service) {
                    add_ports(units, &service.id(), &service.spec.ports, Unit::Endpoints);
                }
            }
            Part::Hosts => {
                let namespaces = calling_namespaces(new);
                for service in called.iter(model) {
                    add_hosts(units, &service.id(), &namespaces);
                }
                let itself = model.set.backend(&key.id()).filter(|backend| backend.key() == *key);
                for rival in itself.into_iter().flat_map(|backend| hosts::rivals(backend, model)) {
                    add_hosts(units, &rival, &namespaces);
                }
            }
            Part::Routes => add_routes(units, model),
            Part::Upstreams => add_workloads(units, new, |workload| {
                workload.upstreams.iter().any(|upstream| called.has(&upstream.service))
            }),
            Part::Leading => {
                let leading = own.leading(model);
                let namespaces = calling_namespaces(new);
                for service in leading.iter(model) {
                    add_hosts(units, &service.id(), &namespaces);
                }
                add_workloads(units, new, |workload| {
                    workload.upstreams.iter().any(|upstream| leading.has(&upstream.service))
                });
            }
            Part::Inbound => {
                let with_keys = Services::verifying_by(policy, model);
                add_workloads(units, new, |workload| {
                    let backends =
                        own.iter(model).chain(with_keys.iter().flat_map(|those| those.iter(model)));
                    let mut services = backends.filter_map(Backend::service);
                    services.any(|service| workload.belongs_to(&service.id(), &service.spec))
                });
            }
            Part::Sidecars => add_workloads(units, new, |_| true),
            Part::Callers if new.set.defaults().0.view == DefaultView::All => {}
            Part::Callers => {
                let namespaces = calling_namespaces(new);
                for service in own.iter(model) {
                    add_hosts(units, &service.id(), &namespaces);
                }
                add_workloads(units, new, |workload| {
                    workload.upstreams.iter().any(|upstream| own.has(&upstream.service))
                });
            }
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
        found.extend(Some(policy.key()).filter(|key| key.kind.is_backend()).map(|key| key.id()));
        for reference in policy.references() {
            match (reference.relation, reference.target) {
                (Relation::Parent | Relation::Target, Target::Object(key, _)) => {
                    found.extend(behind(&key, model));
                }
                (Relation::Target, Target::Namespace(name)) => {
                    let all = model.set.backends().map(Backend::id);
                    found.extend(all.filter(|id| id.namespace == name));
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

    /// The parents of routes that lead to any of them.
    fn leading(&self, model: &Model<'_>) -> Self {
        let Self::These(services) = self else { return Self::All };
        let backends = services.iter().map(|id| Target::Object(model.set.backend_key(id), None));
        let mut found = BTreeSet::new();
        for backend in backends {
            for route in model.set.naming_any(Relation::Backend, &backend) {
                if let Self::These(parents) = Self::of(route, model) {
                    found.extend(parents);
                }
            }
        }
        Self::These(found)
    }

    /// Those whose tokens are verified with keys that a service has.
    fn verifying_by(service: &Policy, model: &Model<'_>) -> Vec<Self> {
        let policies = model.set.naming_any(Relation::Mention, &Target::Object(service.key(), None));
        policies
            .filter(|one| one.kind() == Kind::AuthenticationPolicy)
            .map(|one| Self::of(one, model))
            .collect()
    }

    fn has(&self, service: &ServiceId) -> bool {
        match self {
            Self::All => true,
            Self::These(services) => services.contains(service),
        }
    }

    /// Those that there are: a route may name a parent that does not exist.
    fn iter<'a>(&'a self, model: &Model<'a>) -> Box<dyn Iterator<Item = Backend<'a>> + 'a> {
        let set = model.set;
        match self {
            Self::All => Box::new(set.backends()),
            Self::These(services) => Box::new(services.iter().filter_map(|id| set.backend(id))),
        }
    }
}

/// The services that an object stands for: itself, or the parents of a route.
fn behind(key: &PolicyKey, model: &Model<'_>) -> Vec<ServiceId> {
    if key.kind.is_backend() {
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

/// Whether a namespace has a sidecar, which calls others.
pub(super) fn calls(namespace: &Name, model: &Model<'_>) -> bool {
    model.workloads_in(namespace).any(WorkloadState::has_sidecar)
}

fn calling_namespaces(model: &Model<'_>) -> BTreeSet<Name> {
    let callers = model.workloads.values().filter(|workload| workload.has_sidecar());
    callers.map(|workload| workload.id.namespace.clone()).collect()
}

fn add_ports(
    units: &mut BTreeSet<Unit>,
    service: &ServiceId,
    ports: &[Port],
    unit: fn(ServiceId, Name) -> Unit,
) {
    units.extend(ports.iter().map(|port| unit(service.clone(), port.name.clone())));
}

fn add_hosts(units: &mut BTreeSet<Unit>, service: &ServiceId, namespaces: &BTreeSet<Name>) {
    units.extend(namespaces.iter().map(|namespace| Unit::Hosts(service.clone(), namespace.clone())));
}

fn add_routes(units: &mut BTreeSet<Unit>, model: &Model<'_>) {
    let callers = model.workloads.values().filter(|workload| workload.has_sidecar());
    let view = model.set.defaults().0.view;
    units.extend(callers.map(|workload| Unit::Routes(Scope::of(workload, view))));
}

fn add_workloads(units: &mut BTreeSet<Unit>, model: &Model<'_>, wanted: impl Fn(&WorkloadState) -> bool) {
    let found = model.workloads.values().filter(|workload| workload.has_sidecar() && wanted(workload));
    units.extend(found.map(|workload| Unit::Workload(workload.id.clone())));
}
