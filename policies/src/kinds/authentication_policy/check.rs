//! What makes an AuthenticationPolicy valid by itself.

use super::{AuthenticationPolicy, JwtProvider, TokenPlaces};
use crate::finding::{Code, Findings};
use crate::kinds::target::check_targets;
use crate::metadata::Metadata;

/// The most providers of a policy, and the most of what each lists.
const PROVIDERS_MAX: usize = 16;
const LISTED_MAX: usize = 16;
/// Bytes of an issuer, an audience, a claim.
const TEXT_MAX: usize = 512;

/// Headers that say how a request is framed, where it goes, or who sent it.
const NOT_WRITTEN: [&str; 9] = [
    "host",
    "connection",
    "content-length",
    "transfer-encoding",
    "te",
    "trailer",
    "upgrade",
    "x-forwarded-client-cert",
    "x-request-id",
];

pub(super) fn check(policy: &AuthenticationPolicy, metadata: &Metadata, out: &mut Findings) {
    check_targets::<AuthenticationPolicy>(&policy.target_refs, &metadata.namespace, out);
    if policy.mtls.is_some() {
        out.not_supported("mtls", "mtls of an AuthenticationPolicy")
            .hint("remove it: workloads prove who they are always");
    }
    let Some(jwt) = &policy.jwt else {
        if policy.mtls.is_none() {
            out.add_at("jwt", Code::Required, "a policy without it says nothing");
        }
        return;
    };
    out.at("jwt", |out| {
        if jwt.providers.is_empty() || jwt.providers.len() > PROVIDERS_MAX {
            let message = format!("between 1 and {PROVIDERS_MAX} are needed");
            out.add_at("providers", Code::InvalidValue, message);
        }
        out.each("providers", &jwt.providers, |out, provider| provider.check(out));
        out.unique("providers", &jwt.providers, "name", |provider| provider.name.clone());
    });
}

impl JwtProvider {
    fn check(&self, out: &mut Findings) {
        check_text("issuer", &self.issuer, out);
        check_list("audiences", &self.audiences, out);
        out.at("jwks", |out| self.jwks.check(out));
        if let Some(from) = &self.from {
            out.at("from", |out| from.check(out));
        }
        if self.claim_to_headers.len() > LISTED_MAX {
            let message = format!("has more than {LISTED_MAX} entries");
            out.add_at("claimToHeaders", Code::InvalidValue, message);
        }
        out.each("claimToHeaders", &self.claim_to_headers, |out, claim| {
            check_text("claim", &claim.claim, out);
            if claim.claim.split('.').any(str::is_empty) {
                out.add_at(
                    "claim",
                    Code::InvalidValue,
                    "a dot leads into an object: write NAME or NAME.NAME",
                )
                .value(&claim.claim);
            }
            let header = claim.header.as_str();
            if NOT_WRITTEN.contains(&header) || header.starts_with("x-envoy-") {
                out.add_at("header", Code::InvalidValue, "is a header that proxies write themselves")
                    .value(header)
                    .hint("write one of the application's own, such as x-user");
            }
        });
        out.unique("claimToHeaders", &self.claim_to_headers, "header", |claim| claim.header.clone());
    }
}

impl TokenPlaces {
    fn check(&self, out: &mut Findings) {
        if *self == Self::default() {
            out.add(Code::Required, "names no place").hint("leave from out for Authorization: Bearer");
        }
        if self.headers.len() > LISTED_MAX {
            out.add_at("headers", Code::InvalidValue, format!("has more than {LISTED_MAX} entries"));
        }
        out.each("headers", &self.headers, |out, header| {
            let is_text = |text: &str| text.bytes().all(|byte| (b' '..=b'~').contains(&byte));
            if header.prefix.len() > TEXT_MAX || !is_text(&header.prefix) {
                out.add_at("prefix", Code::InvalidValue, "is nothing that a header's value begins with");
            }
        });
        check_list("params", &self.params, out);
        check_list("cookies", &self.cookies, out);
    }
}

fn check_list(field: &'static str, list: &[String], out: &mut Findings) {
    if list.len() > LISTED_MAX {
        out.add_at(field, Code::InvalidValue, format!("has more than {LISTED_MAX} entries"));
    }
    out.at(field, |out| {
        for (index, text) in list.iter().enumerate() {
            check_text(index, text, out);
        }
    });
}

fn check_text(step: impl Into<crate::finding::Step>, text: &str, out: &mut Findings) {
    if text.is_empty() || text.len() > TEXT_MAX {
        out.add_at(step, Code::InvalidValue, format!("has between 1 and {TEXT_MAX} bytes"));
    }
}
