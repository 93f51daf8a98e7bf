//! What makes an AuthorizationPolicy valid by itself.

use serde_json::{Map, Value};

use super::{Action, AuthorizationPolicy, Operation, Source};
use crate::finding::{Code, Findings};
use crate::kinds::route::check_rule_names;
use crate::kinds::target::check_targets;
use crate::metadata::Metadata;

/// The most rules of a policy.
const RULES_MAX: usize = 256;
/// The most paths of a policy together: each expression costs a compilation.
const PATHS_MAX: usize = 512;
/// How deep claims may stand in objects.
const CLAIMS_DEPTH: usize = 8;

pub(super) fn check(policy: &AuthorizationPolicy, metadata: &Metadata, out: &mut Findings) {
    check_targets::<AuthorizationPolicy>(&policy.target_refs, &metadata.namespace, out);
    let paths: usize = policy.rules.iter().flat_map(|rule| &rule.to).map(|to| to.paths.len()).sum();
    if policy.rules.len() > RULES_MAX || paths > PATHS_MAX {
        let message = format!("a policy has at most {RULES_MAX} rules and {PATHS_MAX} paths");
        out.add_at("rules", Code::InvalidValue, message).hint("split it into several policies");
        return;
    }
    check_rule_names(policy.rules.iter().map(|rule| rule.name.as_ref()), out);
    out.each("rules", &policy.rules, |out, rule| {
        out.each("from", &rule.from, |out, source| source.check(out));
        out.each("to", &rule.to, |out, operation| operation.check(out));
        out.each("when", &rule.when, |out, condition| {
            if condition.values.is_empty() {
                out.add_at("values", Code::Required, "at least one value is needed");
            }
        });
    });
    if policy.rules.is_empty() && policy.action == Action::Deny {
        out.add_at("rules", Code::Required, "a Deny without rules denies nothing")
            .hint("write rules: [{}] to deny everything");
    }
}

impl Source {
    fn check(&self, out: &mut Findings) {
        out.each("claims", &self.claims, |out, claims| {
            if claims.is_empty() {
                out.add(Code::Required, "an entry of claims names at least one claim");
            }
            check_claims(claims, CLAIMS_DEPTH, out);
        });
        if *self == Self::default() {
            out.add(Code::Required, "an entry of from names at least one caller")
                .hint("leave from out to match every caller");
        }
    }
}

/// Notes claims that nothing can be compared with.
fn check_claims(claims: &Map<String, Value>, depth: usize, out: &mut Findings) {
    const HINT: &str = "write a string, a number, true or false, a list of these, or an object of claims";
    for (name, wanted) in claims {
        match wanted {
            _ if name.is_empty() => {
                out.add_at(name.clone(), Code::InvalidValue, "is the name of no claim");
            }
            Value::Object(inner) if inner.is_empty() || depth == 0 => {
                let message = format!("has no claim within, or is deeper than {CLAIMS_DEPTH}");
                out.add_at(name.clone(), Code::InvalidValue, message).hint(HINT);
            }
            Value::Object(inner) => out.at(name.clone(), |out| check_claims(inner, depth - 1, out)),
            Value::Array(values) if values.is_empty() || !values.iter().all(is_scalar) => {
                out.add_at(name.clone(), Code::InvalidValue, "is no list of one value and more").hint(HINT);
            }
            Value::Array(_) | Value::String(_) | Value::Bool(_) | Value::Number(_) => {}
            Value::Null => {
                out.add_at(name.clone(), Code::InvalidValue, "has no value").hint(HINT);
            }
        }
    }
}

fn is_scalar(value: &Value) -> bool {
    value.is_string() || value.is_boolean() || value.is_number()
}

impl Operation {
    fn check(&self, out: &mut Findings) {
        out.each("paths", &self.paths, |out, path| path.check(out));
        for (index, method) in self.grpc_methods.iter().enumerate() {
            let part = |text: &str| {
                !text.is_empty() && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'.')
            };
            let fits = method
                .split_once('/')
                .is_some_and(|(service, name)| part(service) && (name == "*" || part(name)));
            if !fits {
                out.at("grpcMethods", |out| {
                    out.add_at(
                        index,
                        Code::InvalidValue,
                        "write package.Service/Method or package.Service/*",
                    )
                    .value(method);
                });
            }
        }
        if *self == Self::default() {
            out.add(Code::Required, "an entry of to names at least one operation")
                .hint("leave to out to match every operation");
        }
    }
}
