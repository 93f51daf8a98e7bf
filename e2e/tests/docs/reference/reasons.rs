//! Reasons of failures, from the table that sidecars and control plane tell them by.

use weft_api::cause::CAUSES;
use weft_api::rest::Hop;

use super::{keep, table};

const HEAD: &str = "# Reasons of failures

What a sidecar answers in place of a service, and what `weft explain` says of a request that failed, comes from one table. The
flag is Envoy's response flag, which stands in access logs too. A word in braces is filled in: `{workload}` is beside whom
the sidecar stands.

";

const FOOT: &str = "
A refusal by a policy (403) names the policy and its rule, or that no policy allows the call; see
[Authorization](../tasks/authorization.md).
";

#[test]
fn reasons_are_those_that_are_told() {
    let rows = CAUSES.iter().map(|cause| {
        let known = if cause.flag.is_empty() { cause.details } else { cause.flag };
        let side = match cause.hop {
            Some(Hop::Inbound) => "callee's",
            Some(Hop::Outbound) => "caller's",
            None => "either",
        };
        [format!("`{known}`"), side.to_owned(), cause.reason.to_owned(), cause.remedy.to_owned()]
    });
    let text = HEAD.to_owned() + &table(["flag", "sidecar", "reason", "what to look at"], rows) + FOOT;
    keep("docs/reference/reasons.md", &text);
}
