//! What the compiler reads: the policies, and the workloads as the registry sees them now.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};

use weft_api::names::{Name, ServiceId, SpiffeId, TrustDomain, WorkloadId};

use crate::kinds::Service;
use crate::kinds::service::Port;
use crate::set::PolicySet;
use crate::value::PortRef;

pub use crate::kinds::workload::{Locality, ProxyType};

/// All workloads by id.
pub type Workloads = BTreeMap<WorkloadId, WorkloadState>;

/// A consistent view of the mesh: one policy set and the workloads of the same moment.
#[derive(Debug, Clone, Copy)]
pub struct Model<'a> {
    /// The trust domain of the mesh.
    pub trust_domain: &'a TrustDomain,
    /// The policies, validated as a set.
    pub set: &'a PolicySet,
    /// The workloads.
    pub workloads: &'a Workloads,
}

/// One instance of an application, with the sidecar beside it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WorkloadState {
    /// Its name.
    pub id: WorkloadId,
    /// Where other machines reach it.
    pub address: IpAddr,
    /// Where its sidecar takes mTLS.
    pub inbound: SocketAddr,
    /// Where its sidecar takes the application's own HTTP requests.
    pub outbound: SocketAddr,
    /// The application's port on loopback for each named service port; the Service's `targetPort` otherwise.
    pub app_ports: BTreeMap<String, u16>,
    /// Labels, matched by selectors.
    pub labels: BTreeMap<String, String>,
    /// Where it runs.
    pub locality: Locality,
    /// Its share of the requests among the members of a service; 1 unless set.
    pub weight: u32,
    /// Services that it names itself a member of, beside those whose selector matches.
    pub services: Vec<ServiceId>,
    /// The service whose identity its certificate carries.
    pub identity: ServiceId,
    /// Ports opened for its application, one for each declared upstream.
    pub upstreams: Vec<Upstream>,
    /// What stands beside it.
    pub proxy: ProxyType,
    /// Health of the whole workload: liveness of its stream, drain.
    pub health: Health,
    /// Health of single ports, as its sidecar reports from checking the application.
    pub port_health: BTreeMap<(ServiceId, String), Health>,
}

/// A service port that is offered to the application on a port of its own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Upstream {
    /// The service called.
    pub service: ServiceId,
    /// Which of its ports.
    pub port: PortRef,
    /// Where the sidecar listens for it.
    pub bind: SocketAddr,
}

/// Whether a workload should get requests. Ordered from best to worst.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub enum Health {
    /// Yes.
    #[default]
    Healthy,
    /// When the healthy ones do not suffice.
    Degraded,
    /// No: its application fails its checks.
    Unhealthy,
    /// No new ones: it is leaving.
    Draining,
    /// Not yet: its sidecar has not taken its listeners.
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

    /// Whether it is a member: it names the service, or the service's selector matches its labels. Members are of
    /// the service's namespace.
    #[must_use]
    pub fn belongs_to(&self, service: &ServiceId, spec: &Service) -> bool {
        self.id.namespace == service.namespace
            && (self.identity == *service
                || self.services.contains(service)
                || spec.selector.as_ref().is_some_and(|selector| selector.matches(&self.labels)))
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

    /// The identities that answer for a service: its own and those of its members, sorted.
    #[must_use]
    pub fn identities(&self, service: &ServiceId, spec: &Service) -> Vec<SpiffeId> {
        let members =
            self.workloads_in(&service.namespace).filter(|workload| workload.belongs_to(service, spec));
        let mut names: Vec<&ServiceId> = members.map(|workload| &workload.identity).collect();
        names.push(service);
        names.sort_unstable();
        names.dedup();
        names.into_iter().map(|name| SpiffeId::service(self.trust_domain, name)).collect()
    }
}
