//! A policy: what is meant. It can only be made of a document that passed every check of its own kind.

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use weft_api::{Name, ServiceId};

use crate::finding::{Finding, Findings, steps};
use crate::kinds::{
    AuthorizationPolicy, HttpRoute, Kind, Mesh, Service, Spec, TcpRoute, TrafficPolicy, Workload,
};
use crate::metadata::Metadata;

/// The name of an object in the whole mesh. It reads `KIND NAMESPACE/NAME`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct PolicyKey {
    /// The kind.
    pub kind: Kind,
    /// The namespace.
    pub namespace: Name,
    /// The name.
    pub name: Name,
}

impl PolicyKey {
    /// The key of an object.
    #[must_use]
    pub fn new(kind: Kind, namespace: Name, name: Name) -> Self {
        Self { kind, namespace, name }
    }
}

impl fmt::Display for PolicyKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}/{}", self.kind, self.namespace, self.name)
    }
}

/// An object of one kind.
#[derive(Debug, Clone, PartialEq)]
pub struct Object<S> {
    /// The API version under which it was written.
    pub api_version: &'static str,
    /// Name, labels, and what the server keeps.
    pub metadata: Metadata,
    /// What it says.
    pub spec: S,
}

impl<S: Spec> Object<S> {
    /// The key.
    #[must_use]
    pub fn key(&self) -> PolicyKey {
        PolicyKey::new(S::KIND, self.metadata.namespace.clone(), self.metadata.name.clone())
    }

    /// Namespace and name, as an id of a service; for objects of other kinds it only tells where they are.
    #[must_use]
    pub fn id(&self) -> ServiceId {
        ServiceId::new(self.metadata.namespace.clone(), self.metadata.name.clone())
    }

    fn build(
        api_version: &'static str,
        metadata: Metadata,
        spec: serde_json::Value,
    ) -> Result<Arc<Self>, Vec<Finding>> {
        let spec: S = serde_json::from_value(spec).map_err(|error| {
            vec![Finding::new(steps!["spec"], crate::finding::Code::InvalidValue, error.to_string())]
        })?;
        let mut out = Findings::default();
        out.at("metadata", |out| metadata.check(out));
        out.at("spec", |out| spec.check(&metadata, out));
        let found = out.into_vec();
        if found.is_empty() { Ok(Arc::new(Self { api_version, metadata, spec })) } else { Err(found) }
    }
}

/// A policy of any kind. Cloning one shares it.
#[derive(Debug, Clone, PartialEq)]
pub enum Policy {
    /// Posture and trust of the whole mesh.
    Mesh(Arc<Object<Mesh>>),
    /// Name, ports and members.
    Service(Arc<Object<Service>>),
    /// One instance.
    Workload(Arc<Object<Workload>>),
    /// Routing of HTTP requests.
    HttpRoute(Arc<Object<HttpRoute>>),
    /// Routing of connections.
    TcpRoute(Arc<Object<TcpRoute>>),
    /// Everything about calling a backend.
    TrafficPolicy(Arc<Object<TrafficPolicy>>),
    /// Who may call what.
    AuthorizationPolicy(Arc<Object<AuthorizationPolicy>>),
}

/// `on_object!(policy, object => expression)`: the expression for the object of whatever kind.
macro_rules! on_object {
    ($policy:expr, $object:ident => $result:expr) => {
        match $policy {
            Policy::Mesh($object) => $result,
            Policy::Service($object) => $result,
            Policy::Workload($object) => $result,
            Policy::HttpRoute($object) => $result,
            Policy::TcpRoute($object) => $result,
            Policy::TrafficPolicy($object) => $result,
            Policy::AuthorizationPolicy($object) => $result,
        }
    };
}

impl Policy {
    /// The key.
    #[must_use]
    pub fn key(&self) -> PolicyKey {
        on_object!(self, object => object.key())
    }

    /// The kind.
    #[must_use]
    pub fn kind(&self) -> Kind {
        match self {
            Self::Mesh(_) => Kind::Mesh,
            Self::Service(_) => Kind::Service,
            Self::Workload(_) => Kind::Workload,
            Self::HttpRoute(_) => Kind::HttpRoute,
            Self::TcpRoute(_) => Kind::TcpRoute,
            Self::TrafficPolicy(_) => Kind::TrafficPolicy,
            Self::AuthorizationPolicy(_) => Kind::AuthorizationPolicy,
        }
    }

    /// Name, labels, and what the server keeps.
    #[must_use]
    pub fn metadata(&self) -> &Metadata {
        on_object!(self, object => &object.metadata)
    }

    /// Changes what the server keeps about the object.
    pub fn metadata_mut(&mut self) -> &mut Metadata {
        on_object!(self, object => &mut Arc::make_mut(object).metadata)
    }

    /// Whether people wrote the same: API version, names, labels, annotations and spec.
    #[must_use]
    pub fn says_the_same(&self, other: &Self) -> bool {
        fn same<S: Spec>(one: &Object<S>, two: &Object<S>) -> bool {
            one.api_version == two.api_version
                && one.metadata.says_the_same(&two.metadata)
                && one.spec == two.spec
        }
        match (self, other) {
            (Self::Mesh(one), Self::Mesh(two)) => same(one, two),
            (Self::Service(one), Self::Service(two)) => same(one, two),
            (Self::Workload(one), Self::Workload(two)) => same(one, two),
            (Self::HttpRoute(one), Self::HttpRoute(two)) => same(one, two),
            (Self::TcpRoute(one), Self::TcpRoute(two)) => same(one, two),
            (Self::TrafficPolicy(one), Self::TrafficPolicy(two)) => same(one, two),
            (Self::AuthorizationPolicy(one), Self::AuthorizationPolicy(two)) => same(one, two),
            _ => false,
        }
    }

    /// The whole object as it is stored and read back.
    #[must_use]
    pub fn to_value(&self) -> serde_json::Value {
        on_object!(self, object => serde_json::json!({
            "apiVersion": object.api_version,
            "kind": self.kind(),
            "metadata": object.metadata,
            "spec": object.spec,
        }))
    }

    /// Reads what [`Policy::to_value`] wrote.
    ///
    /// # Errors
    /// When it is not a whole, valid object; the first reason is given.
    pub fn from_value(value: serde_json::Value) -> Result<Self, StoredPolicyError> {
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct Stored {
            api_version: String,
            kind: Kind,
            metadata: Metadata,
            spec: serde_json::Value,
        }
        let stored: Stored =
            serde_json::from_value(value).map_err(|error| StoredPolicyError(error.to_string()))?;
        let object = format!("{} {}/{}", stored.kind, stored.metadata.namespace, stored.metadata.name);
        let api_version =
            stored.kind.api_versions().iter().find(|version| **version == stored.api_version).ok_or_else(
                || StoredPolicyError(format!("{object}: unknown apiVersion {:?}", stored.api_version)),
            )?;
        Self::build(stored.kind, api_version, stored.metadata, stored.spec).map_err(|found| {
            let reason =
                found.first().map(|one| format!("{}: {}", one.path, one.message)).unwrap_or_default();
            StoredPolicyError(format!("{object}: {reason}"))
        })
    }

    /// Builds a policy from a spec whose shape was checked already.
    pub(crate) fn build(
        kind: Kind,
        api_version: &'static str,
        metadata: Metadata,
        spec: serde_json::Value,
    ) -> Result<Self, Vec<Finding>> {
        Ok(match kind {
            Kind::Mesh => Self::Mesh(Object::build(api_version, metadata, spec)?),
            Kind::Service => Self::Service(Object::build(api_version, metadata, spec)?),
            Kind::Workload => Self::Workload(Object::build(api_version, metadata, spec)?),
            Kind::HttpRoute => Self::HttpRoute(Object::build(api_version, metadata, spec)?),
            Kind::TcpRoute => Self::TcpRoute(Object::build(api_version, metadata, spec)?),
            Kind::TrafficPolicy => Self::TrafficPolicy(Object::build(api_version, metadata, spec)?),
            Kind::AuthorizationPolicy => {
                Self::AuthorizationPolicy(Object::build(api_version, metadata, spec)?)
            }
        })
    }
}

/// A stored object that cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("stored policy cannot be read: {0}")]
pub struct StoredPolicyError(String);
