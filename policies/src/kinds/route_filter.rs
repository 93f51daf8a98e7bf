//! What a rule of an HTTPRoute does to a request beside sending it on.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::reference::BackendRef;
use crate::finding::{Code, Findings};
use crate::value::{HeaderName, Hostname};

/// A filter: its type, and the one field of that type.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Filter {
    /// Which field is set.
    #[serde(rename = "type")]
    pub filter_type: FilterType,
    /// Changes to the headers of a request.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request_header_modifier: Option<HeaderModifier>,
    /// Changes to the headers of an answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub response_header_modifier: Option<HeaderModifier>,
    /// A copy of each request to another backend.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request_mirror: Option<RequestMirror>,
    /// An answer that sends the caller elsewhere.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request_redirect: Option<RequestRedirect>,
    /// Another host or path for the backend.
    #[serde(default, rename = "urlRewrite", skip_serializing_if = "Option::is_none")]
    pub url_rewrite: Option<UrlRewrite>,
    /// Answers to browsers' cross-origin questions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cors: Option<serde_json::Map<String, serde_json::Value>>,
    /// Gateway API's reference to an extension.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub extension_ref: Option<serde_json::Map<String, serde_json::Value>>,
}

/// The type of a filter.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
pub enum FilterType {
    /// Changes headers of the request; its field is `requestHeaderModifier`.
    RequestHeaderModifier,
    /// Changes headers of the answer; its field is `responseHeaderModifier`.
    ResponseHeaderModifier,
    /// Copies requests to another backend; its field is `requestMirror`.
    RequestMirror,
    /// Answers with a redirect; its field is `requestRedirect`.
    RequestRedirect,
    /// Gives the backend another host or path; its field is `urlRewrite`.
    #[serde(rename = "URLRewrite")]
    UrlRewrite,
    /// Answers browsers' cross-origin questions; its field is `cors`.
    #[serde(rename = "CORS")]
    Cors,
    /// An extension of Gateway API; its field is `extensionRef`.
    ExtensionRef,
}

/// Changes to headers, in this order: remove, set, add.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct HeaderModifier {
    /// Headers whose value becomes this one.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub set: Vec<HeaderValue>,
    /// Headers that get one more value.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub add: Vec<HeaderValue>,
    /// Headers that are taken away, with all their values.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub remove: Vec<HeaderName>,
}

/// A header and its value.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct HeaderValue {
    /// The name of the header.
    pub name: HeaderName,
    /// The value, as it is: nothing in it is replaced.
    pub value: String,
}

/// A copy of each request to another backend.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RequestMirror {
    /// Where the copies go.
    pub backend_ref: Box<BackendRef>,
    /// Percentage of requests that are copied.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 100))]
    pub percent: Option<u32>,
}

/// An answer that sends the caller elsewhere. What is not written stays as it was.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RequestRedirect {
    /// The scheme of the new location.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scheme: Option<Scheme>,
    /// The host of the new location; no wildcard.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hostname: Option<Hostname>,
    /// What becomes of the path; the query stays.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<PathModifier>,
    /// The port of the new location.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 65535))]
    pub port: Option<u16>,
    /// The status; 302 when it is left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status_code: Option<u16>,
}

/// The scheme of a redirect.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Scheme {
    /// `http`, whose own port is 80.
    Http,
    /// `https`, whose own port is 443.
    Https,
}

/// Another host or path for the backend.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct UrlRewrite {
    /// The host that the backend sees; the caller's when it is left out. No wildcard.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hostname: Option<Hostname>,
    /// What becomes of the path that the backend sees; the query stays.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<PathModifier>,
}

/// What becomes of a path: its type, and the one field of that type.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct PathModifier {
    /// Which field is set.
    #[serde(rename = "type")]
    pub modifier_type: PathModifierType,
    /// What stands in place of the whole path, for `ReplaceFullPath`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub replace_full_path: Option<String>,
    /// What stands in place of the prefix that the rule matched.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub replace_prefix_match: Option<String>,
}

/// The type of a path modifier.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum PathModifierType {
    /// The whole path becomes `replaceFullPath`.
    ReplaceFullPath,
    /// The prefix that the rule matched becomes `replacePrefixMatch`; the rest stays.
    ReplacePrefixMatch,
}

/// The meant form of a [`PathModifier`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NewPath<'a> {
    /// In place of the whole path.
    Full(&'a str),
    /// In place of the prefix that the rule matched.
    Prefix(&'a str),
}

impl PathModifier {
    /// The one replacement that is set; `None` only in a spec that `check` refuses.
    #[must_use]
    pub fn new_path(&self) -> Option<NewPath<'_>> {
        match (self.modifier_type, &self.replace_full_path, &self.replace_prefix_match) {
            (PathModifierType::ReplaceFullPath, Some(path), None) => Some(NewPath::Full(path)),
            (PathModifierType::ReplacePrefixMatch, None, Some(path)) => Some(NewPath::Prefix(path)),
            _ => None,
        }
    }

    fn check(&self, prefix_only: bool, out: &mut Findings) {
        match self.new_path() {
            None => {
                out.add(Code::Inconsistent, "set exactly the field that type names");
            }
            Some(NewPath::Full(path)) => super::route_match::check_path("replaceFullPath", path, out),
            Some(NewPath::Prefix(path)) => {
                if !path.is_empty() {
                    super::route_match::check_path("replacePrefixMatch", path, out);
                }
                if !prefix_only {
                    out.add_at("type", Code::Inconsistent, "each match of this rule must have a PathPrefix");
                }
            }
        }
    }
}

impl Filter {
    /// Notes what is wrong; `prefix_only` tells whether each match of the rule has a path prefix.
    pub(crate) fn check(&self, prefix_only: bool, out: &mut Findings) {
        let fields = [
            (
                FilterType::RequestHeaderModifier,
                "requestHeaderModifier",
                self.request_header_modifier.is_some(),
            ),
            (
                FilterType::ResponseHeaderModifier,
                "responseHeaderModifier",
                self.response_header_modifier.is_some(),
            ),
            (FilterType::RequestMirror, "requestMirror", self.request_mirror.is_some()),
            (FilterType::RequestRedirect, "requestRedirect", self.request_redirect.is_some()),
            (FilterType::UrlRewrite, "urlRewrite", self.url_rewrite.is_some()),
            (FilterType::Cors, "cors", self.cors.is_some()),
            (FilterType::ExtensionRef, "extensionRef", self.extension_ref.is_some()),
        ];
        for (filter_type, field, is_set) in fields {
            if filter_type == self.filter_type && !is_set {
                out.add_at(field, Code::Required, format!("a filter of type {} needs it", self.type_name()));
            } else if filter_type != self.filter_type && is_set {
                out.add_at(field, Code::Inconsistent, format!("does not go with type {}", self.type_name()));
            }
        }
        if matches!(self.filter_type, FilterType::RequestMirror | FilterType::Cors | FilterType::ExtensionRef)
        {
            out.not_supported("type", &format!("filter {}", self.type_name())).value(self.type_name());
        }
        for (field, modifier) in [
            ("requestHeaderModifier", &self.request_header_modifier),
            ("responseHeaderModifier", &self.response_header_modifier),
        ] {
            if let Some(modifier) = modifier {
                out.at(field, |out| modifier.check(out));
            }
        }
        if let Some(redirect) = &self.request_redirect {
            out.at("requestRedirect", |out| redirect.check(prefix_only, out));
        }
        if let Some(rewrite) = &self.url_rewrite {
            out.at("urlRewrite", |out| {
                if rewrite.hostname.as_ref().is_some_and(Hostname::is_wildcard) {
                    out.add_at("hostname", Code::InvalidValue, "cannot be a wildcard");
                }
                if let Some(path) = &rewrite.path {
                    out.at("path", |out| path.check(prefix_only, out));
                }
            });
        }
    }

    fn type_name(&self) -> &'static str {
        match self.filter_type {
            FilterType::RequestHeaderModifier => "RequestHeaderModifier",
            FilterType::ResponseHeaderModifier => "ResponseHeaderModifier",
            FilterType::RequestMirror => "RequestMirror",
            FilterType::RequestRedirect => "RequestRedirect",
            FilterType::UrlRewrite => "URLRewrite",
            FilterType::Cors => "CORS",
            FilterType::ExtensionRef => "ExtensionRef",
        }
    }
}

/// Headers that belong to the connection or the mesh and are nobody's to change.
const RESERVED: [&str; 8] = [
    "host",
    "connection",
    "content-length",
    "transfer-encoding",
    "upgrade",
    "te",
    "x-forwarded-client-cert",
    "keep-alive",
];

impl HeaderModifier {
    fn check(&self, out: &mut Findings) {
        let reserved = |out: &mut Findings, step: crate::finding::Step, name: &HeaderName| {
            if RESERVED.contains(&name.as_str()) || name.as_str().starts_with("x-envoy-") {
                out.add_at(step, Code::InvalidValue, format!("{name} cannot be changed by a route"))
                    .value(name);
            }
        };
        for (field, list) in [("set", &self.set), ("add", &self.add)] {
            out.unique(field, list, "name", |header| header.name.clone());
            out.each(field, list, |out, header| {
                reserved(out, "name".into(), &header.name);
                if header.value.len() > 4096 || header.value.bytes().any(|b| b.is_ascii_control()) {
                    out.add_at(
                        "value",
                        Code::InvalidValue,
                        "must hold no control characters and at most 4096 bytes",
                    )
                    .value(header.value.escape_debug());
                }
            });
        }
        for (index, name) in self.remove.iter().enumerate() {
            out.at("remove", |out| reserved(out, index.into(), name));
        }
    }
}

impl RequestRedirect {
    fn check(&self, prefix_only: bool, out: &mut Findings) {
        if let Some(status) = self.status_code.filter(|status| ![301, 302, 303, 307, 308].contains(status)) {
            out.add_at("statusCode", Code::InvalidValue, "must be 301, 302, 303, 307 or 308").value(status);
        }
        if self.hostname.as_ref().is_some_and(Hostname::is_wildcard) {
            out.add_at("hostname", Code::InvalidValue, "cannot be a wildcard");
        }
        if let Some(path) = &self.path {
            out.at("path", |out| path.check(prefix_only, out));
        }
    }
}
