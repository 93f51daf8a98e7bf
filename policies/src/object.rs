//! An object: what a document of one kind means, with its name.

use std::any::Any;
use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use weft_api::{Name, ServiceId};

use crate::finding::{Code, Finding, Findings, steps};
use crate::kinds::http_rule::RequestRules;
use crate::kinds::kind::Kind;
use crate::kinds::spec::{Objects, Part, Reference, Spec};
use crate::metadata::Metadata;

/// The name of an object in the whole mesh. It reads `KIND NAMESPACE/NAME`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct PolicyKey {
    /// The kind of object.
    pub kind: Kind,
    /// The namespace that it is in; `default` for the Mesh.
    pub namespace: Name,
    /// The name, unique for the kind in the namespace.
    pub name: Name,
}

impl PolicyKey {
    /// The key of an object.
    #[must_use]
    pub fn new(kind: Kind, namespace: Name, name: Name) -> Self {
        Self { kind, namespace, name }
    }

    /// The key of a service.
    #[must_use]
    pub fn of_service(id: &ServiceId) -> Self {
        Self::new(Kind::Service, id.namespace.clone(), id.name.clone())
    }

    /// The keys of what would be called by the same name, where this is the key of something that is called.
    pub(crate) fn namesakes(&self) -> impl Iterator<Item = Self> + '_ {
        let others = Kind::ALL.into_iter().filter(|kind| self.kind.is_backend() && kind.is_backend());
        let others = others.filter(|kind| *kind != self.kind);
        others.map(|kind| Self::new(kind, self.namespace.clone(), self.name.clone()))
    }

    /// Namespace and name, as an id of a service; for objects of other kinds it only tells where they are.
    #[must_use]
    pub fn id(&self) -> ServiceId {
        ServiceId::new(self.namespace.clone(), self.name.clone())
    }
}

impl fmt::Display for PolicyKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}/{}", self.kind, self.namespace, self.name)
    }
}

/// An object of one kind. It can only be made of a document that passed every check of its own kind.
#[derive(Debug, Clone, PartialEq)]
pub struct Object<S> {
    /// The API version under which it was written.
    pub api_version: &'static str,
    /// Name, labels, and what the server keeps.
    pub metadata: Metadata,
    /// What was written under `spec:`.
    pub spec: S,
}

impl<S: Spec> Object<S> {
    /// Its name in the whole mesh.
    #[must_use]
    pub fn key(&self) -> PolicyKey {
        PolicyKey::new(S::KIND, self.metadata.namespace.clone(), self.metadata.name.clone())
    }

    /// Namespace and name, as an id of a service; for objects of other kinds it only tells where they are.
    #[must_use]
    pub fn id(&self) -> ServiceId {
        ServiceId::new(self.metadata.namespace.clone(), self.metadata.name.clone())
    }

    /// Reads a spec whose shape was checked already.
    pub(crate) fn build(
        api_version: &'static str,
        metadata: Metadata,
        spec: Value,
    ) -> Result<Arc<Self>, Vec<Finding>> {
        let spec: S = serde_json::from_value(spec)
            .map_err(|error| vec![Finding::new(steps!["spec"], Code::InvalidValue, error.to_string())])?;
        let mut out = Findings::default();
        out.at("metadata", |out| metadata.check(out));
        out.at("spec", |out| spec.check(&metadata, out));
        let found = out.into_vec();
        if found.is_empty() { Ok(Arc::new(Self { api_version, metadata, spec })) } else { Err(found) }
    }
}

/// An object of whatever kind: [`Object`] without its type.
pub trait AnyObject: Any + fmt::Debug {
    /// Its name in the whole mesh: [`Object::key`].
    fn key(&self) -> PolicyKey;
    /// Name, labels, and what the server keeps: [`Object::metadata`].
    fn metadata(&self) -> &Metadata;
    /// The same, to be changed by the server.
    fn metadata_mut(&mut self) -> &mut Metadata;
    /// What of the compiled configuration it shapes: [`Spec::SHAPES`].
    fn shapes(&self) -> &'static [Part];
    /// What it names: [`Spec::references`] in its own namespace.
    fn references(&self) -> Vec<Reference>;
    /// What is wrong with it beside the others: [`Spec::check_in_set`].
    fn check_in_set(&self, others: &dyn Objects) -> Vec<Finding>;
    /// The parts that a policy can target: [`Spec::sections`].
    fn sections(&self) -> Vec<&Name>;
    /// The fields that it sets, where the kind is merged by level: [`Spec::fields_set`].
    fn fields_set(&self) -> Vec<&'static str>;
    /// Its rules, where it routes requests: [`Spec::request_rules`].
    fn request_rules(&self) -> Option<RequestRules<'_>>;
    /// Whether people wrote the same: API version, names, labels, annotations and spec.
    fn says_the_same(&self, other: &dyn AnyObject) -> bool;
    /// The whole object as it is stored and read back.
    fn to_value(&self) -> Value;
}

impl<S: Spec> AnyObject for Object<S> {
    fn key(&self) -> PolicyKey {
        self.key()
    }

    fn metadata(&self) -> &Metadata {
        &self.metadata
    }

    fn metadata_mut(&mut self) -> &mut Metadata {
        &mut self.metadata
    }

    fn shapes(&self) -> &'static [Part] {
        S::SHAPES
    }

    fn references(&self) -> Vec<Reference> {
        self.spec.references(&self.metadata.namespace)
    }

    fn check_in_set(&self, others: &dyn Objects) -> Vec<Finding> {
        let mut out = Vec::new();
        self.spec.check_in_set(&self.key(), others, &mut out);
        out
    }

    fn sections(&self) -> Vec<&Name> {
        self.spec.sections()
    }

    fn fields_set(&self) -> Vec<&'static str> {
        self.spec.fields_set()
    }

    fn request_rules(&self) -> Option<RequestRules<'_>> {
        self.spec.request_rules()
    }

    fn says_the_same(&self, other: &dyn AnyObject) -> bool {
        (other as &dyn Any).downcast_ref::<Self>().is_some_and(|other| {
            self.api_version == other.api_version
                && self.metadata.says_the_same(&other.metadata)
                && self.spec == other.spec
        })
    }

    fn to_value(&self) -> Value {
        serde_json::json!({
            "apiVersion": self.api_version,
            "kind": S::KIND,
            "metadata": self.metadata,
            "spec": self.spec,
        })
    }
}
