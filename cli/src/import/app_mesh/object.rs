//! Objects of App Mesh without their envelopes, and what their names mean.

use std::collections::BTreeMap;

use weft_api::{Name, ServiceId};

use crate::import::input::{ImportInput, InputNode, set_aside_of_kubernetes};
use crate::import::names;
use crate::import::options::ImportOptions;

/// One object, without its envelope.
#[derive(Debug, Clone)]
pub(super) struct AppMeshObject<'a> {
    /// Its name, as others refer to it.
    pub(super) name: String,
    /// The namespace of Kubernetes that it stands in; else that of what has none.
    pub(super) namespace: Name,
    pub(super) spec: InputNode<'a>,
    /// The object with its name, for what is said of all of it.
    pub(super) root: InputNode<'a>,
}

/// A route of a router, in a document of its own or within the router's.
#[derive(Debug)]
pub(super) struct RouterRoute<'a> {
    pub(super) router: String,
    pub(super) name: Option<String>,
    pub(super) spec: InputNode<'a>,
}

/// All objects, by what others call them.
#[derive(Debug, Default)]
pub(super) struct AppMeshCatalog<'a> {
    pub(super) nodes: BTreeMap<String, AppMeshObject<'a>>,
    pub(super) services: BTreeMap<String, AppMeshObject<'a>>,
    pub(super) routers: BTreeMap<String, AppMeshObject<'a>>,
    pub(super) routes: Vec<RouterRoute<'a>>,
}

pub(super) fn take<'a>(
    input: &'a ImportInput,
    options: &ImportOptions,
) -> Option<(&'static str, AppMeshObject<'a>)> {
    const KINDS: [(&str, &str, &str); 7] = [
        ("Mesh", "mesh", "meshName"),
        ("VirtualNode", "virtualNode", "virtualNodeName"),
        ("VirtualService", "virtualService", "virtualServiceName"),
        ("VirtualRouter", "virtualRouter", "virtualRouterName"),
        ("Route", "route", "routeName"),
        ("VirtualGateway", "virtualGateway", "virtualGatewayName"),
        ("GatewayRoute", "gatewayRoute", "gatewayRouteName"),
    ];
    let document = input.root();
    if document.get("apiVersion").is_some() {
        return take_of_kubernetes(&document, input, options);
    }
    // What the command line prints has the object in a field of its kind.
    let found = KINDS.into_iter().find_map(|(kind, field, name)| Some((kind, name, document.get(field)?)));
    let Some((kind, name, root)) = found else {
        document.not_carried(
            "is no object of App Mesh: it is in no field such as virtualNode, nor of an apiVersion",
        );
        return None;
    };
    for field in ["metadata", "status", "meshName"] {
        if field != name {
            root.get(field).inspect(InputNode::aside);
        }
    }
    let Some(name) = root.get(name).and_then(|name| name.text()) else {
        root.not_carried("has no name");
        return None;
    };
    input.call(format!("{kind} {name}"));
    let spec = root.get("spec").unwrap_or_else(|| root.clone());
    Some((kind, AppMeshObject { name: name.to_owned(), namespace: options.namespace.clone(), spec, root }))
}

fn take_of_kubernetes<'a>(
    root: &InputNode<'a>,
    input: &'a ImportInput,
    options: &ImportOptions,
) -> Option<(&'static str, AppMeshObject<'a>)> {
    const KINDS: [&str; 6] =
        ["Mesh", "VirtualNode", "VirtualService", "VirtualRouter", "VirtualGateway", "GatewayRoute"];
    for field in ["apiVersion", "status"] {
        root.get(field).inspect(InputNode::aside);
    }
    let kind = root.get("kind");
    let kind = kind.as_ref().and_then(InputNode::text).unwrap_or_default();
    let metadata = root.get("metadata");
    metadata.as_ref().inspect(|metadata| set_aside_of_kubernetes(metadata));
    let name = root.at(&["metadata", "name"]).and_then(|name| name.text());
    input.call(format!("{kind} {}", name.unwrap_or_default()));
    let (Some(kind), Some(name)) = (KINDS.into_iter().find(|known| *known == kind), name) else {
        root.not_carried("is no object of App Mesh's controller");
        return None;
    };
    let namespace = match root.at(&["metadata", "namespace"]) {
        Some(namespace) => names::name(&namespace)?,
        None => options.namespace.clone(),
    };
    let spec = root.get("spec").unwrap_or_else(|| root.clone());
    spec.get("meshRef").inspect(InputNode::aside);
    Some((kind, AppMeshObject { name: name.to_owned(), namespace, spec, root: root.clone() }))
}

/// The name under a reference, `virtualNodeName` or `virtualNodeRef.name`.
pub(super) fn referred<'a>(node: &InputNode<'a>, what: &str) -> Option<&'a str> {
    let name = node.get(&format!("{what}Name")).or_else(|| node.at(&[&format!("{what}Ref"), "name"]));
    node.at(&[&format!("{what}Ref"), "namespace"]).inspect(InputNode::aside);
    name?.text()
}

/// The service that a virtual node's name means.
pub(super) fn of_node(object: &AppMeshObject<'_>) -> Option<ServiceId> {
    Some(ServiceId::new(object.namespace.clone(), names::plain(&object.name)?))
}

/// The service that a virtual service's name means, and the host name by which callers know it besides.
pub(super) fn of_virtual_service(object: &AppMeshObject<'_>) -> Option<(ServiceId, Option<String>)> {
    let aws = object.spec.get("awsName").and_then(|name| name.text());
    let written = aws.unwrap_or(&object.name);
    let parts: Vec<&str> = written.split('.').collect();
    let namespace = match parts[..] {
        [_, namespace, "svc", ..] => Name::try_new(namespace).ok()?,
        _ => object.namespace.clone(),
    };
    let id = ServiceId::new(namespace, names::plain(parts[0])?);
    let given = [format!("{}.{}", id.name, id.namespace), id.name.to_string()];
    Some((id, (!given.contains(&written.to_owned())).then(|| written.to_owned())))
}

/// A length of time as App Mesh writes it, a value and its unit.
pub(super) fn span(node: &InputNode<'_>) -> Option<String> {
    let value = node.get("value")?.count()?;
    match node.get("unit")?.text()? {
        unit @ ("ms" | "s") => Some(format!("{value}{unit}")),
        _ => None,
    }
}

fn protocol(written: &str) -> Option<&'static str> {
    match written {
        "http" => Some("HTTP"),
        "http2" => Some("HTTP2"),
        "grpc" => Some("GRPC"),
        "tcp" => Some("TCP"),
        _ => None,
    }
}

/// The ports that listeners name, with what is spoken there.
pub(super) fn ports(object: &AppMeshObject<'_>) -> Vec<(u16, &'static str)> {
    let each = object.spec.list("listeners").into_iter().filter_map(|listener| {
        let port = listener.at(&["portMapping", "port"])?.count()?;
        let written = listener.at(&["portMapping", "protocol"])?;
        let Some(protocol) = written.text().and_then(protocol) else {
            written.not_carried("no such protocol is known");
            return None;
        };
        Some((u16::try_from(port).ok()?, protocol))
    });
    each.collect()
}
