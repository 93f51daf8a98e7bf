//! A request as one sidecar saw it end, whether it failed or not.

use std::collections::{BTreeMap, HashMap};

use envoy_types::pb::envoy::data::accesslog::v3::HttpAccessLogEntry;
use serde::{Deserialize, Serialize};
use weft_api::rest::{RequestRecord, SHOWN_HEADERS};
use weft_api::text::cut;

use crate::requests::Reporter;

/// Bytes of a header's value that is shown.
const LONGEST_VALUE: usize = 256;

/// A request at one hop.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Seen {
    pub record: RequestRecord,
    /// How often it was sent, with retries.
    pub attempts: u32,
    /// `grpc-status`, where there is one.
    pub grpc_status: Option<u32>,
    pub request_headers: BTreeMap<String, String>,
    pub response_headers: BTreeMap<String, String>,
}

/// Reads an entry. Of headers only those are taken that may be shown, whatever a sidecar tells.
#[must_use]
pub fn read_tapped(reporter: &Reporter, entry: &HttpAccessLogEntry) -> Seen {
    let request = entry.request.as_ref();
    let response = entry.response.as_ref();
    let trailers = response.map(|response| &response.response_trailers);
    let mut response_headers = response.map(|response| shown(&response.response_headers)).unwrap_or_default();
    response_headers.extend(trailers.map(shown).unwrap_or_default());
    let mut seen = Seen {
        record: reporter.request(entry),
        attempts: entry.common_properties.as_ref().map_or(0, |common| common.upstream_request_attempt_count),
        grpc_status: response_headers.get("grpc-status").and_then(|status| status.parse().ok()),
        request_headers: request.map(|request| shown(&request.request_headers)).unwrap_or_default(),
        response_headers,
    };
    if !seen.has_failed() {
        (seen.record.reason, seen.record.remedy) = (String::new(), None);
    }
    seen
}

impl Seen {
    /// Failed or refused. A delay that was planted alone is no failure.
    #[must_use]
    pub fn has_failed(&self) -> bool {
        self.record.status.is_none_or(|status| status >= 500 || status == 401 || status == 403)
            || self.record.flags.iter().any(|flag| flag != "DI")
            || self.grpc_status.is_some_and(|status| status != 0)
    }
}

fn shown(headers: &HashMap<String, String>) -> BTreeMap<String, String> {
    let may_be = headers.iter().filter(|(name, _)| SHOWN_HEADERS.contains(&name.as_str()));
    may_be
        .map(|(name, value)| {
            let clean = cut(value, LONGEST_VALUE)
                .chars()
                .map(|c| if c.is_control() { '\u{fffd}' } else { c })
                .collect();
            (name.clone(), clean)
        })
        .collect()
}
