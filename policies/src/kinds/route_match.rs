//! What a rule for requests matches.

use std::cmp::Reverse;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::finding::{Code, Findings};
use crate::value::HeaderName;

/// One way to match a request: all that is written must fit.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RouteMatch {
    /// The path; all paths when it is left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<PathMatch>,
    /// Headers that must be there.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub headers: Vec<HeaderMatch>,
    /// Query parameters that must be there.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub query_params: Vec<QueryMatch>,
    /// The method; all methods when it is left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub method: Option<Method>,
}

/// A path to match.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct PathMatch {
    /// How it is compared.
    #[serde(default, rename = "type")]
    pub match_type: PathMatchType,
    /// The path, prefix or expression.
    #[serde(default = "root")]
    pub value: String,
}

fn root() -> String {
    "/".to_owned()
}

impl Default for PathMatch {
    fn default() -> Self {
        Self { match_type: PathMatchType::PathPrefix, value: root() }
    }
}

/// How a path is compared. The order is that of precedence.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
pub enum PathMatchType {
    /// The whole path is equal.
    Exact,
    /// The whole path fits an expression in RE2's syntax.
    RegularExpression,
    /// Begins with these elements: `/a` fits `/a` and `/a/b`, not `/ab`.
    #[default]
    PathPrefix,
}

/// How much a match says of the path. What is lower goes first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Specificity {
    /// How it is compared.
    pub match_type: PathMatchType,
    /// How many characters must fit, and where those are equal, how many of what is compared next.
    pub characters: (Reverse<usize>, Reverse<usize>),
}

/// A header to match.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct HeaderMatch {
    /// How its value is compared.
    #[serde(default, rename = "type")]
    pub match_type: ValueMatchType,
    /// The name of the header, in any case.
    pub name: HeaderName,
    /// The value or expression.
    pub value: String,
}

/// A query parameter to match.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct QueryMatch {
    /// How its value is compared.
    #[serde(default, rename = "type")]
    pub match_type: ValueMatchType,
    /// The name of the parameter, in this case.
    pub name: String,
    /// The value or expression.
    pub value: String,
}

/// How a value is compared.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
pub enum ValueMatchType {
    /// The whole value is equal.
    #[default]
    Exact,
    /// The whole value fits an expression in RE2's syntax.
    RegularExpression,
}

/// A method of HTTP.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "UPPERCASE")]
pub enum Method {
    /// `GET`, which reads.
    Get,
    /// `HEAD`, which reads the head of the answer to `GET`.
    Head,
    /// `POST`, which acts as the resource decides.
    Post,
    /// `PUT`, which puts the content in place of what is there.
    Put,
    /// `DELETE`, which removes.
    Delete,
    /// `CONNECT`, which opens a tunnel.
    Connect,
    /// `OPTIONS`, which asks what may be done.
    Options,
    /// `TRACE`, which asks for the request as it arrives.
    Trace,
    /// `PATCH`, which changes a part of what is there.
    Patch,
}

impl Method {
    /// The method as it stands in a request.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Get => "GET",
            Self::Head => "HEAD",
            Self::Post => "POST",
            Self::Put => "PUT",
            Self::Delete => "DELETE",
            Self::Connect => "CONNECT",
            Self::Options => "OPTIONS",
            Self::Trace => "TRACE",
            Self::Patch => "PATCH",
        }
    }
}

impl RouteMatch {
    /// The path that is matched, with Gateway API's default of all.
    #[must_use]
    pub fn path(&self) -> PathMatch {
        self.path.clone().unwrap_or_default()
    }

    pub(crate) fn check(&self, out: &mut Findings) {
        if let Some(path) = &self.path {
            out.at("path", |out| path.check(out));
        }
        check_headers(&self.headers, out);
        out.unique("queryParams", &self.query_params, "name", |param| param.name.clone());
        out.each("queryParams", &self.query_params, |out, param| {
            if param.name.is_empty() {
                out.add_at("name", Code::InvalidValue, "must not be empty");
            }
            if param.match_type == ValueMatchType::RegularExpression {
                check_expression("value", &param.value, out);
            }
        });
    }
}

impl PathMatch {
    /// How specific it is, by Gateway API's order: by type, then by length.
    #[must_use]
    pub fn specificity(&self) -> Specificity {
        let characters = (Reverse(self.value.len()), Reverse(0));
        Specificity { match_type: self.match_type, characters }
    }

    pub(crate) fn check(&self, out: &mut Findings) {
        match self.match_type {
            PathMatchType::RegularExpression => check_expression("value", &self.value, out),
            PathMatchType::Exact | PathMatchType::PathPrefix => check_path("value", &self.value, out),
        }
    }
}

/// Notes headers that are matched twice, and expressions that do not compile.
pub(crate) fn check_headers(headers: &[HeaderMatch], out: &mut Findings) {
    out.unique("headers", headers, "name", |header| header.name.clone());
    out.each("headers", headers, |out, header| {
        if header.match_type == ValueMatchType::RegularExpression {
            check_expression("value", &header.value, out);
        }
    });
}

/// Notes a path that no normalised request path equals, so that it could never match.
pub(crate) fn check_path(field: &'static str, path: &str, out: &mut Findings) {
    let lower = path.to_ascii_lowercase();
    let wrong = if !path.starts_with('/') {
        Some("must begin with /")
    } else if path.contains("//") {
        Some("must not hold //: requests are compared after their paths are normalised")
    } else if path.split('/').any(|part| part == "." || part == "..") {
        Some("must not hold . or .. as an element: requests are compared after their paths are normalised")
    } else if lower.contains("%2f") {
        Some("must not hold an encoded /")
    } else if path.contains(['?', '#']) {
        Some("must not hold a query or fragment: use queryParams")
    } else if path.len() > 1024 {
        Some("is longer than 1024 characters")
    } else if path.bytes().any(|b| !b.is_ascii_graphic()) {
        Some("must hold printable ASCII only: encode other characters with %")
    } else {
        None
    };
    if let Some(wrong) = wrong {
        out.add_at(field, Code::InvalidValue, wrong).value(path);
    }
}

/// How large an expression may become when it is compiled, so that one policy cannot fill a proxy.
const EXPRESSION_BYTES: usize = 256 * 1024;

/// Notes an expression that does not compile or is too large.
pub(crate) fn check_expression(field: &'static str, expression: &str, out: &mut Findings) {
    let built = regex::RegexBuilder::new(expression).size_limit(EXPRESSION_BYTES).nest_limit(64).build();
    if let Err(error) = built {
        let text = error.to_string();
        let reason = text.lines().last().unwrap_or_default().trim_start_matches("error: ").to_owned();
        out.add_at(field, Code::InvalidValue, format!("is not a valid expression: {reason}"))
            .value(expression)
            .hint("expressions follow RE2: no look-around and no back references");
    }
}
