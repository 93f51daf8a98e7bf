//! Which policies speak of what.

use std::collections::BTreeMap;
use std::sync::Arc;

use weft_api::{Name, ServiceId};

use crate::kinds::reference::{ParentKind, TargetKind, TargetRef};
use crate::kinds::{AuthorizationPolicy, HttpRoute, TcpRoute, TrafficPolicy};
use crate::policy::{Object, Policy};

/// What a policy targets, with its namespace resolved.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Target {
    /// The whole mesh.
    Mesh,
    /// A namespace.
    Namespace(Name),
    /// A service or one of its ports.
    Service(ServiceId, Option<Name>),
    /// A route or one of its rules.
    HttpRoute(ServiceId, Option<Name>),
    /// A route or one of its rules.
    TcpRoute(ServiceId, Option<Name>),
}

impl Target {
    /// The target of a policy in `namespace`.
    pub(super) fn of(target: &TargetRef, namespace: &Name) -> Self {
        let id = || ServiceId::new(target.namespace(namespace).clone(), target.name.clone());
        match target.kind {
            TargetKind::Mesh => Self::Mesh,
            TargetKind::Namespace => Self::Namespace(target.name.clone()),
            TargetKind::Service => Self::Service(id(), target.section_name.clone()),
            TargetKind::HttpRoute => Self::HttpRoute(id(), target.section_name.clone()),
            TargetKind::TcpRoute => Self::TcpRoute(id(), target.section_name.clone()),
        }
    }
}

/// Policies by what they hang on. Each list is in order of the policies' keys.
#[derive(Debug, Default)]
pub(super) struct Index {
    pub(super) http_routes: BTreeMap<ServiceId, Vec<Arc<Object<HttpRoute>>>>,
    pub(super) tcp_routes: BTreeMap<ServiceId, Vec<Arc<Object<TcpRoute>>>>,
    pub(super) traffic: BTreeMap<Target, Vec<Arc<Object<TrafficPolicy>>>>,
    pub(super) authorization: BTreeMap<Target, Vec<Arc<Object<AuthorizationPolicy>>>>,
}

impl Index {
    pub(super) fn of<'a>(policies: impl Iterator<Item = &'a Policy>) -> Self {
        let mut index = Self::default();
        for policy in policies {
            index.add(policy);
        }
        index
    }

    fn add(&mut self, policy: &Policy) {
        match policy {
            Policy::Mesh(_) | Policy::Service(_) | Policy::Workload(_) => {}
            Policy::HttpRoute(route) => {
                for parent in
                    route.spec.parent_refs.iter().filter(|parent| parent.kind == ParentKind::Service)
                {
                    push(&mut self.http_routes, parent.service(&route.metadata.namespace), route);
                }
            }
            Policy::TcpRoute(route) => {
                for parent in
                    route.spec.parent_refs.iter().filter(|parent| parent.kind == ParentKind::Service)
                {
                    push(&mut self.tcp_routes, parent.service(&route.metadata.namespace), route);
                }
            }
            Policy::TrafficPolicy(policy) => {
                for target in &policy.spec.target_refs {
                    push(&mut self.traffic, Target::of(target, &policy.metadata.namespace), policy);
                }
            }
            Policy::AuthorizationPolicy(policy) => {
                for target in &policy.spec.target_refs {
                    push(&mut self.authorization, Target::of(target, &policy.metadata.namespace), policy);
                }
            }
        }
    }
}

/// Adds `item` to the list at `key` unless it is the last there: a route may name two ports of one service.
fn push<K: Ord, T>(map: &mut BTreeMap<K, Vec<Arc<T>>>, key: K, item: &Arc<T>) {
    let list = map.entry(key).or_default();
    if !list.last().is_some_and(|last| Arc::ptr_eq(last, item)) {
        list.push(Arc::clone(item));
    }
}
