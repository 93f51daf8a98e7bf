//! The unit of compiled configuration: a name, a content hash, encoded bytes, shared by reference.

use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::Xxh3Default;

/// The resource types that Weft serves and takes. Closed on purpose: a `match` lists what a new one must do.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
pub enum ResourceKind {
    /// A cluster, `envoy.config.cluster.v3.Cluster` (CDS).
    Cluster,
    /// The endpoints of a cluster, `envoy.config.endpoint.v3.ClusterLoadAssignment` (EDS).
    Endpoint,
    /// A listener, `envoy.config.listener.v3.Listener` (LDS).
    Listener,
    /// A route configuration, `envoy.config.route.v3.RouteConfiguration` (RDS).
    Route,
    /// A virtual host that arrives apart from its route configuration, `envoy.config.route.v3.VirtualHost` (VHDS).
    VirtualHost,
    /// A certificate with its key, or roots, `envoy.extensions.transport_sockets.tls.v3.Secret` (SDS).
    Secret,
    /// A layer of a stock Envoy's runtime, `envoy.service.runtime.v3.Runtime` (RTDS).
    Runtime,
}

impl ResourceKind {
    /// How many there are.
    pub const COUNT: usize = 7;

    /// All kinds in the order in which additions are sent (make before break).
    pub const ALL: [Self; Self::COUNT] = [
        Self::Cluster,
        Self::Endpoint,
        Self::Secret,
        Self::Listener,
        Self::Route,
        Self::VirtualHost,
        Self::Runtime,
    ];

    /// The type URL on the wire.
    #[must_use]
    pub fn type_url(self) -> &'static str {
        match self {
            Self::Cluster => "type.googleapis.com/envoy.config.cluster.v3.Cluster",
            Self::Endpoint => "type.googleapis.com/envoy.config.endpoint.v3.ClusterLoadAssignment",
            Self::Listener => "type.googleapis.com/envoy.config.listener.v3.Listener",
            Self::Route => "type.googleapis.com/envoy.config.route.v3.RouteConfiguration",
            Self::VirtualHost => "type.googleapis.com/envoy.config.route.v3.VirtualHost",
            Self::Secret => "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.Secret",
            Self::Runtime => "type.googleapis.com/envoy.service.runtime.v3.Runtime",
        }
    }

    /// The kind of a type URL, if it is one that Weft knows.
    #[must_use]
    pub fn from_type_url(url: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.type_url() == url)
    }

    /// The abbreviation people use: CDS, EDS, …
    #[must_use]
    pub fn short(self) -> &'static str {
        match self {
            Self::Cluster => "CDS",
            Self::Endpoint => "EDS",
            Self::Listener => "LDS",
            Self::Route => "RDS",
            Self::VirtualHost => "VHDS",
            Self::Secret => "SDS",
            Self::Runtime => "RTDS",
        }
    }

    /// Dense index for arrays by kind.
    #[must_use]
    pub fn index(self) -> usize {
        match self {
            Self::Cluster => 0,
            Self::Endpoint => 1,
            Self::Secret => 2,
            Self::Listener => 3,
            Self::Route => 4,
            Self::VirtualHost => 5,
            Self::Runtime => 6,
        }
    }
}

impl fmt::Display for ResourceKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.short())
    }
}

/// A content hash: equal bytes have equal versions on every replica and after every restart (rule S12).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Version(u64);

impl Version {
    /// Hashes kind, name and body.
    #[must_use]
    pub fn of(kind: ResourceKind, name: &str, body: &[u8]) -> Self {
        let mut hash = Xxh3Default::new();
        hash.update(kind.type_url().as_bytes());
        hash.update(&[0]);
        hash.update(name.as_bytes());
        hash.update(&[0]);
        hash.update(body);
        Self(hash.digest())
    }

    /// The hash as a number, for combining versions into the version of a set.
    #[must_use]
    pub fn as_u64(self) -> u64 {
        self.0
    }

    /// A version from a hash made elsewhere (the version of a set).
    #[must_use]
    pub fn from_u64(hash: u64) -> Self {
        Self(hash)
    }

    /// Reads the hexadecimal form; anything else is the version of nothing we know.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        (text.len() == 16).then(|| u64::from_str_radix(text, 16).ok().map(Self)).flatten()
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

impl fmt::Debug for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

/// What identifies one resource within a view: names are unique within their type only.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct ResourceKey {
    /// Which type it is of.
    pub kind: ResourceKind,
    /// Its name within the type.
    pub name: Arc<str>,
}

impl ResourceKey {
    /// The key of the resource of this type and name, whether or not there is one.
    pub fn new(kind: ResourceKind, name: impl Into<Arc<str>>) -> Self {
        Self { kind, name: name.into() }
    }
}

/// A resource that another one names: a cluster its endpoints and secrets, a listener its routes, secrets and
/// clusters, a route configuration its clusters.
pub type ResourceRef = ResourceKey;

/// One compiled resource. Immutable; every proxy with an equal view shares it.
#[derive(Clone, PartialEq, Eq)]
pub struct Resource {
    /// Which type the body is of.
    pub kind: ResourceKind,
    /// Its name within the type.
    pub name: Arc<str>,
    /// Hash of kind, name and body.
    pub version: Version,
    /// The encoded message (not wrapped in `Any`).
    pub body: Bytes,
    /// What it refers to, for ordering.
    pub refs: Vec<ResourceRef>,
}

impl Resource {
    /// Hashes and wraps an encoded message.
    pub fn new(
        kind: ResourceKind,
        name: impl Into<Arc<str>>,
        body: impl Into<Bytes>,
        refs: Vec<ResourceRef>,
    ) -> Arc<Self> {
        let (name, body) = (name.into(), body.into());
        let version = Version::of(kind, &name, &body);
        Arc::new(Self { kind, name, version, body, refs })
    }

    /// What identifies it within a view.
    #[must_use]
    pub fn key(&self) -> ResourceKey {
        ResourceKey { kind: self.kind, name: self.name.clone() }
    }
}

// The body may hold a private key: it never shows in logs.
impl fmt::Debug for Resource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} {} ({} bytes)", self.kind, self.name, self.version, self.body.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn version_tells_kind_name_and_body_apart() {
        let a = Version::of(ResourceKind::Cluster, "a", b"x");
        assert_eq!(a, Version::of(ResourceKind::Cluster, "a", b"x"));
        assert_ne!(a, Version::of(ResourceKind::Endpoint, "a", b"x"));
        assert_ne!(a, Version::of(ResourceKind::Cluster, "ax", b""));
        assert_eq!(Version::parse(&a.to_string()), Some(a));
    }

    #[test]
    fn index_is_dense_and_type_urls_read_back() {
        for (position, kind) in ResourceKind::ALL.into_iter().enumerate() {
            assert_eq!(kind.index(), position);
            assert_eq!(ResourceKind::from_type_url(kind.type_url()), Some(kind));
        }
    }
}
