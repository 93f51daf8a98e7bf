//! Requests and connections that failed or were refused, as the sidecars on their way reported them.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Which sidecar saw a request.
#[derive(
    Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default, Serialize, Deserialize, JsonSchema,
)]
pub enum Hop {
    /// The caller's own sidecar.
    #[default]
    Outbound,
    /// That of the workload that was called.
    Inbound,
}

/// A request, or a connection, as one sidecar saw it end.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RequestRecord {
    /// `x-request-id`, the same at each hop. A connection has none, and is given one of its own.
    pub id: String,
    /// When it began, in milliseconds since 1970, by the clock of the sidecar's machine.
    pub at: u64,
    /// Which sidecar saw it.
    pub hop: Hop,
    /// The workload beside that sidecar, by its certificate: `NAMESPACE/WORKLOAD`.
    pub workload: String,
    /// Its service, by the same certificate: `NAMESPACE/SERVICE`.
    pub service: String,
    /// The calling service, `NAMESPACE/SERVICE`, where it is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<String>,
    /// The called service, `NAMESPACE/SERVICE`, where a route led to one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub destination: Option<String>,
    /// The request's method; absent of a connection that is not HTTP, or that failed before a head was read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub method: Option<String>,
    /// The host that was called.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub authority: Option<String>,
    /// The path, without the query.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
    /// `HTTP/1.0`, `HTTP/1.1`, `HTTP/2` or `TCP`.
    pub protocol: String,
    /// The status of the answer; none where there was no answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<u16>,
    /// Envoy's response flags, by their letters: `UF`, `UH`, `NR`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub flags: Vec<String>,
    /// Envoy's response code details; of a connection, why it was ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub details: Option<String>,
    /// What happened, in one sentence.
    pub reason: String,
    /// What to look at, or to change.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub remedy: Option<String>,
    /// The rule that refused it, `NAMESPACE/POLICY/RULE`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub policy: Option<String>,
    /// The route that it matched.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub route: Option<String>,
    /// Where it was sent, `ADDRESS:PORT`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub upstream: Option<String>,
    /// The caller's identity, by its certificate.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub peer: Option<String>,
    /// From its beginning to its end, in milliseconds.
    pub duration_ms: f64,
}

/// The answer of `GET /v1/requests`, the newest first.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RequestList {
    /// Of one request its hops in their order, from the caller on; of several the newest first.
    pub items: Vec<RequestRecord>,
    /// How many records of the last ten minutes were not kept, of all requests.
    pub dropped: u64,
    /// Control planes that did not answer in time: what their proxies told is missing.
    #[serde(default)]
    pub unheard: usize,
}

/// The hops of one request, from the caller on: each call as the caller's sidecar saw it, and after it as the called ones
/// did. Machines have clocks of their own: what belongs together is known by who called whom, and only calls are ordered by
/// time.
#[must_use]
pub fn in_order(mut records: Vec<RequestRecord>) -> Vec<RequestRecord> {
    records.sort_by_key(|record| (record.hop, record.at));
    let (calls, mut answers): (Vec<_>, Vec<_>) =
        records.into_iter().partition(|record| record.hop == Hop::Outbound);
    let mut ordered = Vec::with_capacity(calls.len() + answers.len());
    for call in calls {
        let (its, others): (Vec<_>, Vec<_>) = answers.into_iter().partition(|answer| {
            answer.source == call.source
                && (call.destination.is_none() || answer.destination == call.destination)
        });
        answers = others;
        ordered.push(call);
        ordered.extend(its);
    }
    ordered.extend(answers);
    ordered
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(hop: Hop, at: u64, source: &str, destination: &str) -> RequestRecord {
        let (source, destination) = (Some(source.to_owned()), Some(destination.to_owned()));
        RequestRecord { hop, at, source, destination, ..RequestRecord::default() }
    }

    #[test]
    fn each_call_is_followed_by_what_the_called_side_saw_whatever_its_clock_says() {
        let ordered = in_order(vec![
            record(Hop::Inbound, 5, "cart", "db"),
            record(Hop::Inbound, 900, "web", "cart"),
            record(Hop::Outbound, 20, "cart", "db"),
            record(Hop::Outbound, 10, "web", "cart"),
        ]);
        let calls: Vec<_> = ordered.iter().map(|one| (one.hop, one.destination.as_deref())).collect();
        assert_eq!(
            calls,
            [
                (Hop::Outbound, Some("cart")),
                (Hop::Inbound, Some("cart")),
                (Hop::Outbound, Some("db")),
                (Hop::Inbound, Some("db")),
            ]
        );
    }
}
