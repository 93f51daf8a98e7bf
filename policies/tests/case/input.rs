//! A golden case's input: policy documents, and one document `workloads:` that stands for the registry.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};

use serde::Deserialize;
use weft_api::names::{ServiceId, TrustDomain, WorkloadId};
use weft_policies::PolicySet;
use weft_policies::compile::{
    ControlPlaneAddresses, Health, Locality, Model, ProxyType, UpstreamListener, WorkloadState, Workloads,
};
use weft_policies::value::{PeerAddress, PortRef};

/// What a case is made of.
#[derive(Debug, Clone)]
pub struct Input {
    pub trust_domain: TrustDomain,
    pub set: PolicySet,
    pub workloads: Workloads,
    pub control_planes: ControlPlaneAddresses,
}

impl Input {
    pub fn model(&self) -> Model<'_> {
        Model {
            trust_domain: &self.trust_domain,
            set: &self.set,
            workloads: &self.workloads,
            control_planes: &self.control_planes,
        }
    }

    /// Reads `input.yaml` of a case.
    pub fn read(case: &Path) -> Self {
        let path = case.join("input.yaml");
        let text =
            std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        let (registry, policies): (Vec<&str>, Vec<&str>) =
            text.split("\n---\n").partition(|document| document.trim_start().starts_with("workloads:"));
        let name = path.display().to_string();
        let documents = weft_policies::parse(&name, &policies.join("\n---\n"))
            .unwrap_or_else(|found| panic!("{name}: {found:#?}"));
        let applied =
            PolicySet::default().apply(&documents).unwrap_or_else(|found| panic!("{name}: {found:#?}"));
        let mut workloads = Workloads::new();
        for document in registry {
            let registry: Registry =
                serde_yaml::from_str(document).unwrap_or_else(|error| panic!("{name}: {error}"));
            for entry in registry.workloads {
                let state = entry.into_state();
                workloads.insert(state.id.clone(), state);
            }
        }
        let trust_domain = TrustDomain::try_new("mesh.local").expect("a valid trust domain");
        let control_planes = ["192.0.2.1:7401", "[2001:db8::1]:7400"];
        let control_planes = control_planes.map(|address| address.parse().expect("an address")).into();
        Self { trust_domain, set: applied.set, workloads, control_planes }
    }
}

/// The directories of all cases, sorted.
pub fn all() -> Vec<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden");
    let children = |path: &Path| {
        let entries = std::fs::read_dir(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        let mut paths: Vec<PathBuf> =
            entries.map(|entry| entry.expect("a readable directory").path()).collect();
        paths.sort();
        paths
    };
    let cases: Vec<PathBuf> = children(&root).iter().flat_map(|kind| children(kind)).collect();
    assert!(!cases.is_empty(), "no golden cases below {}", root.display());
    cases
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Registry {
    workloads: Vec<Entry>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    id: WorkloadId,
    identity: Option<ServiceId>,
    address: IpAddr,
    inbound: Option<SocketAddr>,
    outbound: Option<SocketAddr>,
    #[serde(default)]
    ports: BTreeMap<String, u16>,
    #[serde(default)]
    labels: BTreeMap<String, String>,
    #[serde(default)]
    declared_labels: BTreeMap<String, String>,
    #[serde(default)]
    locality: Locality,
    weight: Option<u32>,
    #[serde(default)]
    services: Vec<ServiceId>,
    #[serde(default)]
    upstreams: Vec<EntryUpstream>,
    #[serde(default)]
    proxy: ProxyType,
    health: Option<String>,
    #[serde(default)]
    client: bool,
    access_log_dir: Option<String>,
    #[serde(default)]
    unhealthy_ports: Vec<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct EntryUpstream {
    service: ServiceId,
    port: PortRef,
    bind: SocketAddr,
}

impl Entry {
    fn into_state(self) -> WorkloadState {
        let health = match self.health.as_deref() {
            None | Some("Healthy") => Health::Healthy,
            Some("Degraded") => Health::Degraded,
            Some("Unhealthy") => Health::Unhealthy,
            Some("Draining") => Health::Draining,
            Some("Starting") => Health::Starting,
            Some(other) => panic!("unknown health {other}"),
        };
        let port_health = self
            .unhealthy_ports
            .iter()
            .filter_map(|port| Some(((self.identity.clone()?, port.clone()), Health::Unhealthy)))
            .collect();
        let upstreams = self
            .upstreams
            .into_iter()
            .map(|one| UpstreamListener { service: one.service, port: one.port, bind: one.bind })
            .collect();
        WorkloadState {
            id: self.id,
            address: PeerAddress::try_new(self.address).expect("an address of one machine"),
            inbound: self.inbound.unwrap_or_else(|| SocketAddr::new(self.address, 15006)),
            outbound: self.outbound.unwrap_or_else(|| SocketAddr::from(([127, 0, 0, 1], 15001))),
            app_ports: self.ports,
            labels: self.labels,
            declared_labels: self.declared_labels,
            locality: self.locality,
            weight: self.weight.unwrap_or(1),
            services: self.services,
            identity: self.identity,
            client: self.client,
            upstreams,
            proxy: self.proxy,
            access_log_dir: self.access_log_dir,
            health,
            port_health,
        }
    }
}
