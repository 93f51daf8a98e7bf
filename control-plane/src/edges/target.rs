//! What is measured of a caller.

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use weft_api::names::{OTHER_RULES, counted_rule};
use weft_api::rest::EdgeProtocol;
use weft_api::{Destination, Measured, Name, ServiceId};
use weft_policies::PolicySet;
use weft_policies::kinds::Kind;
use weft_policies::set::PolicyKey;

use super::sample::Sample;

/// A destination of a caller, or its requests to a port that follow one rule of a route. Targets are those that the policies
/// know: anything else that a proxy reports is not kept.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
#[serde(try_from = "StoredTarget", into = "StoredTarget")]
pub struct EdgeTarget {
    pub destination: Destination,
    /// `KIND/NAMESPACE/NAME/RULE`, or what stands for the rules that are counted together.
    rule: Option<Arc<str>>,
}

/// As replicas tell each other.
#[derive(Clone, Serialize, Deserialize)]
struct StoredTarget {
    service: String,
    port: Name,
    subset: Option<Name>,
    rule: Option<Arc<str>>,
}

impl EdgeTarget {
    /// Reads what is measured, with an empty sample of it; none of what is not of the mesh.
    #[must_use]
    pub fn of(measured: Measured<'_>, set: &PolicySet) -> Option<(Self, Sample)> {
        match measured {
            Measured::Cluster(cluster) => {
                let destination = Destination::parse(cluster)?;
                let protocol = protocol(&destination, set)?;
                Some((Self { destination, rule: None }, Sample::of_protocol(protocol)))
            }
            Measured::Route(stat_prefix) => {
                let (destination, rule) = counted_rule(stat_prefix)?;
                let is_http = protocol(&destination, set)? == EdgeProtocol::Http;
                let target = Self { destination, rule: Some(rule.into()) };
                (is_http && exists(rule, set)).then(|| (target, Sample::of_rule()))
            }
        }
    }

    /// The rule as people are told, `KIND NAMESPACE/NAME rule RULE`; nothing for a destination as a whole.
    #[must_use]
    pub fn route(&self) -> Option<String> {
        let rule = self.rule.as_deref()?;
        let mut parts = rule.splitn(4, '/');
        Some(match (parts.next(), parts.next(), parts.next(), parts.next()) {
            (Some(kind), Some(namespace), Some(name), Some(rule)) => {
                format!("{kind} {namespace}/{name} rule {rule}")
            }
            _ => format!("{rule} rules"),
        })
    }

    /// Whether it is of one rule.
    #[must_use]
    pub fn is_of_rule(&self) -> bool {
        self.rule.is_some()
    }
}

fn protocol(destination: &Destination, set: &PolicySet) -> Option<EdgeProtocol> {
    let service = &set.service(&destination.service)?.spec;
    let port = service.ports.iter().find(|known| known.name == destination.port)?;
    if let Some(subset) = &destination.subset
        && !service.subsets.iter().any(|known| known.name == *subset)
    {
        return None;
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
        Self { service: service.to_string(), port, subset, rule: target.rule }
    }
}

impl TryFrom<StoredTarget> for EdgeTarget {
    type Error = weft_api::names::InvalidName;

    fn try_from(stored: StoredTarget) -> Result<Self, Self::Error> {
        let service: ServiceId = stored.service.parse()?;
        let destination = Destination { service, port: stored.port, subset: stored.subset };
        Ok(Self { destination, rule: stored.rule })
    }
}

#[cfg(test)]
impl EdgeTarget {
    pub fn named(cluster: &str) -> Self {
        Self { destination: Destination::parse(cluster).unwrap(), rule: None }
    }

    pub fn following(cluster: &str, rule: &str) -> Self {
        Self { rule: Some(rule.into()), ..Self::named(cluster) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set() -> PolicySet {
        let text = "apiVersion: weft.dev/v1\nkind: Service\nmetadata: {name: cart, namespace: shop}\n\
                    spec: {ports: [{name: http, port: 80, protocol: HTTP}, {name: db, port: 90, protocol: TCP}], \
                    subsets: [{name: v1, matchLabels: {version: v1}}]}\n---\n\
                    apiVersion: gateway.networking.k8s.io/v1\nkind: HTTPRoute\nmetadata: {name: split, namespace: shop}\n\
                    spec: {parentRefs: [{group: '', kind: Service, name: cart, port: 80}], rules: [\
                    {backendRefs: [{name: cart, port: 80}]}, \
                    {name: named, matches: [{path: {value: /a}}], backendRefs: [{name: cart, port: 80}]}]}\n";
        PolicySet::default().apply(&weft_policies::parse("test", text).unwrap()).unwrap().set
    }

    #[test]
    fn only_destinations_that_the_policies_know_exist() {
        let set = set();
        let known =
            |cluster| EdgeTarget::of(Measured::Cluster(cluster), &set).map(|(_, sample)| sample.protocol);
        for cluster in ["shop/cart/http", "shop/cart/http/v1"] {
            assert_eq!(known(cluster), Some(EdgeProtocol::Http), "{cluster}");
        }
        assert_eq!(known("shop/cart/db"), Some(EdgeProtocol::Tcp));
        for cluster in [
            "shop/cart/grpc",
            "shop/cart",
            "shop/cart/http/v2",
            "shop/web/http",
            "inbound/shop/cart/http",
            "//",
            "",
        ] {
            assert_eq!(known(cluster), None, "{cluster}");
        }
    }

    #[test]
    fn only_rules_that_the_policies_know_exist() {
        let set = set();
        let route =
            |prefix| EdgeTarget::of(Measured::Route(prefix), &set).and_then(|(target, _)| target.route());
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
