//! What of a request is hashed.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::finding::{Code, Findings};
use crate::value::{HeaderName, Timespan};

/// A part of a request that is hashed: requests alike in it go to the same endpoint.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct HashOn {
    /// Which part it is.
    #[serde(rename = "type")]
    pub part: HashedPart,
    /// The name of the header, the cookie or the query parameter.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// A caller without the cookie is given one that lives so long; with `0s` until the client ends. Left out, none is
    /// given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ttl: Option<Timespan>,
    /// The path of the cookie that is given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
    /// Where a request has this part, those that follow in the list do not count.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub terminal: bool,
}

/// A part of a request that can be hashed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum HashedPart {
    /// The values of a header.
    Header,
    /// The value of a cookie.
    Cookie,
    /// The address that the proxy is called from. Beside a workload that is mostly the workload's own.
    SourceAddress,
    /// The first value of a parameter of the query.
    QueryParam,
}

impl HashOn {
    pub(super) fn check(&self, out: &mut Findings) {
        match (self.part, &self.name) {
            (HashedPart::SourceAddress, Some(_)) => {
                out.add_at("name", Code::Inconsistent, "an address has no name");
            }
            (HashedPart::SourceAddress, None) => {}
            (HashedPart::Header | HashedPart::Cookie | HashedPart::QueryParam, None) => {
                out.add(Code::Required, "name is missing").hint("say which one is hashed");
            }
            (HashedPart::Header, Some(name)) => {
                if let Err(error) = name.parse::<HeaderName>() {
                    out.add_at("name", Code::InvalidValue, error.to_string()).value(name);
                }
            }
            (HashedPart::Cookie, Some(name)) => {
                let token = |b: u8| b.is_ascii_graphic() && !b"()<>@,;:\\\"/[]?={}".contains(&b);
                if name.is_empty() || !name.bytes().all(token) {
                    out.add_at("name", Code::InvalidValue, "not a cookie's name").value(name);
                }
            }
            (HashedPart::QueryParam, Some(name)) => {
                if name.is_empty() || name.contains(['&', '=', '#']) {
                    out.add_at("name", Code::InvalidValue, "not a parameter's name").value(name);
                }
            }
        }
        if self.part != HashedPart::Cookie {
            for (field, is_set) in [("ttl", self.ttl.is_some()), ("path", self.path.is_some())] {
                if is_set {
                    out.add_at(field, Code::Inconsistent, "is of cookies only");
                }
            }
        }
        if let Some(path) = &self.path {
            if !path.starts_with('/') || !path.bytes().all(|b| b.is_ascii_graphic() && b != b';') {
                out.add_at("path", Code::InvalidValue, "must begin with / and have no ; in it").value(path);
            } else if self.ttl.is_none() {
                out.add_at(
                    "path",
                    Code::Inconsistent,
                    "is of cookies that are given, and without ttl none is",
                );
            }
        }
    }
}
