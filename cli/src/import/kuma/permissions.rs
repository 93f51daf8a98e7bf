//! MeshTrafficPermission. Kuma refuses what no permission lets pass, and the most specific permission decides; here a Deny
//! always wins, and where a service has an Allow, what no Allow matches is refused.

use serde_json::{Value, json};
use weft_api::{Name, ServiceId};
use weft_policies::Kind;

use super::resource::{KumaResource, KumaTarget};
use crate::import::drafts::Drafts;
use crate::import::input::InputNode;
use crate::import::names;

/// What a permission protects.
struct PermissionTarget {
    namespace: Name,
    target: Value,
    /// The one port that it is about; all others stay as they are.
    port: Option<u16>,
}

pub(super) fn import<'a>(resource: &KumaResource<'a>, drafts: &mut Drafts<'a>) {
    let spec = &resource.spec;
    let target = match spec.get("targetRef") {
        Some(target) => resource.target(&target),
        None => Some(KumaTarget::Everybody),
    };
    let Some(protected) = target.map(|target| protected(target, resource.namespace.as_ref())) else {
        return spec.not_carried("what it protects has no counterpart");
    };
    let mut made = Rules::default();
    for from in spec.list("from") {
        let source = match from.get("targetRef") {
            Some(source) => resource.target(&source),
            None => Some(KumaTarget::Everybody),
        };
        let action = from.at(&["default", "action"]);
        let Some(source) = source else {
            from.not_carried("this caller has no counterpart: nothing is allowed or refused to it");
            continue;
        };
        let source = match source {
            KumaTarget::Everybody => json!({}),
            KumaTarget::Namespace(name) => json!({"from": [{"namespaces": [name]}]}),
            KumaTarget::Service(service, _) => {
                json!({"from": [{"services": [names::reference(&service, &protected.namespace)]}]})
            }
        };
        match action.as_ref().and_then(InputNode::text) {
            Some("Allow") => made.allow.push(source),
            Some("Deny") => made.deny.push(source),
            Some("AllowWithShadowDeny") => {
                made.allow.push(source.clone());
                made.shadow.push(source);
            }
            _ => from.not_carried("is neither Allow nor Deny"),
        }
    }
    for rule in spec.list("rules") {
        for (field, list) in [("allow", 0), ("deny", 1), ("allowWithShadowDeny", 2)] {
            for one in rule.get("default").map(|default| default.list(field)).unwrap_or_default() {
                let Some(source) = of_identity(&one) else { continue };
                match list {
                    0 => made.allow.push(source),
                    1 => made.deny.push(source),
                    _ => {
                        made.allow.push(source.clone());
                        made.shadow.push(source);
                    }
                }
            }
        }
    }
    if !made.deny.is_empty() {
        spec.differs("a refusal wins over every permission here; in Kuma the more specific one decides");
    }
    for (action, mode, suffix, rules) in [
        ("Allow", "Enforce", "", made.allow),
        ("Deny", "Enforce", "-deny", made.deny),
        ("Deny", "Shadow", "-shadow", made.shadow),
    ] {
        if rules.is_empty() {
            continue;
        }
        let of_port = |mut rule: Value| {
            if let Some(port) = protected.port {
                rule["to"] = json!([{"ports": [port]}]);
            }
            rule
        };
        let rules: Vec<Value> = rules.into_iter().map(of_port).collect();
        let name = format!("{}{suffix}", resource.name);
        let Ok(id) = ServiceId::try_new(protected.namespace.as_str(), &name) else {
            spec.not_carried(format!("{name} is no name here"));
            continue;
        };
        let draft = drafts.object(Kind::AuthorizationPolicy, id, spec);
        draft.write(json!({"targetRefs": [protected.target], "action": action, "rules": rules}));
        if mode == "Shadow" {
            draft.set(&["mode"], mode);
        }
    }
}

#[derive(Default)]
struct Rules {
    allow: Vec<Value>,
    deny: Vec<Value>,
    shadow: Vec<Value>,
}

fn protected(target: KumaTarget, namespace: Option<&Name>) -> PermissionTarget {
    match (target, namespace) {
        (KumaTarget::Everybody, None) => {
            let namespace = Name::try_new("default").expect("a valid name");
            PermissionTarget { namespace, target: json!({"kind": "Mesh", "name": "mesh"}), port: None }
        }
        (KumaTarget::Everybody, Some(name)) => of_namespace(name.clone()),
        (KumaTarget::Namespace(name), _) => of_namespace(name),
        (KumaTarget::Service(service, port), _) => {
            let ServiceId { namespace, name } = service;
            PermissionTarget { namespace, target: json!({"kind": "Service", "name": name}), port }
        }
    }
}

fn of_namespace(name: Name) -> PermissionTarget {
    PermissionTarget { target: json!({"kind": "Namespace", "name": name}), namespace: name, port: None }
}

/// A caller by its SPIFFE id.
fn of_identity(node: &InputNode<'_>) -> Option<Value> {
    let identity = node.get("spiffeID").or_else(|| node.get("spiffeId"));
    let Some(identity) = identity else {
        node.not_carried("callers are told by their SPIFFE id");
        return None;
    };
    let kind = identity.get("type");
    let value = identity.get("value")?.text()?;
    match kind.as_ref().and_then(InputNode::text) {
        Some("Exact") | None => {
            identity.differs(
                "identities are spiffe://TRUST-DOMAIN/ns/NAMESPACE/svc/SERVICE here: look at this one again",
            );
            Some(json!({"from": [{"identities": [value]}]}))
        }
        Some("Prefix") => {
            let parts: Vec<&str> = value.trim_start_matches("spiffe://").split('/').collect();
            match parts[..] {
                [_, "ns", name] | [_, "ns", name, ""] if Name::try_new(name).is_ok() => {
                    Some(json!({"from": [{"namespaces": [name]}]}))
                }
                _ => {
                    identity
                        .not_carried("only the prefix of a namespace tells callers: spiffe://…/ns/NAMESPACE");
                    None
                }
            }
        }
        Some(other) => {
            identity.not_carried(format!("{other}: no such comparison is known"));
            None
        }
    }
}
