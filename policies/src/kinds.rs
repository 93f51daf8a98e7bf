//! The kinds of policy, one file each: what may be written, and what makes it valid by itself.
//!
//! What needs a look at other objects (does the service exist, do two policies conflict) is in [`crate::set`].

pub mod authorization_policy;
pub mod http_route;
pub mod mesh;
pub mod reference;
pub mod resilience;
pub mod route_filter;
pub mod route_match;
pub mod service;
pub mod tcp_route;
pub mod traffic_policy;
pub mod workload;

use std::fmt;

use schemars::JsonSchema;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::finding::Findings;
use crate::metadata::Metadata;

pub use authorization_policy::AuthorizationPolicy;
pub use http_route::HttpRoute;
pub use mesh::Mesh;
pub use service::Service;
pub use tcp_route::TcpRoute;
pub use traffic_policy::TrafficPolicy;
pub use workload::Workload;

/// The API version of all kinds of ours.
pub const API_VERSION: &str = "weft.dev/v1";
/// The API version under which Gateway API routes are taken unchanged.
pub const GATEWAY_API_VERSION: &str = "gateway.networking.k8s.io/v1";

/// A kind of policy.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// Posture and trust of the whole mesh; one object named `mesh`.
    Mesh,
    /// Name, ports and members.
    Service,
    /// One instance.
    Workload,
    /// Routing of HTTP requests.
    HttpRoute,
    /// Routing of connections.
    TcpRoute,
    /// Everything about calling a backend.
    TrafficPolicy,
    /// Who may call what.
    AuthorizationPolicy,
}

impl Kind {
    /// All kinds.
    pub const ALL: [Self; 7] = [
        Self::Mesh,
        Self::Service,
        Self::Workload,
        Self::HttpRoute,
        Self::TcpRoute,
        Self::TrafficPolicy,
        Self::AuthorizationPolicy,
    ];

    /// The name in `kind:`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Mesh => "Mesh",
            Self::Service => "Service",
            Self::Workload => "Workload",
            Self::HttpRoute => "HTTPRoute",
            Self::TcpRoute => "TCPRoute",
            Self::TrafficPolicy => "TrafficPolicy",
            Self::AuthorizationPolicy => "AuthorizationPolicy",
        }
    }

    /// The name in REST paths.
    #[must_use]
    pub const fn plural(self) -> &'static str {
        match self {
            Self::Mesh => "meshes",
            Self::Service => "services",
            Self::Workload => "workloads",
            Self::HttpRoute => "httproutes",
            Self::TcpRoute => "tcproutes",
            Self::TrafficPolicy => "trafficpolicies",
            Self::AuthorizationPolicy => "authorizationpolicies",
        }
    }

    /// Short names for people who type.
    #[must_use]
    pub const fn short(self) -> &'static [&'static str] {
        match self {
            Self::Mesh => &[],
            Self::Service => &["svc"],
            Self::Workload => &["wl"],
            Self::HttpRoute => &["hr"],
            Self::TcpRoute => &["tr"],
            Self::TrafficPolicy => &["tp"],
            Self::AuthorizationPolicy => &["ap", "authz"],
        }
    }

    /// The kind that `word` names: singular, plural or short, in any case.
    #[must_use]
    pub fn named(word: &str) -> Option<Self> {
        let word = word.to_ascii_lowercase();
        Self::ALL.into_iter().find(|kind| {
            kind.name().to_ascii_lowercase() == word
                || kind.plural() == word
                || kind.short().contains(&word.as_str())
        })
    }

    /// The API versions under which this kind is taken.
    #[must_use]
    pub const fn api_versions(self) -> &'static [&'static str] {
        match self {
            Self::HttpRoute | Self::TcpRoute => &[API_VERSION, GATEWAY_API_VERSION],
            _ => &[API_VERSION],
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl std::str::FromStr for Kind {
    type Err = UnknownKind;

    fn from_str(word: &str) -> Result<Self, UnknownKind> {
        Self::named(word).ok_or_else(|| UnknownKind(word.to_owned()))
    }
}

impl Serialize for Kind {
    fn serialize<S: serde::Serializer>(&self, out: S) -> Result<S::Ok, S::Error> {
        out.serialize_str(self.name())
    }
}

impl<'de> serde::Deserialize<'de> for Kind {
    fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let word = String::deserialize(from)?;
        word.parse().map_err(serde::de::Error::custom)
    }
}

/// A word that names no kind.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("unknown kind {0:?}")]
pub struct UnknownKind(pub String);

/// What stands under `spec:` in a document of one kind.
pub trait Spec: Clone + Serialize + DeserializeOwned + JsonSchema + PartialEq {
    /// The kind.
    const KIND: Kind;

    /// Notes everything that makes this spec invalid by itself. The walk stands at `spec`.
    fn check(&self, metadata: &Metadata, out: &mut Findings);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_answer_to_singular_plural_and_short_names() {
        for word in ["HTTPRoute", "httproute", "httproutes", "hr"] {
            assert_eq!(Kind::named(word), Some(Kind::HttpRoute), "{word}");
        }
        assert_eq!(Kind::named("pods"), None);
    }

    #[test]
    fn no_word_names_two_kinds() {
        let mut seen = std::collections::BTreeSet::new();
        for kind in Kind::ALL {
            let name = kind.name().to_ascii_lowercase();
            for word in [name.as_str(), kind.plural()].iter().chain(kind.short()) {
                assert!(seen.insert((*word).to_owned()), "{word}");
            }
        }
    }
}
