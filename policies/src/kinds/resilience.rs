//! Timeouts and retries, as routes and traffic policies write them.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::finding::{Code, Findings};
use crate::value::{StatusRange, Timespan};

/// Limits on the time that a request may take. `0s` is no limit.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Timeouts {
    /// The whole request, all tries included, until the answer has ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request: Option<Timespan>,
    /// One try, until its answer has ended; at most `request`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub backend_request: Option<Timespan>,
}

impl Timeouts {
    pub(crate) fn check(&self, out: &mut Findings) {
        check_timeouts(self.request, self.backend_request, out);
    }
}

/// Notes a try that may last longer than all tries together.
pub(crate) fn check_timeouts(request: Option<Timespan>, one: Option<Timespan>, out: &mut Findings) {
    if let (Some(request), Some(one)) = (request, one)
        && !request.is_zero()
        && one > request
    {
        out.add_at(
            "backendRequest",
            Code::Inconsistent,
            format!("must not exceed request, which is {request}"),
        )
        .value(one);
    }
}

/// What is tried again on a route, and how often.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RouteRetry {
    /// How many tries follow the first; 0 switches retries off.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 100))]
    pub attempts: Option<u32>,
    /// Statuses that are tried again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub codes: Option<Vec<StatusRange>>,
    /// The least time between two tries; it grows with each.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub backoff: Option<Timespan>,
}

impl RouteRetry {
    pub(crate) fn check(&self, out: &mut Findings) {
        check_retry(self.codes.as_deref(), self.backoff, out);
    }
}

/// The most statuses that a list of `codes` may stand for: each is one entry in the proxy.
const CODES_MAX: usize = 200;

/// Notes empty lists and back-offs of no time.
pub(crate) fn check_retry(codes: Option<&[StatusRange]>, backoff: Option<Timespan>, out: &mut Findings) {
    if let Some(codes) = codes {
        if codes.is_empty() {
            out.add_at("codes", Code::Inconsistent, "an empty list retries no status")
                .hint("leave codes out");
        }
        let count: usize = codes.iter().map(|range| usize::from(range.last - range.first) + 1).sum();
        if count > CODES_MAX {
            out.add_at(
                "codes",
                Code::InvalidValue,
                format!("stand for {count} statuses, {CODES_MAX} at most"),
            );
        }
        for (index, range) in codes.iter().enumerate() {
            if range.first < 400 {
                let message = "retries are for statuses from 400 to 599";
                out.at("codes", |out| {
                    out.add_at(index, Code::InvalidValue, message).value(range);
                });
            }
        }
    }
    if backoff.is_some_and(Timespan::is_zero) {
        out.add_at("backoff", Code::InvalidValue, "must be longer than zero").value("0s");
    }
}
