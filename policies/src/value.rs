//! The scalar values that specs are made of: each is read from one string or number, and cannot hold an invalid one.

mod address;
mod collector;
mod keys;
mod log_file;
mod network;
mod span;

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};
use weft_api::{Name, ServiceId};

pub use address::{HostAddress, SubjectAltName};
pub use collector::{CollectorHost, CollectorUrl};
pub use keys::KeysUrl;
pub use log_file::LogFileName;
pub use network::{Cidr, Hostname, PeerAddress};
pub use span::Timespan;

/// Text that is not a value of the wanted kind.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct InvalidValue(pub(crate) String);

impl InvalidValue {
    pub(crate) fn new(rule: impl Into<String>) -> Self {
        Self(rule.into())
    }
}

/// serde by `Display` and `FromStr`, and a JSON Schema of a string with a format that [`check_format`] knows.
macro_rules! text_value {
    ($type:ty, $name:literal, $format:literal, $description:literal) => {
        impl serde::Serialize for $type {
            fn serialize<S: serde::Serializer>(&self, out: S) -> Result<S::Ok, S::Error> {
                out.collect_str(self)
            }
        }

        impl<'de> serde::Deserialize<'de> for $type {
            fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
                let text = <std::borrow::Cow<'de, str>>::deserialize(from)?;
                text.parse().map_err(serde::de::Error::custom)
            }
        }

        impl schemars::JsonSchema for $type {
            fn inline_schema() -> bool {
                true
            }

            fn schema_name() -> std::borrow::Cow<'static, str> {
                $name.into()
            }

            fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
                schemars::json_schema!({"type": "string", "format": $format, "description": $description})
            }
        }
    };
}
pub(crate) use text_value;

/// The name of an HTTP header, kept in lower case.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct HeaderName(String);

impl HeaderName {
    /// The name in lower case.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for HeaderName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for HeaderName {
    type Err = InvalidValue;

    fn from_str(text: &str) -> Result<Self, InvalidValue> {
        let token = |b: u8| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b);
        if (1..=256).contains(&text.len()) && text.bytes().all(token) {
            Ok(Self(text.to_ascii_lowercase()))
        } else {
            Err(InvalidValue::new("not a header name: use letters, digits and '-'"))
        }
    }
}

text_value!(HeaderName, "HeaderName", "header-name", "name of an HTTP header, in any case");

/// A service named from within a namespace: `NAME` or `NAMESPACE/NAME`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ServiceRef {
    /// The namespace, when written.
    pub namespace: Option<Name>,
    /// The service's name within its namespace.
    pub name: Name,
}

impl ServiceRef {
    /// The service meant, where `namespace` is that of the document.
    #[must_use]
    pub fn resolve(&self, namespace: &Name) -> ServiceId {
        ServiceId::new(self.namespace.clone().unwrap_or_else(|| namespace.clone()), self.name.clone())
    }
}

impl fmt::Display for ServiceRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.namespace {
            Some(namespace) => write!(f, "{namespace}/{}", self.name),
            None => self.name.fmt(f),
        }
    }
}

impl FromStr for ServiceRef {
    type Err = InvalidValue;

    fn from_str(text: &str) -> Result<Self, InvalidValue> {
        let name = |part: &str| {
            Name::try_new(part).map_err(|_| {
                InvalidValue::new("not a service: write SERVICE or NAMESPACE/SERVICE, in lower case")
            })
        };
        match text.split_once('/') {
            Some((namespace, service)) => {
                Ok(Self { namespace: Some(name(namespace)?), name: name(service)? })
            }
            None => Ok(Self { namespace: None, name: name(text)? }),
        }
    }
}

text_value!(ServiceRef, "ServiceRef", "service-ref", "SERVICE, or NAMESPACE/SERVICE");

/// A port of a service, by its name or by its number.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(untagged)]
pub enum PortRef {
    /// The number that callers use.
    Number(u16),
    /// The name that the Service gives it.
    Name(Name),
}

impl fmt::Display for PortRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Number(number) => number.fmt(f),
            Self::Name(name) => name.fmt(f),
        }
    }
}

impl JsonSchema for PortRef {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "PortRef".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": ["integer", "string"], "format": "name", "minimum": 1, "maximum": 65535,
            "description": "a port's name or number"
        })
    }
}

/// One status code or an inclusive range of them, `200` or `200-299`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct StatusRange {
    /// The first code that fits.
    pub first: u16,
    /// The last code that fits.
    pub last: u16,
}

impl fmt::Display for StatusRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.first == self.last { self.first.fmt(f) } else { write!(f, "{}-{}", self.first, self.last) }
    }
}

impl FromStr for StatusRange {
    type Err = InvalidValue;

    fn from_str(text: &str) -> Result<Self, InvalidValue> {
        let (first, last) = text.split_once('-').unwrap_or((text, text));
        let code = |part: &str| part.parse::<u16>().ok().filter(|code| (100..=599).contains(code));
        match (code(first), code(last)) {
            (Some(first), Some(last)) if first <= last => Ok(Self { first, last }),
            _ => Err(InvalidValue::new(
                "not a status: write a code from 100 to 599 or a range such as 200-299",
            )),
        }
    }
}

impl Serialize for StatusRange {
    fn serialize<S: serde::Serializer>(&self, out: S) -> Result<S::Ok, S::Error> {
        if self.first == self.last { out.serialize_u16(self.first) } else { out.collect_str(self) }
    }
}

impl<'de> Deserialize<'de> for StatusRange {
    fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Written {
            Code(u16),
            Range(String),
        }
        let text = match Written::deserialize(from)? {
            Written::Code(code) => code.to_string(),
            Written::Range(text) => text,
        };
        text.parse().map_err(serde::de::Error::custom)
    }
}

impl JsonSchema for StatusRange {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "StatusRange".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": ["integer", "string"], "format": "status-range", "minimum": 100, "maximum": 599,
            "description": "a status code, or a range such as 200-299"
        })
    }
}

/// Reads `text` as the schema format `format`; a format that is unknown fits all text.
///
/// # Errors
/// What is wrong with the text.
pub(crate) fn check_format(format: &str, text: &str) -> Result<(), InvalidValue> {
    fn read<T: FromStr<Err: fmt::Display>>(text: &str) -> Result<(), InvalidValue> {
        text.parse::<T>().map(|_| ()).map_err(|error| InvalidValue::new(error.to_string()))
    }
    let label = |_| {
        InvalidValue::new("not a name: use 1 to 63 of a-z, 0-9 and '-', with a letter or digit at both ends")
    };
    match format {
        "name" => read::<Name>(text).map_err(label),
        "service-id" => read::<ServiceId>(text),
        "service-ref" => read::<ServiceRef>(text),
        "timespan" => read::<Timespan>(text),
        "header-name" => read::<HeaderName>(text),
        "hostname" => read::<Hostname>(text),
        "cidr" => read::<Cidr>(text),
        "host-address" => read::<HostAddress>(text),
        "subject-alt-name" => read::<SubjectAltName>(text),
        "collector" => read::<CollectorUrl>(text),
        "keys-url" => read::<KeysUrl>(text),
        "log-file" => read::<LogFileName>(text),
        "status-range" => read::<StatusRange>(text),
        "spiffe-id" => read::<weft_api::SpiffeId>(text),
        "ip" => read::<std::net::IpAddr>(text)
            .map_err(|_| InvalidValue::new("not an IP address: write one such as 10.0.0.7 or fd00::7")),
        "ip-port" => read::<std::net::SocketAddr>(text)
            .map_err(|_| InvalidValue::new("not an address: write IP:PORT, such as 127.0.0.1:5432")),
        _ => Ok(()),
    }
}
