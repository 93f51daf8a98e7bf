//! What makes a GRPCRoute valid by itself.

use super::{GrpcMatch, GrpcRoute, GrpcRule, MethodMatch, effect};
use crate::finding::{Code, Findings};
use crate::kinds::http_rule::check_forwarding;
use crate::kinds::route::check_request_route;
use crate::kinds::route_match::{ValueMatchType, check_expression, check_headers};
use crate::metadata::Metadata;

/// The longest name of a service or method, as in Gateway API.
const NAME_MAX: usize = 1024;

pub(super) fn check(route: &GrpcRoute, metadata: &Metadata, out: &mut Findings) {
    let rules = route.rules.iter().map(|rule| (rule.name.as_ref(), rule.matches.len()));
    let whole =
        check_request_route(&route.parent_refs, &route.clients, &route.hostnames, rules, metadata, out);
    if whole.is_continue() {
        out.each("rules", &route.rules, |out, rule| rule.check(out));
    }
}

impl GrpcRule {
    fn check(&self, out: &mut Findings) {
        out.each("matches", &self.matches, |out, one| one.check(out));
        out.each("filters", &self.filters, |out, filter| effect::filter(filter).check(false, out));
        out.unique("filters", &self.filters, "type", |filter| format!("{:?}", filter.filter_type));
        let Self { backend_refs, timeouts, retry, session_persistence, .. } = self;
        check_forwarding(backend_refs, timeouts.as_ref(), retry.as_ref(), session_persistence.as_ref(), out);
    }
}

impl GrpcMatch {
    fn check(&self, out: &mut Findings) {
        if let Some(method) = &self.method {
            out.at("method", |out| method.check(out));
        }
        check_headers(&self.headers, out);
    }
}

impl MethodMatch {
    fn check(&self, out: &mut Findings) {
        if self.service.is_none() && self.method.is_none() {
            out.add(Code::Required, "a method match names a service, a method or both")
                .hint("leave method out to match every call");
        }
        let service = self.service.as_ref().map(|text| ("service", text, "package.Service"));
        let method = self.method.as_ref().map(|text| ("method", text, "Method"));
        for (field, text, form) in service.into_iter().chain(method) {
            if text.len() > NAME_MAX {
                out.add_at(field, Code::InvalidValue, format!("is longer than {NAME_MAX} characters"))
                    .value(text);
                continue;
            }
            match self.match_type {
                ValueMatchType::RegularExpression => check_expression(field, text, out),
                // A service may begin with a dot, as a full name of protobuf does; a method is one word.
                ValueMatchType::Exact if !is_name(text, field == "service") => {
                    out.add_at(
                        field,
                        Code::InvalidValue,
                        format!("is not the name of a {field}: write {form}"),
                    )
                    .value(text);
                }
                ValueMatchType::Exact => {}
            }
        }
    }
}

/// Whether a text is one word of protobuf, or with `is_dotted` several with dots between them.
fn is_name(text: &str, is_dotted: bool) -> bool {
    let is_word = |word: &str| {
        !word.starts_with(|c: char| c.is_ascii_digit())
            && !word.is_empty()
            && word.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
    };
    if is_dotted { text.strip_prefix('.').unwrap_or(text).split('.').all(is_word) } else { is_word(text) }
}
