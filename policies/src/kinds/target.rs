//! What policies are about: the mesh, a namespace, or an object of a kind that can be targeted.

use std::borrow::Cow;
use std::fmt;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use weft_api::{Name, ServiceId};

use super::kind::{Kind, Level};
use super::mesh::MESH_NAME;
use super::service::Service;
use super::spec::{Objects, Part, Reference, Relation, Side, Spec, Target};
use crate::finding::{Code, Finding, Findings, Path, missing, steps};
use crate::object::PolicyKey;

/// What a policy is about.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct TargetRef {
    /// The kind of target, which is also the level of the policy.
    pub kind: TargetKind,
    /// Its name: `mesh`, a namespace, a service or a route.
    pub name: Name,
    /// Its namespace; the policy's own when it is left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub namespace: Option<Name>,
    /// A part of it: the name of a service's port, or of a route's rule.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub section_name: Option<Name>,
}

/// The kind of a target.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum TargetKind {
    /// All services of a namespace.
    Namespace,
    /// An object of a kind that has a level.
    Object(Kind),
}

impl TargetKind {
    /// All that can be targeted, the broadest first.
    fn all() -> Vec<Self> {
        let objects = Kind::ALL.into_iter().filter(|kind| kind.level().is_some()).map(Self::Object);
        let mut all: Vec<Self> = std::iter::once(Self::Namespace).chain(objects).collect();
        all.sort_by_key(|kind| kind.level());
        all
    }

    const fn name(self) -> &'static str {
        match self {
            Self::Namespace => "Namespace",
            Self::Object(kind) => kind.name(),
        }
    }

    /// The level of a policy that targets a whole one.
    const fn level(self) -> Option<Level> {
        match self {
            Self::Namespace => Some(Level::Namespace),
            Self::Object(kind) => kind.level(),
        }
    }
}

impl Serialize for TargetKind {
    fn serialize<S: Serializer>(&self, out: S) -> Result<S::Ok, S::Error> {
        out.serialize_str(self.name())
    }
}

impl<'de> Deserialize<'de> for TargetKind {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let word = <Cow<'de, str>>::deserialize(from)?;
        Self::all()
            .into_iter()
            .find(|kind| kind.name() == word)
            .ok_or_else(|| serde::de::Error::custom(format!("{word:?} cannot be targeted")))
    }
}

impl JsonSchema for TargetKind {
    fn schema_name() -> Cow<'static, str> {
        "TargetKind".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        let names: Vec<&str> = Self::all().into_iter().map(Self::name).collect();
        json_schema!({"type": "string", "enum": names, "description": "The kind of a target."})
    }
}

impl TargetRef {
    /// The level at which a policy with this target speaks.
    #[must_use]
    pub fn level(&self) -> Level {
        match (self.kind.level(), self.section_name.is_some()) {
            (Some(Level::Service), true) => Level::ServicePort,
            (Some(Level::Route), true) => Level::RouteRule,
            (Some(level), _) => level,
            // No such kind is ever read.
            (None, _) => Level::Mesh,
        }
    }

    /// The namespace of the target, where `namespace` is the policy's.
    #[must_use]
    pub fn namespace<'a>(&'a self, namespace: &'a Name) -> &'a Name {
        self.namespace.as_ref().unwrap_or(namespace)
    }

    /// What is called by the name that is targeted, where it is a service or outside of the mesh.
    #[must_use]
    pub fn backend(&self, namespace: &Name) -> Option<ServiceId> {
        let TargetKind::Object(kind) = self.kind else { return None };
        kind.is_backend().then(|| ServiceId::new(self.namespace(namespace).clone(), self.name.clone()))
    }

    /// The service that is targeted, where it is one.
    #[must_use]
    pub fn service(&self, namespace: &Name) -> Option<ServiceId> {
        (self.kind == TargetKind::Object(Kind::Service))
            .then(|| ServiceId::new(self.namespace(namespace).clone(), self.name.clone()))
    }

    /// What is targeted, where `namespace` is the policy's.
    #[must_use]
    pub fn resolve(&self, namespace: &Name) -> Target {
        match self.kind {
            TargetKind::Object(Kind::Mesh) => Target::Mesh,
            TargetKind::Namespace => Target::Namespace(self.name.clone()),
            TargetKind::Object(kind) => Target::Object(
                PolicyKey::new(kind, self.namespace(namespace).clone(), self.name.clone()),
                self.section_name.clone(),
            ),
        }
    }

    /// Notes what is wrong with the target by itself, of a policy in `namespace`.
    fn check(&self, namespace: &Name, out: &mut Findings) {
        match self.kind {
            TargetKind::Object(Kind::Mesh) => {
                if self.name.as_str() != MESH_NAME {
                    out.add_at("name", Code::InvalidValue, "the Mesh is named mesh").value(&self.name);
                }
                self.refuse_part("a Mesh", out);
            }
            TargetKind::Namespace => {
                if self.namespace.as_ref().is_some_and(|namespace| *namespace != self.name) {
                    out.add_at("namespace", Code::Inconsistent, "a namespace is not in another one")
                        .hint("leave namespace out");
                }
                if self.name != *namespace {
                    out.not_supported("name", "a target namespace other than the policy's own")
                        .value(&self.name)
                        .hint(format!("put the policy into namespace {}", self.name));
                }
                self.refuse_part("a Namespace", out);
            }
            TargetKind::Object(_) => {
                if self.namespace.as_ref().is_some_and(|of_target| of_target != namespace) {
                    out.not_supported("namespace", "a target in another namespace than the policy's own")
                        .hint(format!("put the policy into namespace {}", self.namespace(namespace)));
                }
            }
        }
    }

    fn refuse_part(&self, whole: &str, out: &mut Findings) {
        if self.section_name.is_some() {
            out.add_at("sectionName", Code::Inconsistent, format!("{whole} has no sections"));
        }
    }
}

impl fmt::Display for TargetRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.kind.name(), self.name)?;
        match &self.section_name {
            Some(section) => write!(f, " section {section}"),
            None => Ok(()),
        }
    }
}

/// What a policy in `namespace` is about.
pub(crate) fn references(targets: &[TargetRef], namespace: &Name) -> Vec<Reference> {
    let reference = |(index, target): (usize, &TargetRef)| Reference {
        relation: Relation::Target,
        target: target.resolve(namespace),
        path: steps!["spec", "targetRefs", index],
    };
    targets.iter().enumerate().map(reference).collect()
}

/// Notes what is wrong with the targets of a policy of kind `S` in `namespace`.
pub(crate) fn check_targets<S: Spec>(targets: &[TargetRef], namespace: &Name, out: &mut Findings) {
    if targets.is_empty() {
        out.add_at("targetRefs", Code::Required, "a policy names at least one target");
    }
    let sides = || S::SHAPES.iter().copied().map(Part::side);
    let at_server = sides().all(|side| side == Side::Server);
    let at_caller = sides().all(|side| side == Side::Caller);
    out.each("targetRefs", targets, |out, target| {
        target.check(namespace, out);
        if at_server && target.level() >= Level::Route {
            let message = format!("a {} is enforced at the server, which knows no routes", S::KIND);
            out.add_at("kind", Code::InvalidValue, message).hint("target the Service");
        }
        if target.kind == TargetKind::Object(Kind::ExternalService) && !at_caller {
            let message =
                format!("a {} is enforced at the server, which is outside of the mesh here", S::KIND);
            out.add_at("kind", Code::InvalidValue, message).hint("target the services that call it");
        }
    });
    out.unique("targetRefs", targets, "", |target| {
        let namespace = target.namespace(namespace);
        format!("{target} in namespace {namespace}")
    });
}

/// Notes targets that do not exist, and ports that have no requests; `why` says what the policy is about.
pub(crate) fn check_request_targets_in_set(
    targets: &[TargetRef],
    why: &str,
    key: &PolicyKey,
    others: &dyn Objects,
    out: &mut Vec<Finding>,
) {
    for (index, target) in targets.iter().enumerate() {
        check_target_in_set(target, &steps!["spec", "targetRefs", index], key, others, out);
        let service = target.service(&key.namespace).and_then(|id| others.find::<Service>(&id));
        let port = service.and_then(|service| service.spec.port(target.section_name.as_ref()?));
        if let Some(port) = port.filter(|port| !port.protocol.is_http()) {
            let message =
                format!("has no meaning on port {} of protocol {}: {why}", port.name, port.protocol);
            out.push(Finding::new(steps!["spec", "targetRefs", index], Code::ProtocolMismatch, message));
        }
    }
}

/// Notes a target that does not exist, or does not have the section that is named.
pub(crate) fn check_target_in_set(
    target: &TargetRef,
    path: &Path,
    key: &PolicyKey,
    others: &dyn Objects,
    out: &mut Vec<Finding>,
) {
    let Target::Object(wanted, section) = target.resolve(&key.namespace) else { return };
    let Some(object) = others.object(&wanted) else {
        let effect = "the policy does nothing there until it does";
        out.push(missing(path.then("name"), &wanted.to_string(), effect));
        return;
    };
    let names = object.sections();
    let Some(section) = section.filter(|section| !names.contains(&section)) else { return };
    let (code, what) = match target.level() {
        Level::Service | Level::ServicePort => (Code::UnknownPort, "port"),
        Level::Mesh | Level::Namespace | Level::Route | Level::RouteRule => {
            (Code::UnknownSection, "rule named")
        }
    };
    let known = names.iter().map(|name| name.as_str()).collect::<Vec<_>>().join(", ");
    let hint = if known.is_empty() { format!("no {what} has a name") } else { format!("there are {known}") };
    let message = format!("{wanted} has no {what} {section}");
    out.push(Finding::new(path.then("sectionName"), code, message).value(section).hint(hint));
}
