//! Role: what a principal may do with the API.

use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use weft_api::Name;

use super::kind::Kind;

mod check;
pub mod effect;
mod spec;

/// What a principal may do with the API. Roles are additive: nothing is allowed but what a rule allows.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Role {
    /// What is allowed, each rule by itself.
    #[schemars(length(min = 1))]
    pub rules: Vec<RoleRule>,
}

/// Some verbs on some kinds in some namespaces.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RoleRule {
    /// What may be done.
    #[schemars(length(min = 1))]
    pub verbs: Vec<RoleVerb>,
    /// To what: kinds of documents, or Proxy, JoinToken, Traffic, Tap, Audit. `*` is all of these but Role and RoleBinding,
    /// which are named or not meant.
    #[schemars(length(min = 1))]
    pub kinds: Vec<KindPattern>,
    /// Where; `*` is everywhere.
    #[schemars(length(min = 1))]
    pub namespaces: Vec<NamespacePattern>,
}

/// What may be done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
pub enum RoleVerb {
    /// Read, list and watch it.
    Read,
    /// Make it and change it, and try out what that would do; of a proxy, take it out of balancing and back.
    Write,
    /// Delete it; of a proxy, take it out of the mesh.
    Delete,
}

impl RoleVerb {
    /// All verbs, in the order of the documentation.
    pub const ALL: [Self; 3] = [Self::Read, Self::Write, Self::Delete];
}

impl fmt::Display for RoleVerb {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Read => "Read",
            Self::Write => "Write",
            Self::Delete => "Delete",
        })
    }
}

/// What the API serves and a role can speak of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ApiKind {
    /// Documents of one kind, their history with them.
    Document(Kind),
    /// Proxies: who is connected, what each has. To write one is to drain it, to delete one to
    /// revoke it.
    Proxy,
    /// Tokens that workloads join with; the namespace is their service's.
    JoinToken,
    /// Numbers of edges, and what failed on them; the namespace is the caller's or the called service's.
    Traffic,
    /// Requests as they end, with some of their headers.
    Tap,
    /// Who did what with the API; it is of no namespace.
    Audit,
}

impl ApiKind {
    /// Those that are no documents.
    const OTHERS: [Self; 5] = [Self::Proxy, Self::JoinToken, Self::Traffic, Self::Tap, Self::Audit];

    /// All that a rule may name, documents' kinds before the rest.
    pub fn all() -> impl Iterator<Item = Self> {
        Kind::ALL.into_iter().map(Self::Document).chain(Self::OTHERS)
    }

    /// The name in a role.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Document(kind) => kind.name(),
            Self::Proxy => "Proxy",
            Self::JoinToken => "JoinToken",
            Self::Traffic => "Traffic",
            Self::Tap => "Tap",
            Self::Audit => "Audit",
        }
    }

    /// Whether it gives rights to others: such a kind is allowed by its name only.
    #[must_use]
    pub const fn grants(self) -> bool {
        matches!(self, Self::Document(Kind::Role | Kind::RoleBinding))
    }
}

impl fmt::Display for ApiKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// One kind, or all that give no rights to others.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KindPattern {
    /// `*`
    All,
    /// Only what is of this kind.
    One(ApiKind),
}

impl KindPattern {
    /// Whether a kind is meant.
    #[must_use]
    pub fn includes(self, kind: ApiKind) -> bool {
        match self {
            Self::All => !kind.grants(),
            Self::One(one) => one == kind,
        }
    }
}

impl fmt::Display for KindPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::All => f.write_str("*"),
            Self::One(kind) => kind.fmt(f),
        }
    }
}

impl FromStr for KindPattern {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text == "*" {
            return Ok(Self::All);
        }
        ApiKind::all().find(|kind| kind.name() == text).map(Self::One).ok_or_else(|| {
            let names: BTreeSet<&str> = ApiKind::all().map(ApiKind::name).collect();
            let names: Vec<&str> = names.into_iter().collect();
            format!("{text:?} is no kind; kinds are * and {}", names.join(", "))
        })
    }
}

/// One namespace, or all.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NamespacePattern {
    /// `*`
    All,
    /// Only what is in this namespace.
    One(Name),
}

impl NamespacePattern {
    /// Whether a namespace is meant; none stands for what is of no namespace.
    #[must_use]
    pub fn includes(&self, namespace: Option<&Name>) -> bool {
        match self {
            Self::All => true,
            Self::One(one) => namespace == Some(one),
        }
    }
}

impl fmt::Display for NamespacePattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::All => f.write_str("*"),
            Self::One(name) => name.fmt(f),
        }
    }
}

impl FromStr for NamespacePattern {
    type Err = weft_api::names::InvalidName;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text == "*" { Ok(Self::All) } else { Name::try_new(text).map(Self::One) }
    }
}

/// Both patterns are strings.
macro_rules! as_string {
    ($pattern:ident, $schema:expr) => {
        impl Serialize for $pattern {
            fn serialize<S: Serializer>(&self, out: S) -> Result<S::Ok, S::Error> {
                out.collect_str(self)
            }
        }

        impl<'de> Deserialize<'de> for $pattern {
            fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
                String::deserialize(from)?.parse().map_err(serde::de::Error::custom)
            }
        }

        impl JsonSchema for $pattern {
            fn schema_name() -> std::borrow::Cow<'static, str> {
                stringify!($pattern).into()
            }

            fn json_schema(_: &mut SchemaGenerator) -> Schema {
                $schema
            }
        }
    };
}
as_string!(KindPattern, {
    let names: Vec<&str> = std::iter::once("*").chain(ApiKind::all().map(ApiKind::name)).collect();
    json_schema!({"type": "string", "enum": names})
});
as_string!(NamespacePattern, {
    json_schema!({"type": "string", "description": "a namespace, or * for all", "maxLength": 63})
});
