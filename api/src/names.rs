//! Names and identities, and the strings that are made from them.
//!
//! Every name that travels (SNI, cluster, listener, route configuration, secret, node id) is made and read here,
//! so that the compiler, the control plane and the proxy cannot disagree.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::text::shorten;

mod schema;

/// A name that breaks the rules, with the rule.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{what} {value:?} is not valid: {rule}")]
pub struct InvalidName {
    /// Which kind of name was read.
    pub what: &'static str,
    /// The text that is no such name, shortened where it is long.
    pub value: String,
    /// The rule that it breaks, for people.
    pub rule: &'static str,
}

impl InvalidName {
    fn new(what: &'static str, value: &str, rule: &'static str) -> Self {
        Self { what, value: shorten(value), rule }
    }
}

const LABEL_RULE: &str = "use 1 to 63 of a-z, 0-9 and '-', starting and ending with a letter or digit";

fn is_label(text: &str) -> bool {
    let bytes = text.as_bytes();
    let inner = |b: &u8| b.is_ascii_lowercase() || b.is_ascii_digit() || *b == b'-';
    (1..=63).contains(&bytes.len())
        && bytes.iter().all(inner)
        && !text.starts_with('-')
        && !text.ends_with('-')
}

/// A DNS label (RFC 1123): names of namespaces, services, workloads, ports, policies.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Name(Arc<str>);

impl Name {
    /// Reads a name, refusing what is not a DNS label.
    ///
    /// # Errors
    /// When the text is not 1 to 63 of `a-z0-9-` or begins or ends with `-`.
    pub fn try_new(text: &str) -> Result<Self, InvalidName> {
        if is_label(text) { Ok(Self(text.into())) } else { Err(InvalidName::new("name", text, LABEL_RULE)) }
    }

    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

impl FromStr for Name {
    type Err = InvalidName;
    fn from_str(text: &str) -> Result<Self, InvalidName> {
        Self::try_new(text)
    }
}

impl TryFrom<String> for Name {
    type Error = InvalidName;
    fn try_from(text: String) -> Result<Self, InvalidName> {
        Self::try_new(&text)
    }
}

impl From<Name> for String {
    fn from(name: Name) -> String {
        name.0.as_ref().to_owned()
    }
}

impl AsRef<str> for Name {
    fn as_ref(&self) -> &str {
        &self.0
    }
}

impl std::borrow::Borrow<str> for Name {
    fn borrow(&self) -> &str {
        &self.0
    }
}

/// Writes an id of the form `NAMESPACE/NAME`, one struct for each so that they cannot be confused.
macro_rules! namespaced_id {
    ($(#[$doc:meta])* $id:ident, $what:literal) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $id {
            /// The namespace, within which the name is unique.
            pub namespace: Name,
            /// The name within the namespace.
            pub name: Name,
        }

        impl $id {
            /// Joins two valid names.
            #[must_use]
            pub fn new(namespace: Name, name: Name) -> Self {
                Self { namespace, name }
            }

            /// Reads both parts.
            ///
            /// # Errors
            /// When either is not a DNS label.
            pub fn try_new(namespace: &str, name: &str) -> Result<Self, InvalidName> {
                Ok(Self { namespace: Name::try_new(namespace)?, name: Name::try_new(name)? })
            }
        }

        impl fmt::Display for $id {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}/{}", self.namespace, self.name)
            }
        }

        impl fmt::Debug for $id {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}/{}", self.namespace, self.name)
            }
        }

        impl FromStr for $id {
            type Err = InvalidName;
            fn from_str(text: &str) -> Result<Self, InvalidName> {
                let (namespace, name) = text
                    .split_once('/')
                    .ok_or_else(|| InvalidName::new($what, text, "write it as NAMESPACE/NAME"))?;
                Self::try_new(namespace, name)
            }
        }

        impl TryFrom<String> for $id {
            type Error = InvalidName;
            fn try_from(text: String) -> Result<Self, InvalidName> {
                text.parse()
            }
        }

        impl From<$id> for String {
            fn from(id: $id) -> String {
                id.to_string()
            }
        }
    };
}

namespaced_id!(
    /// A service, `NAMESPACE/SERVICE`. It is also `node.cluster` of a sidecar.
    ServiceId,
    "service"
);
namespaced_id!(
    /// One instance, `NAMESPACE/WORKLOAD`. It is also `node.id` of a sidecar.
    WorkloadId,
    "workload"
);

/// A SPIFFE trust domain.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct TrustDomain(Arc<str>);

impl TrustDomain {
    /// Reads a trust domain: dot-separated DNS labels, so that names below it are valid DNS names too.
    ///
    /// # Errors
    /// When a label is invalid or the whole is longer than 120 bytes (SNI must fit 253).
    pub fn try_new(text: &str) -> Result<Self, InvalidName> {
        if text.len() <= 120 && text.split('.').all(is_label) {
            Ok(Self(text.into()))
        } else {
            let rule = "use DNS labels of a-z, 0-9 and '-' separated by dots, 120 bytes at most";
            Err(InvalidName::new("trust domain", text, rule))
        }
    }

    /// The trust domain as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for TrustDomain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for TrustDomain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

impl FromStr for TrustDomain {
    type Err = InvalidName;
    fn from_str(text: &str) -> Result<Self, InvalidName> {
        Self::try_new(text)
    }
}

impl TryFrom<String> for TrustDomain {
    type Error = InvalidName;
    fn try_from(text: String) -> Result<Self, InvalidName> {
        Self::try_new(&text)
    }
}

impl From<TrustDomain> for String {
    fn from(domain: TrustDomain) -> String {
        domain.0.as_ref().to_owned()
    }
}

/// Who a certificate speaks for (SPIFFE X.509-SVID). Compared whole and exactly, never by pattern.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum SpiffeId {
    /// `spiffe://TRUST-DOMAIN/control-plane`: reserved, no token can give it.
    ControlPlane {
        /// The mesh that it controls.
        trust_domain: TrustDomain,
    },
    /// `spiffe://TRUST-DOMAIN/ns/NAMESPACE/svc/SERVICE`: all workloads of a service share it.
    Service {
        /// The mesh that the service is in.
        trust_domain: TrustDomain,
        /// The service that the join token named.
        service: ServiceId,
    },
}

impl SpiffeId {
    /// The identity of a service's workloads.
    #[must_use]
    pub fn service(trust_domain: &TrustDomain, service: &ServiceId) -> Self {
        Self::Service { trust_domain: trust_domain.clone(), service: service.clone() }
    }

    /// The control plane's identity.
    #[must_use]
    pub fn control_plane(trust_domain: &TrustDomain) -> Self {
        Self::ControlPlane { trust_domain: trust_domain.clone() }
    }

    /// The trust domain it belongs to.
    #[must_use]
    pub fn trust_domain(&self) -> &TrustDomain {
        match self {
            Self::ControlPlane { trust_domain } | Self::Service { trust_domain, .. } => trust_domain,
        }
    }
}

impl fmt::Display for SpiffeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::ControlPlane { trust_domain } => write!(f, "spiffe://{trust_domain}/control-plane"),
            Self::Service { trust_domain, service } => {
                write!(f, "spiffe://{trust_domain}/ns/{}/svc/{}", service.namespace, service.name)
            }
        }
    }
}

impl FromStr for SpiffeId {
    type Err = InvalidName;

    fn from_str(text: &str) -> Result<Self, InvalidName> {
        let rule = "write it as spiffe://TRUST-DOMAIN/ns/NAMESPACE/svc/SERVICE";
        let invalid = || InvalidName::new("SPIFFE id", text, rule);
        let rest = text.strip_prefix("spiffe://").ok_or_else(invalid)?;
        let (domain, path) = rest.split_once('/').ok_or_else(invalid)?;
        let trust_domain = TrustDomain::try_new(domain)?;
        if path == "control-plane" {
            return Ok(Self::ControlPlane { trust_domain });
        }
        match path.split('/').collect::<Vec<_>>()[..] {
            ["ns", namespace, "svc", service] => {
                Ok(Self::Service { trust_domain, service: ServiceId::try_new(namespace, service)? })
            }
            _ => Err(invalid()),
        }
    }
}

/// Listener of a sidecar that takes mTLS from other workloads.
pub const INBOUND_LISTENER: &str = "inbound";
/// Listener of a sidecar that takes the application's HTTP requests.
pub const OUTBOUND_LISTENER: &str = "outbound";
/// Secret with a workload's own certificate and key. One name for all, so that clusters can be shared.
pub const IDENTITY_SECRET: &str = "identity";
/// Secret with the roots that peers are verified against.
pub const BUNDLE_SECRET: &str = "bundle";
/// Secret with the roots that the proxy's own machine trusts, by which servers outside of the mesh are verified. It stands in
/// the proxy's bootstrap and never travels.
pub const SYSTEM_ROOTS_SECRET: &str = "system_roots";
/// Cluster of the control plane in the bootstrap of an Envoy, unless its node says otherwise.
pub const CONTROL_PLANE_CLUSTER: &str = "weft_control_plane";
/// Field of a node's metadata, in which an Envoy that takes each type on a stream of its own says what it calls that cluster.
pub const CONTROL_PLANE_CLUSTER_FIELD: &str = "weft.control_plane_cluster";

/// Name of the access log of what a sidecar takes from other workloads, as the control plane is told it.
pub const INBOUND_ACCESS_LOG: &str = "inbound";
/// Name of the access log of the calls of a sidecar's application.
pub const OUTBOUND_ACCESS_LOG: &str = "outbound";

/// Names of the access logs of a stock Envoy's requests that somebody looks on: inbound, outbound.
pub const TAP_ACCESS_LOGS: [&str; 2] = ["tap.inbound", "tap.outbound"];
/// Keys of Envoy's runtime that say which part of its requests it tells of: inbound, outbound.
pub const TAP_RUNTIME_KEYS: [&str; 2] = ["weft.tap.inbound", "weft.tap.outbound"];
/// The layer of a stock Envoy's runtime that the control plane gives (RTDS).
pub const RUNTIME_LAYER: &str = "weft";

/// Server name of one port of a service: `PORT.SERVICE.NAMESPACE.TRUST-DOMAIN`.
#[must_use]
pub fn sni(port: &str, service: &ServiceId, trust_domain: &TrustDomain) -> String {
    format!("{port}.{}.{}.{trust_domain}", service.name, service.namespace)
}

/// DNS name in a workload's certificate: `WORKLOAD.SERVICE.NAMESPACE.TRUST-DOMAIN`.
#[must_use]
pub fn workload_dns_san(workload: &Name, service: &ServiceId, trust_domain: &TrustDomain) -> String {
    format!("{workload}.{}.{}.{trust_domain}", service.name, service.namespace)
}

/// What is called through a cluster: one port of a service, or of a subset of it.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Destination {
    /// The service that is called.
    pub service: ServiceId,
    /// Name of its port.
    pub port: Name,
    /// Its subset; all of it without one.
    pub subset: Option<Name>,
}

impl Destination {
    /// Reads a cluster's name, the reverse of [`cluster_name`]; none of any other cluster.
    #[must_use]
    pub fn parse(cluster: &str) -> Option<Self> {
        let parts: Vec<&str> = cluster.split('/').collect();
        let (namespace, service, port, subset) = match parts[..] {
            // Four parts that begin so are a sidecar's own application.
            ["inbound", _, _, _] => return None,
            [namespace, service, port] => (namespace, service, port, None),
            [namespace, service, port, subset] => (namespace, service, port, Some(subset)),
            _ => return None,
        };
        Some(Self {
            service: ServiceId::try_new(namespace, service).ok()?,
            port: port.parse().ok()?,
            subset: subset.map(str::parse).transpose().ok()?,
        })
    }
}

/// Reads the name of the cluster of a sidecar's own application, the reverse of [`inbound_cluster_name`].
#[must_use]
pub fn inbound_port(cluster: &str) -> Option<(ServiceId, Name)> {
    match cluster.split('/').collect::<Vec<_>>()[..] {
        ["inbound", namespace, service, port] => {
            Some((ServiceId::try_new(namespace, service).ok()?, port.parse().ok()?))
        }
        _ => None,
    }
}

/// Cluster (and EDS) name of one port of a service: `NAMESPACE/SERVICE/PORT[/SUBSET]`.
#[must_use]
pub fn cluster_name(service: &ServiceId, port: &str, subset: Option<&str>) -> String {
    match subset {
        Some(subset) => format!("{service}/{port}/{subset}"),
        None => format!("{service}/{port}"),
    }
}

/// Gauge by which a weft-proxy tells where its application listens, a series for each socket.
pub const LISTENING_STATISTIC: &str = "weft.application_listening";

/// Label of such a series: `IP:PORT`.
pub const LISTENING_ADDRESS: &str = "address";

/// Cluster of a sidecar's own application: `inbound/NAMESPACE/SERVICE/PORT`.
#[must_use]
pub fn inbound_cluster_name(service: &ServiceId, port: &str) -> String {
    format!("inbound/{service}/{port}")
}

/// Listener of one declared upstream: `upstream/NAMESPACE/SERVICE/PORT`.
#[must_use]
pub fn upstream_listener_name(service: &ServiceId, port: &str) -> String {
    format!("upstream/{service}/{port}")
}

/// Rules of one port that are counted each for itself; those beyond are counted together.
pub const MOST_COUNTED_RULES: usize = 50;

/// In place of a rule: those of a port that are counted together.
pub const OTHER_RULES: &str = "other";

/// Under which name the requests to a port that follow a rule of a route are counted:
/// `NAMESPACE/SERVICE/PORT/KIND/NAMESPACE2/NAME/RULE`, or [`OTHER_RULES`] in place of the last four.
#[must_use]
pub fn rule_stat_prefix(service: &ServiceId, port: &str, rule: &str) -> String {
    format!("{service}/{port}/{rule}")
}

/// Reads what is counted under such a name, the reverse of [`rule_stat_prefix`]: the port, and the rule as it stands there.
#[must_use]
pub fn counted_rule(stat_prefix: &str) -> Option<(Destination, &str)> {
    let mut slashes = stat_prefix.match_indices('/').map(|(at, _)| at);
    let end = slashes.nth(2)?;
    let destination = Destination::parse(&stat_prefix[..end])?;
    Some((destination, &stat_prefix[end + 1..]))
}

/// Route configuration of all callers in a namespace: `outbound/NAMESPACE`. Short host names resolve within it.
#[must_use]
pub fn route_configuration_name(namespace: &Name) -> String {
    format!("outbound/{namespace}")
}

/// Route configuration of all callers in a namespace whose virtual hosts come by VHDS: `outbound/NAMESPACE/vhds`.
#[must_use]
pub fn vhds_route_configuration_name(namespace: &Name) -> String {
    format!("outbound/{namespace}/vhds")
}

/// In `client_features` of a node: the client takes the virtual hosts of a route configuration as resources of their
/// own (VHDS), all of them by a wildcard, over delta ADS.
pub const VIRTUAL_HOSTS_FEATURE: &str = "weft.virtual_hosts";

/// In `client_features` of a weft-proxy: it takes access logs that go to an access log service, with the filters that they
/// have here. One of before refuses them.
pub const ACCESS_LOG_SERVICE_FEATURE: &str = "weft.access_log_service.own_answers";

/// Virtual host of one service port in a route configuration, as a resource of its own (VHDS):
/// `outbound/NAMESPACE/vhds/SERVICE.NAMESPACE2:PORT`. `host` has no slash: Envoy takes everything before the last one for the
/// name of the route configuration, and so does [`route_configuration_of`].
#[must_use]
pub fn virtual_host_resource_name(route_configuration: &str, host: &str, port: u16) -> String {
    format!("{route_configuration}/{host}:{port}")
}

/// The route configuration that a virtual host belongs to, by the name of its resource; `None` where it names none.
#[must_use]
pub fn route_configuration_of(virtual_host: &str) -> Option<&str> {
    let (route_configuration, host) = virtual_host.rsplit_once('/')?;
    (!route_configuration.is_empty() && !host.is_empty()).then_some(route_configuration)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counted_rule_reads_back_what_was_written() {
        let service: ServiceId = "shop/cart".parse().unwrap();
        for rule in ["HTTPRoute/shop/canary/0", OTHER_RULES] {
            let prefix = rule_stat_prefix(&service, "http", rule);
            let (destination, read) = counted_rule(&prefix).unwrap();
            assert_eq!(
                (destination.service, destination.port.as_str(), read),
                (service.clone(), "http", rule)
            );
        }
        for other in ["", "shop/cart/http", "inbound", "a//b/c"] {
            assert_eq!(counted_rule(other), None, "{other}");
        }
    }

    #[test]
    fn spiffe_id_reads_back_what_it_writes() {
        for text in ["spiffe://mesh.local/ns/shop/svc/web", "spiffe://mesh.local/control-plane"] {
            assert_eq!(text.parse::<SpiffeId>().unwrap().to_string(), text);
        }
    }

    #[test]
    fn spiffe_id_refuses_everything_else() {
        for text in [
            "spiffe://mesh.local/ns/shop/svc/web/",
            "spiffe://mesh.local/ns/shop/svc/web?x",
            "spiffe://mesh.local//ns/shop/svc/web",
            "spiffe://Mesh.local/ns/shop/svc/web",
            "spiffe://mesh.local/ns/shop/svc/..",
            "http://mesh.local/ns/shop/svc/web",
            "spiffe://mesh.local",
            "spiffe://mesh.local/control-plane/x",
        ] {
            assert!(text.parse::<SpiffeId>().is_err(), "{text}");
        }
    }

    #[test]
    fn cluster_names_are_read_as_they_are_made() {
        let service: ServiceId = "shop/web".parse().unwrap();
        for subset in [None, Some("v2")] {
            let read = Destination::parse(&cluster_name(&service, "http", subset)).unwrap();
            assert_eq!((&read.service, read.port.as_str()), (&service, "http"));
            assert_eq!(read.subset.as_ref().map(Name::as_str), subset);
        }
        let own = inbound_cluster_name(&service, "http");
        assert_eq!(inbound_port(&own), Some((service, "http".parse().unwrap())));
        assert_eq!(Destination::parse(&own), None);
        for other in ["weft_control_plane", "shop/web", "shop/web/", "shop/web/http/v2/x", "shop/Web/http"] {
            assert_eq!(Destination::parse(other), None, "{other}");
            assert_eq!(inbound_port(other), None, "{other}");
        }
    }

    #[test]
    fn a_virtual_host_names_its_route_configuration_before_the_last_slash() {
        let routes = vhds_route_configuration_name(&"shop".parse().unwrap());
        let name = virtual_host_resource_name(&routes, "cart.shop", 80);
        assert_eq!(name, "outbound/shop/vhds/cart.shop:80");
        assert_eq!(route_configuration_of(&name), Some(&*routes));
        assert_eq!(route_configuration_of("routes/a"), Some("routes"));
        for other in ["cart.shop:80", "/cart.shop:80", "outbound/shop/", ""] {
            assert_eq!(route_configuration_of(other), None, "{other}");
        }
    }

    #[test]
    fn names_are_dns_labels() {
        for good in ["a", "web-1", "0x"] {
            assert!(Name::try_new(good).is_ok(), "{good}");
        }
        for bad in ["", "-a", "a-", "A", "a.b", "a/b", "a_b", &"x".repeat(64)] {
            assert!(Name::try_new(bad).is_err(), "{bad}");
        }
    }
}
