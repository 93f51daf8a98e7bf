//! Resources of Kuma without their envelopes, and whom they mean.

use weft_api::{Name, ServiceId};

use crate::import::input::{ImportInput, InputNode, set_aside_of_kubernetes};
use crate::import::names;
use crate::import::options::ImportOptions;

/// Where Kuma's control plane runs in Kubernetes: what stands there is for all namespaces.
const SYSTEM: [&str; 2] = ["kuma-system", "kong-mesh-system"];

/// One policy, without its envelope.
#[derive(Debug)]
pub(super) struct KumaResource<'a> {
    pub(super) name: Name,
    /// The namespace that it stands in, where it is for that one.
    pub(super) namespace: Option<Name>,
    /// That of what it names without one.
    pub(super) usual: Name,
    pub(super) spec: InputNode<'a>,
}

/// Whom a targetRef means.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum KumaTarget {
    Everybody,
    Namespace(Name),
    Service(ServiceId, Option<u16>),
}

pub(super) fn take<'a>(
    input: &'a ImportInput,
    options: &ImportOptions,
) -> Option<(&'a str, KumaResource<'a>)> {
    let root = input.root();
    let is_of_kubernetes = root.get("apiVersion").is_some();
    let kind = root.get(if is_of_kubernetes { "kind" } else { "type" });
    let Some(kind) = kind.as_ref().and_then(InputNode::text) else {
        root.not_carried("is no policy: it has no type, nor apiVersion and kind");
        return None;
    };
    for field in ["apiVersion", "status", "creationTime", "modificationTime", "mesh", "kri"] {
        root.get(field).inspect(InputNode::aside);
    }
    let labels = root.get("labels").or_else(|| root.at(&["metadata", "labels"]));
    for (key, label) in labels.map(|labels| labels.fields()).unwrap_or_default() {
        if key.contains("kuma.io/") {
            label.aside();
        } else {
            label.not_carried("labels of a policy are not carried");
        }
    }
    let metadata = root.get("metadata").filter(|_| is_of_kubernetes);
    metadata.as_ref().inspect(|metadata| set_aside_of_kubernetes(metadata));
    let name = metadata.as_ref().unwrap_or(&root).get("name");
    input.call(match name.as_ref().and_then(InputNode::text) {
        Some(name) => format!("{kind} {name}"),
        None => kind.to_owned(),
    });
    let Some(name) = name.as_ref().and_then(names::name) else {
        root.not_carried("has no name that can be taken");
        return None;
    };
    let namespace = metadata.and_then(|metadata| metadata.get("namespace"));
    let namespace = match namespace {
        Some(node) if node.text().is_some_and(|text| SYSTEM.contains(&text)) => None,
        Some(node) => Some(names::name(&node)?),
        None => None,
    };
    let usual = namespace.clone().unwrap_or_else(|| options.namespace.clone());
    let spec = root.get("spec");
    // A Mesh of the universal form has no spec, and one without any field is a Mesh too.
    let spec = match spec {
        Some(spec) => spec,
        None if kind == "Mesh" => root,
        None => {
            root.not_carried("says nothing: it has no spec");
            return None;
        }
    };
    Some((kind, KumaResource { name, namespace, usual, spec }))
}

impl<'a> KumaResource<'a> {
    /// Whom a targetRef means; nothing where that has no counterpart, which is noted.
    pub(super) fn target(&self, node: &InputNode<'a>) -> Option<KumaTarget> {
        let kind = node.get("kind");
        node.get("proxyTypes").inspect(|node| node.not_carried("there are sidecars only"));
        match kind.as_ref().and_then(InputNode::text) {
            None | Some("Mesh") => Some(KumaTarget::Everybody),
            Some("MeshService") => self.service(node),
            Some("MeshSubset" | "MeshServiceSubset" | "Dataplane") => self.subset(node),
            Some(other) => {
                node.not_carried(format!("{other} has no counterpart"));
                None
            }
        }
    }

    pub(super) fn service(&self, node: &InputNode<'a>) -> Option<KumaTarget> {
        if let Some(labels) = node.get("labels") {
            labels.not_carried("services are named one by one: write a policy for each");
            return None;
        }
        let name = node.get("name")?;
        if let Some((service, port)) = of_tag(name.text()?) {
            return Some(KumaTarget::Service(service, Some(port)));
        }
        let namespace = match node.get("namespace") {
            Some(namespace) => names::name(&namespace)?,
            None => self.usual.clone(),
        };
        let port = match node.get("sectionName") {
            Some(section) => Some(section.text()?.parse().ok().or_else(|| {
                section.not_carried("a port is named by its number here");
                None
            })?),
            None => None,
        };
        Some(KumaTarget::Service(ServiceId::new(namespace, names::name(&name)?), port))
    }

    /// Proxies by their tags or labels: those of a service, or those of a namespace.
    fn subset(&self, node: &InputNode<'a>) -> Option<KumaTarget> {
        let tags = node.get("tags").or_else(|| node.get("labels"));
        let tags = tags.map(|tags| tags.fields()).unwrap_or_default();
        let found = match (node.get("name"), &tags[..]) {
            (None, []) => Some(KumaTarget::Everybody),
            (None, [(key, value)]) => of_label(key, value, &self.usual),
            _ => None,
        };
        if found.is_none() {
            node.not_carried(
                "proxies are told apart by service or namespace: kuma.io/service, k8s.kuma.io/namespace",
            );
        }
        found
    }
}

fn of_label(key: &str, value: &InputNode<'_>, usual: &Name) -> Option<KumaTarget> {
    match key {
        "k8s.kuma.io/namespace" | "kuma.io/namespace" => names::name(value).map(KumaTarget::Namespace),
        "kuma.io/service" => match of_tag(value.text()?) {
            Some((service, port)) => Some(KumaTarget::Service(service, Some(port))),
            None => {
                names::name(value).map(|name| KumaTarget::Service(ServiceId::new(usual.clone(), name), None))
            }
        },
        "k8s.kuma.io/service-name" => {
            names::name(value).map(|name| KumaTarget::Service(ServiceId::new(usual.clone(), name), None))
        }
        _ => None,
    }
}

/// A service of Kubernetes as Kuma tags it, `NAME_NAMESPACE_svc_PORT`.
fn of_tag(text: &str) -> Option<(ServiceId, u16)> {
    let [name, namespace, "svc", port] = text.split('_').collect::<Vec<_>>()[..] else { return None };
    Some((ServiceId::try_new(namespace, name).ok()?, port.parse().ok()?))
}
