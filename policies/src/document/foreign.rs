//! Documents for others that stand in one file with ours: what Kubernetes and its neighbours take.
//!
//! They are told by their group. A word that could be a slip for one of ours is no other's: it is refused, with what was
//! meant.

use serde_json::{Map, Value};

use crate::finding::{Code, Finding, steps};
use crate::kinds::kind::{GATEWAY_API_VERSION, Kind};
use crate::suggest::suggest;

/// The group of our own kinds.
const OURS: &str = "weft.dev";
/// Kinds of Gateway API's group that Weft has nothing for.
const GATEWAY_KINDS: [&str; 9] = [
    "Gateway",
    "GatewayClass",
    "ReferenceGrant",
    "TLSRoute",
    "UDPRoute",
    "BackendTLSPolicy",
    "BackendLBPolicy",
    "BackendTrafficPolicy",
    "ListenerSet",
];

/// Why a document is left out; nothing where it is ours, or meant to be.
pub(super) fn left_out(fields: &Map<String, Value>) -> Option<Finding> {
    let word = |field: &str| fields.get(field).and_then(Value::as_str);
    let (kind, written) = (word("kind")?, word("apiVersion")?);
    let (group, version) = written.split_once('/').unwrap_or(("", written));
    if kind.is_empty() || !is_version(version) || !is_others(kind, group) {
        return None;
    }
    let group = if group.is_empty() { "v1" } else { group };
    let message = format!("{} of {group} is not taken and left out", weft_api::text::shorten(kind));
    let finding = Finding::new(steps!["kind"], Code::LeftOut, message);
    Some(match kind {
        "Service" => finding.hint("a Service of weft.dev/v1 says what Weft needs to know of it"),
        _ => finding,
    })
}

fn is_others(kind: &str, group: &str) -> bool {
    let gateway = GATEWAY_API_VERSION.split('/').next().unwrap_or_default();
    let ours = Kind::ALL.into_iter().find(|ours| ours.name() == kind);
    if group == OURS || suggest(group, [OURS, gateway]).is_some_and(|meant| meant != group) {
        return false;
    }
    if group == gateway {
        let is_route = |ours: Kind| ours.api_versions().contains(&GATEWAY_API_VERSION);
        return !ours.is_some_and(is_route) && GATEWAY_KINDS.contains(&kind);
    }
    match ours {
        // Kubernetes has a Service, and Roles, of its own.
        Some(ours) => (group.is_empty() && ours == Kind::Service) || group.ends_with(".k8s.io"),
        None => true,
    }
}

/// `v1`, `v1beta1` and the like, as Kubernetes counts versions.
fn is_version(text: &str) -> bool {
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    let Some(rest) = text.strip_prefix('v') else { return false };
    let stage = rest.split_once("alpha").or_else(|| rest.split_once("beta"));
    stage.map_or_else(|| digits(rest), |(major, minor)| digits(major) && digits(minor))
}

#[cfg(test)]
mod tests {
    use crate::document::{parse, parse_among_others};

    fn document(api_version: &str, kind: &str) -> String {
        format!(
            "apiVersion: {api_version}\nkind: {kind}\nmetadata: {{name: a, namespace: shop}}\nspec: {{}}\n"
        )
    }

    #[test]
    fn documents_of_others_are_left_out_by_kind_name_and_line() {
        let others = [
            ("v1", "Namespace"),
            ("v1", "Service"),
            ("apps/v1", "Deployment"),
            ("rbac.authorization.k8s.io/v1", "Role"),
            ("gateway.networking.k8s.io/v1", "Gateway"),
            ("gateway.networking.k8s.io/v1", "GatewayClass"),
            ("gateway.networking.k8s.io/v1beta1", "ReferenceGrant"),
            ("networking.istio.io/v1beta1", "VirtualService"),
        ];
        let ours = "apiVersion: weft.dev/v1\nkind: Service\nmetadata: {name: a}\n\
                    spec: {ports: [{name: http, port: 80, protocol: HTTP}]}\n";
        let text: Vec<String> = others.iter().map(|(version, kind)| document(version, kind)).collect();
        let text = format!("{}\n---\n{ours}", text.join("---\n"));
        let read = parse_among_others("file", &text).unwrap();
        assert_eq!(read.documents.len(), 1);
        for (index, (found, (_, kind))) in read.left_out.iter().zip(others).enumerate() {
            assert_eq!((found.code.as_str(), found.line), ("left_out", index * 5 + 2), "{found:?}");
            assert_eq!(found.object, format!("{kind} shop/a"));
        }
        assert_eq!(read.left_out.len(), others.len());
        assert_eq!(parse("file", &text).unwrap_err().len(), others.len(), "nobody else is left out");
    }

    #[test]
    fn what_may_be_meant_for_weft_is_never_left_out() {
        for (version, kind, hint) in [
            ("weft.dev/v1", "Servise", "did you mean Service?"),
            ("weft.dv/v1", "HTTPRoute", "use weft.dev/v1"),
            ("weft.dev/v1", "Deployment", "kinds are"),
            ("v1", "HTTPRoute", "use weft.dev/v1"),
            ("kuma.io/v1alpha1", "Mesh", "use weft.dev/v1"),
            ("gateway.networking.k8s.io/v2", "HTTPRoute", "use weft.dev/v1"),
            ("gateway.networking.k8s.io/v1", "HTPRoute", "did you mean HTTPRoute?"),
            ("gateway.netwroking.k8s.io/v1", "HTTPRoute", "use weft.dev/v1"),
            ("one/two/three", "Thing", "kinds are"),
        ] {
            let found = parse_among_others("file", &document(version, kind)).unwrap_err();
            let said = found[0].to_string();
            assert!(said.contains(hint), "{version} {kind}: {said}");
        }
    }
}
