//! What is compiled together, and which of it a change touches.

use std::collections::BTreeSet;
use std::fmt;

use weft_api::names::{Name, ServiceId, WorkloadId};

use super::model::{Model, WorkloadState};
use crate::kinds::reference::{ParentKind, ParentRef, TargetKind, TargetRef};
use crate::kinds::{HttpRoute, Kind};
use crate::policy::{Object, Policy};
use crate::set::PolicyKey;

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
            match model.set.get(key) {
                Some(Policy::Service(service)) => {
                    let id = service.id();
                    services.extend(parents_leading_to(&id, model));
                    services.insert(id);
                }
                Some(Policy::HttpRoute(route)) => services.extend(parents(route)),
                Some(Policy::TrafficPolicy(policy)) => {
                    for target in &policy.spec.target_refs {
                        services.extend(targeted(target, &policy.metadata.namespace, model)?);
                    }
                }
                Some(
                    Policy::Mesh(_)
                    | Policy::Workload(_)
                    | Policy::TcpRoute(_)
                    | Policy::AuthorizationPolicy(_),
                )
                | None => {}
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

fn by_policy(units: &mut BTreeSet<Unit>, key: &PolicyKey, model: &Model<'_>, new: &Model<'_>) {
    match model.set.get(key) {
        None | Some(Policy::Workload(_)) => {}
        Some(Policy::Mesh(_)) => {
            add_all_routes(units, new);
            add_workloads(units, new, |_| true);
        }
        Some(Policy::Service(service)) => {
            let id = service.id();
            units.extend(
                service.spec.ports.iter().map(|port| Unit::ServicePort(id.clone(), port.name.clone())),
            );
            add_all_routes(units, new);
            let leading = parents_leading_to(&id, model);
            add_workloads(units, model, |workload| {
                workload.belongs_to(&id, &service.spec)
                    || calls(workload, |called| *called == id || leading.contains(called))
            });
        }
        Some(Policy::HttpRoute(route)) => {
            add_all_routes(units, new);
            let parents: BTreeSet<ServiceId> = parents(route).collect();
            add_workloads(units, new, |workload| calls(workload, |called| parents.contains(called)));
        }
        Some(Policy::TcpRoute(route)) => {
            let namespace = &route.metadata.namespace;
            let parents: BTreeSet<ServiceId> = services(&route.spec.parent_refs, namespace).collect();
            add_workloads(units, new, |workload| calls(workload, |called| parents.contains(called)));
        }
        Some(Policy::TrafficPolicy(policy)) => {
            let wanted = Wanted::of(&policy.spec.target_refs, &policy.metadata.namespace, model);
            for service in model.set.services().filter(|service| wanted.has(&service.id())) {
                let ports = service.spec.ports.iter();
                units.extend(ports.map(|port| Unit::ServicePort(service.id(), port.name.clone())));
            }
            add_all_routes(units, new);
            add_workloads(units, new, |workload| calls(workload, |called| wanted.has(called)));
        }
        Some(Policy::AuthorizationPolicy(policy)) => {
            let wanted = Wanted::of(&policy.spec.target_refs, &policy.metadata.namespace, model);
            add_workloads(units, new, |workload| {
                new.services_of(workload).any(|(service, _)| wanted.has(&service))
            });
        }
    }
}

/// The services that a policy speaks about.
enum Wanted {
    All,
    These(BTreeSet<ServiceId>),
}

impl Wanted {
    fn of(targets: &[TargetRef], namespace: &Name, model: &Model<'_>) -> Self {
        let mut found = BTreeSet::new();
        for target in targets {
            match targeted(target, namespace, model) {
                Some(services) => found.extend(services),
                None => return Self::All,
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
}

/// The services behind a target; `None` is all.
fn targeted(target: &TargetRef, namespace: &Name, model: &Model<'_>) -> Option<Vec<ServiceId>> {
    let namespace = target.namespace(namespace);
    Some(match target.kind {
        TargetKind::Mesh => return None,
        TargetKind::Namespace => {
            let inside = model.set.services().filter(|service| service.metadata.namespace == target.name);
            inside.map(|service| service.id()).collect()
        }
        TargetKind::Service => vec![ServiceId::new(namespace.clone(), target.name.clone())],
        TargetKind::HttpRoute => {
            match model.set.get(&PolicyKey::new(Kind::HttpRoute, namespace.clone(), target.name.clone())) {
                Some(Policy::HttpRoute(route)) => parents(route).collect(),
                _ => Vec::new(),
            }
        }
        TargetKind::TcpRoute => {
            match model.set.get(&PolicyKey::new(Kind::TcpRoute, namespace.clone(), target.name.clone())) {
                Some(Policy::TcpRoute(route)) => {
                    services(&route.spec.parent_refs, &route.metadata.namespace).collect()
                }
                _ => Vec::new(),
            }
        }
    })
}

fn parents(route: &Object<HttpRoute>) -> impl Iterator<Item = ServiceId> + '_ {
    services(&route.spec.parent_refs, &route.metadata.namespace)
}

fn services<'a>(parents: &'a [ParentRef], namespace: &'a Name) -> impl Iterator<Item = ServiceId> + 'a {
    parents.iter().filter(|parent| parent.kind == ParentKind::Service).map(|parent| parent.service(namespace))
}

/// The parents of all routes that have this service as a backend.
fn parents_leading_to(service: &ServiceId, model: &Model<'_>) -> BTreeSet<ServiceId> {
    let mut found = BTreeSet::new();
    for policy in model.set.of_kind(Kind::HttpRoute).chain(model.set.of_kind(Kind::TcpRoute)) {
        match policy {
            Policy::HttpRoute(route) => {
                let backends = route.spec.rules.iter().flat_map(|rule| &rule.backend_refs);
                if backends.into_iter().any(|one| one.service(&route.metadata.namespace) == *service) {
                    found.extend(parents(route));
                }
            }
            Policy::TcpRoute(route) => {
                let backends = route.spec.rules.iter().flat_map(|rule| &rule.backend_refs);
                if backends.into_iter().any(|one| one.service(&route.metadata.namespace) == *service) {
                    found.extend(services(&route.spec.parent_refs, &route.metadata.namespace));
                }
            }
            Policy::Mesh(_)
            | Policy::Service(_)
            | Policy::Workload(_)
            | Policy::TrafficPolicy(_)
            | Policy::AuthorizationPolicy(_) => {}
        }
    }
    found
}

fn calls(workload: &WorkloadState, wanted: impl Fn(&ServiceId) -> bool) -> bool {
    workload.upstreams.iter().any(|upstream| wanted(&upstream.service))
}

fn add_all_routes(units: &mut BTreeSet<Unit>, model: &Model<'_>) {
    let callers = model.workloads.values().filter(|workload| workload.has_sidecar());
    units.extend(callers.map(|workload| Unit::Routes(workload.id.namespace.clone())));
}

fn add_workloads(units: &mut BTreeSet<Unit>, model: &Model<'_>, wanted: impl Fn(&WorkloadState) -> bool) {
    let found = model.workloads.values().filter(|workload| workload.has_sidecar() && wanted(workload));
    units.extend(found.map(|workload| Unit::Workload(workload.id.clone())));
}
