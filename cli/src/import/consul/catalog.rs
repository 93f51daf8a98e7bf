//! Config entries, by what they are about.

use std::collections::BTreeMap;

use weft_api::{Name, ServiceId};

use crate::import::drafts::Drafts;
use crate::import::input::{ImportInput, InputNode, set_aside_of_kubernetes};
use crate::import::names;

/// The port that callers use where Consul tells none.
pub(super) const PORT: u16 = 80;

/// A config entry about a service.
#[derive(Debug, Clone)]
pub(super) struct ConsulEntry<'a> {
    /// The service that it is about, or `global` and the like.
    pub(super) id: ServiceId,
    /// What it says, without the envelope of Kubernetes.
    pub(super) spec: InputNode<'a>,
}

/// The entries about services, by service.
#[derive(Debug)]
pub(super) struct ConsulCatalog<'a> {
    pub(super) namespace: Name,
    pub(super) protocol: Option<String>,
    pub(super) defaults: BTreeMap<ServiceId, ConsulEntry<'a>>,
    pub(super) resolvers: BTreeMap<ServiceId, ConsulEntry<'a>>,
    pub(super) splitters: BTreeMap<ServiceId, ConsulEntry<'a>>,
    pub(super) routers: BTreeMap<ServiceId, ConsulEntry<'a>>,
    pub(super) intentions: Vec<ConsulEntry<'a>>,
    /// Those whose destination is `*`.
    pub(super) intentions_of_all: Vec<InputNode<'a>>,
    pub(super) proxy_defaults: Vec<InputNode<'a>>,
    pub(super) meshes: Vec<InputNode<'a>>,
}

impl<'a> ConsulCatalog<'a> {
    /// What is known before any entry is read.
    pub(super) fn new(namespace: Name) -> Self {
        Self {
            namespace,
            protocol: None,
            defaults: BTreeMap::new(),
            resolvers: BTreeMap::new(),
            splitters: BTreeMap::new(),
            routers: BTreeMap::new(),
            intentions: Vec::new(),
            intentions_of_all: Vec::new(),
            proxy_defaults: Vec::new(),
            meshes: Vec::new(),
        }
    }

    pub(super) fn take(&mut self, input: &'a ImportInput) {
        let root = input.root();
        let Some(kind) = root.get("kind").and_then(|kind| kind.text()).map(kebab) else {
            return root.not_carried("is no config entry: it has no Kind");
        };
        let is_of_kubernetes = root.get("apiVersion").is_some();
        let spec = if is_of_kubernetes { root.get("spec") } else { Some(root.clone()) };
        set_aside(&root);
        let name = match kind.as_str() {
            "service-intentions" if is_of_kubernetes => root.at(&["spec", "destination", "name"]),
            _ if is_of_kubernetes => root.at(&["metadata", "name"]),
            "mesh" => None,
            _ => root.get("name"),
        };
        input.call(match name.as_ref().and_then(InputNode::text) {
            Some(name) => format!("{kind} {name}"),
            None => kind.clone(),
        });
        let Some(spec) = spec else { return root.not_carried("says nothing") };
        let partition = spec.get("partition").or_else(|| spec.at(&["destination", "partition"]));
        if let Some(partition) = partition
            && partition.text() != Some("default")
        {
            return root.not_carried("is of an admin partition: there are none here");
        }
        match kind.as_str() {
            "proxy-defaults" => return self.proxy_defaults.push(spec),
            "mesh" => return self.meshes.push(spec),
            _ => {}
        }
        let namespace = spec.get("namespace").or_else(|| spec.at(&["destination", "namespace"]));
        if kind == "service-intentions" && name.as_ref().and_then(InputNode::text) == Some("*") {
            self.intentions_of_all.push(spec);
            return;
        }
        let Some(id) = self.id(name.as_ref(), namespace.as_ref()) else {
            return root.not_carried("has no name that can be taken");
        };
        let entry = ConsulEntry { id: id.clone(), spec };
        let replaced = match kind.as_str() {
            "service-defaults" => self.defaults.insert(id, entry),
            "service-resolver" => self.resolvers.insert(id, entry),
            "service-splitter" => self.splitters.insert(id, entry),
            "service-router" => self.routers.insert(id, entry),
            "service-intentions" => {
                self.intentions.push(entry);
                None
            }
            other => return root.not_carried(no_counterpart(other)),
        };
        if let Some(replaced) = replaced {
            replaced.spec.not_carried("the same entry stands again further down, and that one is taken");
        }
    }

    /// The service that a name and a namespace mean.
    pub(super) fn id(
        &self,
        name: Option<&InputNode<'a>>,
        namespace: Option<&InputNode<'a>>,
    ) -> Option<ServiceId> {
        let namespace = match namespace {
            Some(namespace) => names::name(namespace)?,
            None => self.namespace.clone(),
        };
        Some(ServiceId::new(namespace, names::name(name?)?))
    }

    /// The service that an entry about `own` refers to: its fields `service` and `namespace`.
    pub(super) fn referred(&self, node: &InputNode<'a>, own: &ServiceId) -> Option<ServiceId> {
        let namespace = match node.get("namespace") {
            Some(namespace) => names::name(&namespace)?,
            None => own.namespace.clone(),
        };
        if let Some(partition) = node.get("partition")
            && partition.text() != Some("default")
        {
            partition.not_carried("there are no admin partitions here");
            return None;
        }
        match node.get("service") {
            Some(service) => Some(ServiceId::new(namespace, names::name(&service)?)),
            None => Some(ServiceId::new(namespace, own.name.clone())),
        }
    }

    /// What a service speaks, as Weft calls it.
    pub(super) fn protocol(&self, service: &ServiceId) -> Option<&'static str> {
        let own = self.defaults.get(service).and_then(|entry| entry.spec.get("protocol"));
        let own = own.and_then(|protocol| protocol.text()).map(str::to_owned);
        protocol(&own.or_else(|| self.protocol.clone())?)
    }

    /// Makes sure of the Service that `of` is about or refers to; `usual` is spoken where nothing is said.
    pub(super) fn service(
        &self,
        service: &ServiceId,
        usual: &'static str,
        of: &InputNode<'a>,
        drafts: &mut Drafts<'a>,
    ) {
        let known = drafts.port_of(service).is_some();
        drafts.port(service, PORT, self.protocol(service).unwrap_or(usual), of);
        if !known {
            of.differs(format!("Consul tells no port of {service}: callers use port {PORT} here"));
        }
    }
}

pub(super) fn protocol(written: &str) -> Option<&'static str> {
    match written.to_ascii_lowercase().as_str() {
        "tcp" => Some("TCP"),
        "http" => Some("HTTP"),
        "http2" => Some("HTTP2"),
        "grpc" => Some("GRPC"),
        _ => None,
    }
}

/// `ServiceDefaults` as `service-defaults`.
fn kebab(kind: &str) -> String {
    let mut text = String::new();
    for (index, c) in kind.chars().enumerate() {
        if c.is_ascii_uppercase() && index > 0 {
            text.push('-');
        }
        text.push(c.to_ascii_lowercase());
    }
    text
}

/// What Consul and Kubernetes keep for themselves.
fn set_aside(root: &InputNode<'_>) {
    for field in ["apiVersion", "createIndex", "modifyIndex", "hash", "status"] {
        root.get(field).inspect(InputNode::aside);
    }
    if let Some(metadata) = root.get("metadata").filter(|_| root.get("apiVersion").is_some()) {
        set_aside_of_kubernetes(&metadata);
        // Without Enterprise, Consul knows one namespace, wherever an entry stands in Kubernetes.
        metadata.get("namespace").inspect(InputNode::aside);
        metadata.get("name").inspect(InputNode::aside);
    }
    for (key, note) in root.get("meta").map(|meta| meta.fields()).unwrap_or_default() {
        if key == "external-source" || key.starts_with("consul.hashicorp.com/") {
            note.aside();
        } else {
            note.not_carried("notes of an entry are not carried");
        }
    }
}

fn no_counterpart(kind: &str) -> String {
    let why = match kind {
        "ingress-gateway"
        | "api-gateway"
        | "http-route"
        | "tcp-route"
        | "inline-certificate"
        | "file-system-certificate"
        | "bound-api-gateway" => "there are no gateways yet",
        "terminating-gateway" => "there are no gateways: write an ExternalService for what is outside",
        "exported-services" | "sameness-group" => "there are no peered clusters",
        "jwt-provider" => "tokens are not carried: write an AuthenticationPolicy",
        "control-plane-request-limit" => "it is about Consul's own servers",
        _ => "no such kind of entry is known",
    };
    format!("{kind}: {why}")
}
