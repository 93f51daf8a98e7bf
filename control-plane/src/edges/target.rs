//! What is measured of a caller.

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use weft_api::names::{OTHER_RULES, counted_rule, inbound_port};
use weft_api::rest::EdgeProtocol;
use weft_api::{Destination, Measured, Name, ServiceId};
use weft_policies::PolicySet;
use weft_policies::kinds::Kind;
use weft_policies::set::PolicyKey;

use super::sample::Sample;

/// A destination of a caller, its requests to a port that follow one rule of a route, or what the application beside the proxy
/// answers itself. Targets are those that the policies know: anything else that a proxy reports is not kept.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
#[serde(try_from = "StoredTarget", into = "StoredTarget")]
pub struct EdgeTarget {
    pub destination: Destination,
    part: TargetPart,
}

/// What of a destination is meant.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub(super) enum TargetPart {
    Whole,
    /// `KIND/NAMESPACE/NAME/RULE`, or what stands for the rules that are counted together.
    Rule(Arc<str>),
    /// What instances with this label `version` answer, whoever calls: told by their own sidecars.
    Version(Arc<str>),
}

/// As replicas tell each other.
#[derive(Clone, Serialize, Deserialize)]
struct StoredTarget {
    service: String,
    port: Name,
    subset: Option<Name>,
    rule: Option<Arc<str>>,
    #[serde(default)]
    version: Option<Arc<str>>,
}

impl EdgeTarget {
    /// Reads what is measured, with an empty sample of it; none of what is not of the mesh. `own` is the reporter's
    /// service with its version, where it has one: of other services it has nothing to tell but that it calls them.
    #[must_use]
    pub fn of(
        measured: Measured<'_>,
        set: &PolicySet,
        own: Option<(&ServiceId, &str)>,
    ) -> Option<(Self, Sample)> {
        match measured {
            Measured::Cluster(cluster) => {
                let (destination, part) = match inbound_port(cluster) {
                    Some((service, port)) => {
                        let (_, version) = own.filter(|(own, _)| **own == service)?;
                        (Destination { service, port, subset: None }, TargetPart::Version(version.into()))
                    }
                    None => (Destination::parse(cluster)?, TargetPart::Whole),
                };
                let protocol = protocol(&destination, set)?;
                Some((Self { destination, part }, Sample::of_protocol(protocol)))
            }
            Measured::Route(stat_prefix) => {
                let (destination, rule) = counted_rule(stat_prefix)?;
                let is_http = protocol(&destination, set)? == EdgeProtocol::Http;
                let target = Self { destination, part: TargetPart::Rule(rule.into()) };
                (is_http && exists(rule, set)).then(|| (target, Sample::of_rule()))
            }
        }
    }

    /// The rule as people are told, `KIND NAMESPACE/NAME rule RULE`; nothing for a destination as a whole.
    #[must_use]
    pub fn route(&self) -> Option<String> {
        let TargetPart::Rule(rule) = &self.part else { return None };
        let mut parts = rule.splitn(4, '/');
        Some(match (parts.next(), parts.next(), parts.next(), parts.next()) {
            (Some(kind), Some(namespace), Some(name), Some(rule)) => {
                format!("{kind} {namespace}/{name} rule {rule}")
            }
            _ => format!("{rule} rules"),
        })
    }

    /// The version whose instances answer; none of what callers tell.
    #[must_use]
    pub fn version(&self) -> Option<&str> {
        if let TargetPart::Version(version) = &self.part { Some(version) } else { None }
    }

    /// What of the destination it is.
    pub(super) fn part(&self) -> &TargetPart {
        &self.part
    }

    /// Whether it is a destination as a whole.
    #[must_use]
    pub fn is_whole(&self) -> bool {
        self.part == TargetPart::Whole
    }

    /// Whether it is of one rule.
    #[must_use]
    pub fn is_of_rule(&self) -> bool {
        matches!(self.part, TargetPart::Rule(_))
    }

    /// Whether both are a whole, a rule, or a version.
    #[must_use]
    pub fn is_as(&self, other: &Self) -> bool {
        std::mem::discriminant(&self.part) == std::mem::discriminant(&other.part)
    }
}

fn protocol(destination: &Destination, set: &PolicySet) -> Option<EdgeProtocol> {
    let backend = set.backend(&destination.service)?;
    let port = backend.port(&destination.port)?;
    if let Some(subset) = &destination.subset {
        backend.service()?.spec.subset(subset)?;
    }
    Some(if port.protocol.is_http() { EdgeProtocol::Http } else { EdgeProtocol::Tcp })
}

fn exists(rule: &str, set: &PolicySet) -> bool {
    if rule == OTHER_RULES {
        return true;
    }
    let [kind, namespace, name, rule] = rule.split('/').collect::<Vec<_>>()[..] else { return false };
    let (Ok(kind), Ok(namespace), Ok(name)) = (kind.parse::<Kind>(), namespace.parse(), name.parse()) else {
        return false;
    };
    set.has_rule(&PolicyKey::new(kind, namespace, name), rule)
}

impl From<EdgeTarget> for StoredTarget {
    fn from(target: EdgeTarget) -> Self {
        let Destination { service, port, subset } = target.destination;
        let (rule, version) = match target.part {
            TargetPart::Whole => (None, None),
            TargetPart::Rule(rule) => (Some(rule), None),
            TargetPart::Version(version) => (None, Some(version)),
        };
        Self { service: service.to_string(), port, subset, rule, version }
    }
}

impl TryFrom<StoredTarget> for EdgeTarget {
    type Error = weft_api::names::InvalidName;

    fn try_from(stored: StoredTarget) -> Result<Self, Self::Error> {
        let service: ServiceId = stored.service.parse()?;
        let destination = Destination { service, port: stored.port, subset: stored.subset };
        let part = match (stored.rule, stored.version) {
            (Some(rule), _) => TargetPart::Rule(rule),
            (None, Some(version)) => TargetPart::Version(version),
            (None, None) => TargetPart::Whole,
        };
        Ok(Self { destination, part })
    }
}

#[cfg(test)]
impl EdgeTarget {
    pub fn named(cluster: &str) -> Self {
        Self { destination: Destination::parse(cluster).unwrap(), part: TargetPart::Whole }
    }

    pub fn following(cluster: &str, rule: &str) -> Self {
        Self { part: TargetPart::Rule(rule.into()), ..Self::named(cluster) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set() -> PolicySet {
        let text = "apiVersion: weft.dev/v1\nkind: Service\nmetadata: {name: cart, namespace: shop}\n\
                    spec: {ports: [{name: http, port: 80, protocol: HTTP}, {name: db, port: 90, protocol: TCP}], \
                    subsets: [{name: v1, matchLabels: {version: v1}}]}\n---\n\
                    apiVersion: weft.dev/v1\nkind: ExternalService\nmetadata: {name: pay, namespace: shop}\n\
                    spec: {hosts: [pay.example], ports: [{name: https, port: 443, protocol: TLS}]}\n---\n\
                    apiVersion: gateway.networking.k8s.io/v1\nkind: HTTPRoute\nmetadata: {name: split, namespace: shop}\n\
                    spec: {parentRefs: [{group: '', kind: Service, name: cart, port: 80}], rules: [\
                    {backendRefs: [{name: cart, port: 80}]}, \
                    {name: named, matches: [{path: {value: /a}}], backendRefs: [{name: cart, port: 80}]}]}\n";
        PolicySet::default().apply(&weft_policies::parse("test", text).unwrap()).unwrap().set
    }

    #[test]
    fn only_destinations_that_the_policies_know_exist() {
        let set = set();
        let known = |cluster| {
            EdgeTarget::of(Measured::Cluster(cluster), &set, None).map(|(_, sample)| sample.protocol)
        };
        for cluster in ["shop/cart/http", "shop/cart/http/v1"] {
            assert_eq!(known(cluster), Some(EdgeProtocol::Http), "{cluster}");
        }
        assert_eq!(known("shop/cart/db"), Some(EdgeProtocol::Tcp));
        assert_eq!(known("shop/pay/https"), Some(EdgeProtocol::Tcp));
        for cluster in [
            "shop/cart/grpc",
            "shop/cart",
            "shop/cart/http/v2",
            "shop/web/http",
            "shop/pay/https/v1",
            "inbound/shop/cart/http",
            "//",
            "",
        ] {
            assert_eq!(known(cluster), None, "{cluster}");
        }
    }

    #[test]
    fn workload_tells_by_version_what_its_own_service_answers_and_no_other() {
        let set = set();
        let told = |own: &str, cluster| {
            let target =
                EdgeTarget::of(Measured::Cluster(cluster), &set, Some((&own.parse().unwrap(), "v1")));
            target.map(|(target, _)| {
                (target.destination.service.to_string(), target.version().map(str::to_owned))
            })
        };
        let cart = ("shop/cart".to_owned(), Some("v1".to_owned()));
        assert_eq!(told("shop/cart", "inbound/shop/cart/http"), Some(cart));
        assert_eq!(told("shop/cart", "inbound/shop/cart/gone"), None);
        assert_eq!(told("shop/web", "inbound/shop/cart/http"), None, "it would speak for others");
        assert_eq!(told("shop/web", "shop/cart/http"), Some(("shop/cart".to_owned(), None)));
    }

    #[test]
    fn only_rules_that_the_policies_know_exist() {
        let set = set();
        let route = |prefix| {
            EdgeTarget::of(Measured::Route(prefix), &set, None).and_then(|(target, _)| target.route())
        };
        let known = |prefix| route(prefix).unwrap_or_default();
        assert_eq!(known("shop/cart/http/HTTPRoute/shop/split/0"), "HTTPRoute shop/split rule 0");
        assert_eq!(known("shop/cart/http/HTTPRoute/shop/split/named"), "HTTPRoute shop/split rule named");
        assert_eq!(known("shop/cart/http/other"), "other rules");
        for prefix in [
            "shop/cart/http/HTTPRoute/shop/split/1",
            "shop/cart/http/HTTPRoute/shop/split/0/0",
            "shop/cart/http/HTTPRoute/shop/gone/0",
            "shop/cart/http/Service/shop/cart/0",
            "shop/cart/db/other",
            "shop/gone/http/other",
            "shop/cart/http/",
            "p",
        ] {
            assert_eq!(route(prefix), None, "{prefix}");
        }
    }
}
