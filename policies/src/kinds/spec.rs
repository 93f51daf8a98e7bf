//! What every kind tells about itself. The index of a set, what a change affects and which objects are checked anew
//! follow from this; nothing outside a kind's folder knows it by name, but for the compiler that asks for it.

use std::fmt;

use schemars::JsonSchema;
use serde::Serialize;
use serde::de::DeserializeOwned;
use weft_api::{Name, ServiceId};

use super::http_rule::RequestRules;
use super::kind::Kind;
use crate::finding::{Finding, Findings, Path};
use crate::metadata::Metadata;
use crate::object::{AnyObject, Object, PolicyKey};
use crate::value::Hostname;

/// What stands under `spec:` in a document of one kind.
pub trait Spec:
    Clone + fmt::Debug + PartialEq + Serialize + DeserializeOwned + JsonSchema + Send + Sync + 'static
{
    /// The kind that documents give it.
    const KIND: Kind;

    /// What of the compiled configuration it shapes, for the services that it speaks of; empty for a kind that the
    /// compiler does not read.
    const SHAPES: &'static [Part];

    /// Notes everything that makes this spec invalid by itself. The walk stands at `spec`.
    fn check(&self, metadata: &Metadata, out: &mut Findings);

    /// What it names, where `namespace` is its own. An object is checked anew when one that it names changes.
    fn references(&self, namespace: &Name) -> Vec<Reference>;

    /// Notes what is wrong with it beside the other objects. It may look at those that [`Spec::references`] names, and
    /// at no others: their changes alone bring this check about.
    fn check_in_set(&self, _key: &PolicyKey, _others: &dyn Objects, _out: &mut Vec<Finding>) {}

    /// The names of its parts that a policy can target: a service's ports, a route's rules.
    fn sections(&self) -> Vec<&Name> {
        Vec::new()
    }

    /// Of a kind that is merged by level: the paths of the fields that it sets. Two policies of one target that set the
    /// same field are in conflict.
    fn fields_set(&self) -> Vec<&'static str> {
        Vec::new()
    }

    /// Of a kind that routes requests: its rules, in the terms of an HTTPRoute.
    fn request_rules(&self) -> Option<RequestRules<'_>> {
        None
    }
}

/// A part of the compiled configuration.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// Clusters of a service's ports.
    Clusters,
    /// Endpoints of a service's ports.
    Endpoints,
    /// The virtual hosts of a service, in the route configurations of all callers.
    Hosts,
    /// The route configurations of all callers, but for the virtual hosts of services.
    Routes,
    /// The listeners and routes of workloads that declare a service as their upstream.
    Upstreams,
    /// Hosts and upstreams of the services from which routes lead to a service.
    Leading,
    /// The inbound listener and routes of a service's members.
    Inbound,
    /// All listeners of all sidecars.
    Sidecars,
    /// Which callers are told of a service, where they are not told of all.
    Callers,
}

/// Whose sidecar enforces something.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// That of the workload that calls.
    Caller,
    /// That of the workload that is called.
    Server,
}

impl Part {
    /// Whose sidecar enforces it. Who is told of a service follows from what the service's own sidecars enforce.
    #[must_use]
    pub const fn side(self) -> Side {
        match self {
            Self::Clusters
            | Self::Endpoints
            | Self::Hosts
            | Self::Routes
            | Self::Upstreams
            | Self::Leading
            | Self::Sidecars => Side::Caller,
            Self::Inbound | Self::Callers => Side::Server,
        }
    }
}

/// Something that an object names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reference {
    /// What it is to the object.
    pub relation: Relation,
    /// What it names, whether or not that exists.
    pub target: Target,
    /// Where in the document.
    pub path: Path,
}

/// What something that is named is to the object that names it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Relation {
    /// A route hangs on it.
    Parent,
    /// A route leads to it.
    Backend,
    /// A policy is about it.
    Target,
    /// It is named in passing, as a caller or an upstream is.
    Mention,
    /// It is wanted for this object alone.
    Claim,
}

/// What can be named, with its namespace resolved.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Target {
    /// The whole mesh, as a target of policies.
    Mesh,
    /// All services of a namespace.
    Namespace(Name),
    /// An object, or a section of it.
    Object(PolicyKey, Option<Name>),
    /// A host name, which one object at most may claim.
    Hostname(Hostname),
}

impl Target {
    /// A service or one of its ports.
    #[must_use]
    pub fn service(id: &ServiceId, port: Option<&Name>) -> Self {
        Self::Object(PolicyKey::of_service(id), port.cloned())
    }
}

/// The other objects of a set, as a check looks at them.
pub trait Objects {
    /// The object with this key.
    fn object(&self, key: &PolicyKey) -> Option<&dyn AnyObject>;
}

impl dyn Objects + '_ {
    /// The object of kind `S` with this namespace and name.
    #[must_use]
    pub fn find<S: Spec>(&self, id: &ServiceId) -> Option<&Object<S>> {
        let object = self.object(&PolicyKey::new(S::KIND, id.namespace.clone(), id.name.clone()))?;
        (object as &dyn std::any::Any).downcast_ref()
    }
}
