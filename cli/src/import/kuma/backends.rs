//! Services of Kuma, and parts of them that routes lead to.

use std::collections::BTreeMap;

use serde_json::{Value, json};
use weft_api::{Name, ServiceId};
use weft_policies::Kind;

use super::resource::{KumaResource, KumaTarget};
use crate::import::drafts::Drafts;
use crate::import::input::InputNode;
use crate::import::names;

/// A MeshService: its ports. Whom it selects stands in labels of proxies, which are others here.
pub(super) fn service<'a>(resource: &KumaResource<'a>, drafts: &mut Drafts<'a>) {
    let id = ServiceId::new(resource.usual.clone(), resource.name.clone());
    for node in resource.spec.list("ports") {
        let protocol = node.get("appProtocol");
        let protocol = match protocol.as_ref().and_then(InputNode::text).unwrap_or("tcp") {
            "http" => "HTTP",
            "http2" => "HTTP2",
            "grpc" => "GRPC",
            "tcp" | "kafka" => "TCP",
            "tls" => "TLS",
            _ => {
                node.not_carried("no such protocol is known");
                continue;
            }
        };
        let Some(port) =
            node.get("port").and_then(|port| port.count()).and_then(|port| u16::try_from(port).ok())
        else {
            continue;
        };
        if let Some(target) = node.get("targetPort") {
            target.not_carried(
                "a member says itself where its application listens: weft-proxy --app-port NAME=PORT",
            );
        }
        if let Some(name) = node.get("name") {
            let named = name.text().unwrap_or_default().to_owned();
            if !named.eq_ignore_ascii_case(protocol) && named != port.to_string() {
                name.differs(format!(
                    "ports are called by their protocol: {}",
                    protocol.to_ascii_lowercase()
                ));
            }
        }
        drafts.port(&id, port, protocol, &resource.spec);
    }
    for (field, why) in [
        ("selector", "members join with a token of the service, and are no others"),
        ("identities", "an identity follows from the service"),
        ("state", "who is there is seen, not written"),
    ] {
        resource.spec.get(field).inspect(|node| node.not_carried(why));
    }
}

/// The backends that a list of backendRefs means; `usual` is spoken where nothing is said. Nothing where one of them has no
/// counterpart, which is noted.
pub(super) fn backends<'a>(
    resource: &KumaResource<'a>,
    refs: &[InputNode<'a>],
    namespace: &Name,
    usual: &'static str,
    drafts: &mut Drafts<'a>,
) -> Option<Value> {
    let mut list = Vec::new();
    for node in refs {
        let (service, port) =
            match (node.get("kind").and_then(|kind| kind.text().map(str::to_owned)), node.get("name")) {
                (Some(kind), _) if kind != "MeshService" && kind != "MeshServiceSubset" => {
                    node.not_carried(format!("{kind} has no counterpart"));
                    return None;
                }
                (_, Some(_)) => match resource.service(node)? {
                    KumaTarget::Service(service, port) => (service, port),
                    KumaTarget::Everybody | KumaTarget::Namespace(_) => return None,
                },
                (_, None) => {
                    node.not_carried("names no service");
                    return None;
                }
            };
        let written =
            node.get("port").and_then(|port| port.count()).and_then(|port| u16::try_from(port).ok());
        let port = written.or(port).or_else(|| drafts.port_of(&service));
        let port = port.unwrap_or_else(|| assumed(&service, node));
        drafts.port(&service, port, usual, node);
        let mut backend = json!({"name": service.name, "port": port});
        if service.namespace != *namespace {
            backend["namespace"] = json!(service.namespace);
        }
        if let Some(weight) = node.get("weight").and_then(|weight| weight.count()) {
            backend["weight"] = json!(weight);
        }
        if let Some(subset) = subset(&service, node, drafts) {
            backend["subset"] = json!(subset?);
        }
        list.push(backend);
    }
    Some(Value::from(list))
}

/// The port of a service of which none is told.
pub(super) fn assumed(service: &ServiceId, node: &InputNode<'_>) -> u16 {
    node.differs(format!("no port of {service} is told: callers use port 80 here"));
    80
}

/// The subset that the tags of a backend mean, where it has any.
fn subset<'a>(service: &ServiceId, node: &InputNode<'a>, drafts: &mut Drafts<'a>) -> Option<Option<Name>> {
    let tags = node.get("tags")?;
    let labels: BTreeMap<String, String> = tags
        .fields()
        .into_iter()
        .filter_map(|(key, value)| Some((key.to_owned(), value.scalar()?)))
        .collect();
    let words: Vec<String> = labels.iter().map(|(key, value)| format!("{key}-{value}")).collect();
    let Some(name) = names::plain(&words.join("-")) else {
        tags.not_carried("is no name for a part of a service");
        return Some(None);
    };
    tags.differs(format!(
        "is subset {name} here; members say the labels themselves: weft-proxy --label KEY=VALUE"
    ));
    drafts.object(Kind::Service, service.clone(), node).subset(&name, &labels);
    Some(Some(name))
}
