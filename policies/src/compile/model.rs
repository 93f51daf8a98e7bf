//! What the compiler reads: the policies, and the workloads as the registry sees them now.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;

use imbl::OrdMap;
use weft_api::names::{Name, ServiceId, SpiffeId, TrustDomain, WorkloadId};

use crate::kinds::Service;
use crate::kinds::service::{Port, Subset};
use crate::set::PolicySet;
use crate::value::{PeerAddress, PortRef};

pub use crate::kinds::workload::{Locality, ProxyType};

/// Addresses and ports of the control planes.
pub type ControlPlaneAddresses = BTreeSet<SocketAddr>;

/// All workloads by id. A copy shares what it does not change.
pub type Workloads = OrdMap<WorkloadId, WorkloadState>;

/// A consistent view of the mesh: one policy set and the workloads of the same moment.
#[derive(Debug, Clone, Copy)]
pub struct Model<'a> {
    /// The trust domain of the mesh.
    pub trust_domain: &'a TrustDomain,
    /// The policies, validated as a set.
    pub set: &'a PolicySet,
    /// Every workload that has joined or that a document describes.
    pub workloads: &'a Workloads,
    /// Where the control planes are reached: what calls hosts that no service has is not led there.
    pub control_planes: &'a ControlPlaneAddresses,
}

/// One instance of an application, with the sidecar beside it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WorkloadState {
    /// Its name in the mesh, `NAMESPACE/WORKLOAD`.
    pub id: WorkloadId,
    /// Where other machines reach it.
    pub address: PeerAddress,
    /// Where its sidecar binds the listener that takes mTLS. Peers are told its port and never its address, which may
    /// be all addresses of the machine.
    pub inbound: SocketAddr,
    /// Where its sidecar takes the application's own HTTP requests.
    pub outbound: SocketAddr,
    /// The application's port on loopback for each named service port; the Service's `targetPort` otherwise.
    pub app_ports: BTreeMap<String, u16>,
    /// Labels that an operator's file gives it. Selectors match these and no others.
    pub labels: BTreeMap<String, String>,
    /// Labels that it declared of itself at its join, less those that the file gives. They choose among the subsets of
    /// its own service and decide nothing else, or a joiner could enter a service, or leave a policy, by a label.
    pub declared_labels: BTreeMap<String, String>,
    /// Region, zone and part of the zone that it runs in; empty parts are unknown.
    pub locality: Locality,
    /// Its share of the requests among the members of a service; 1 unless set.
    pub weight: u32,
    /// Services that a file makes it a member of, beside those whose selector matches the file's labels.
    pub services: Vec<ServiceId>,
    /// The service that its join token named: its certificate carries this identity, and it is a member of this service
    /// whatever it declares. None while it has not joined: then it has no certificate.
    pub identity: Option<ServiceId>,
    /// It only calls others, with its identity: it is a member of no service, and peers are never told of it.
    pub client: bool,
    /// Ports opened for its application, one for each declared upstream.
    pub upstreams: Vec<UpstreamListener>,
    /// What stands beside it.
    pub proxy: ProxyType,
    /// Directory that its sidecar may write access logs into, absolute and without a slash at its end; none where it declared
    /// none.
    pub access_log_dir: Option<String>,
    /// Health of the whole workload: liveness of its stream, drain.
    pub health: Health,
    /// Health of single ports, as its sidecar reports from checking the application.
    pub port_health: BTreeMap<(ServiceId, String), Health>,
}

/// A service port that is offered to the application on a port of its own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UpstreamListener {
    /// The service that the port leads to.
    pub service: ServiceId,
    /// Which of its ports.
    pub port: PortRef,
    /// Where the sidecar listens for it.
    pub bind: SocketAddr,
}

/// Whether a workload should get requests. Ordered from best to worst.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub enum Health {
    /// It gets its share of requests.
    #[default]
    Healthy,
    /// When the healthy ones do not suffice.
    Degraded,
    /// No: its application fails its checks.
    Unhealthy,
    /// No new ones: it is leaving.
    Draining,
    /// Not yet: its sidecar has not taken its listeners, or its application has not answered yet.
    Starting,
}

impl WorkloadState {
    /// Whether a sidecar takes its traffic.
    #[must_use]
    pub fn has_sidecar(&self) -> bool {
        match self.proxy {
            ProxyType::Weft | ProxyType::Envoy => true,
            ProxyType::Grpc | ProxyType::None => false,
        }
    }

    /// Where peers connect to its sidecar.
    #[must_use]
    pub fn reached_at(&self) -> SocketAddr {
        SocketAddr::new(self.address.ip(), self.inbound.port())
    }

    /// Whether it is a member, and no mere client: its token named the service, or a file grants it, by name or by labels that the service
    /// selects. Members are of the service's namespace.
    #[must_use]
    pub fn belongs_to(&self, service: &ServiceId, spec: &Service) -> bool {
        !self.client
            && self.id.namespace == service.namespace
            && (self.identity.as_ref() == Some(service)
                || self.services.contains(service)
                || spec.selector.as_ref().is_some_and(|selector| selector.matches(&self.labels)))
    }

    /// Whether the service would select it if the labels that it declared counted. It is no member all the same.
    #[must_use]
    pub fn looks_like(&self, service: &ServiceId, spec: &Service) -> bool {
        !self.client
            && self.id.namespace == service.namespace
            && !self.belongs_to(service, spec)
            && spec.selector.as_ref().is_some_and(|selector| selector.matches(&self.all_labels()))
    }

    /// Whether it is in a subset of a service that it belongs to. Declared labels count in its own service only.
    #[must_use]
    pub fn is_in_subset(&self, service: &ServiceId, subset: &Subset) -> bool {
        if self.identity.as_ref() == Some(service) {
            subset.matches(&self.all_labels())
        } else {
            subset.matches(&self.labels)
        }
    }

    /// The labels that it declared, and over them those of its file.
    #[must_use]
    pub fn all_labels(&self) -> BTreeMap<String, String> {
        let mut labels = self.declared_labels.clone();
        labels.extend(self.labels.clone());
        labels
    }

    /// Health for one port: the worse of the workload's and the port's.
    #[must_use]
    pub fn health_of(&self, service: &ServiceId, port: &str) -> Health {
        let reported = self.port_health.get(&(service.clone(), port.to_owned())).copied().unwrap_or_default();
        self.health.max(reported)
    }

    /// The application's own port for a service port.
    #[must_use]
    pub fn app_port(&self, port: &Port) -> u16 {
        self.app_ports.get(port.name.as_str()).copied().unwrap_or_else(|| port.app_port())
    }
}

impl<'a> Model<'a> {
    /// The workloads of a namespace in order of their names.
    pub fn workloads_in(&self, namespace: &Name) -> impl Iterator<Item = &'a WorkloadState> + use<'a> {
        let first = Name::try_new("0").expect("the smallest label");
        let namespace = namespace.clone();
        self.workloads
            .range(WorkloadId::new(namespace.clone(), first)..)
            .map(|(_, workload)| workload)
            .take_while(move |workload| workload.id.namespace == namespace)
    }

    /// The services that a workload belongs to, in order of their names.
    pub fn services_of(
        &self,
        workload: &'a WorkloadState,
    ) -> impl Iterator<Item = (ServiceId, &'a Service)> + use<'a> {
        self.set.services().filter_map(move |object| {
            let id = object.id();
            workload.belongs_to(&id, &object.spec).then_some((id, &object.spec))
        })
    }

    /// The members of a service in order of their names.
    pub fn members(
        &self,
        service: &'a ServiceId,
        spec: &'a Service,
    ) -> impl Iterator<Item = &'a WorkloadState> + use<'a> {
        self.workloads_in(&service.namespace).filter(move |workload| workload.belongs_to(service, spec))
    }

    /// The identities that answer for a service, sorted: its own, and those of workloads that a file makes members.
    #[must_use]
    pub fn identities(&self, service: &'a ServiceId, spec: &'a Service) -> Vec<SpiffeId> {
        let mut names: Vec<&ServiceId> =
            self.members(service, spec).filter_map(|member| member.identity.as_ref()).collect();
        names.push(service);
        names.sort_unstable();
        names.dedup();
        names.into_iter().map(|name| SpiffeId::service(self.trust_domain, name)).collect()
    }
}
