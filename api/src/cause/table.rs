//! The reasons, the one that says most first: an ending may have several flags.

use super::Cause;
use crate::rest::Hop::{self, Inbound, Outbound};

const fn cause(hop: Option<Hop>, flag: &'static str, reason: &'static str, remedy: &'static str) -> Cause {
    Cause { hop, flag, details: "", needs_failure: false, reason, remedy }
}

const fn failed_with(hop: Hop, flag: &'static str, reason: &'static str, remedy: &'static str) -> Cause {
    Cause { needs_failure: true, ..cause(Some(hop), flag, reason, remedy) }
}

const fn known_by(details: &'static str, reason: &'static str, remedy: &'static str) -> Cause {
    Cause { details, ..cause(None, "", reason, remedy) }
}

/// All of them, in the order in which they are tried.
pub const CAUSES: [Cause; 36] = [
    cause(
        Some(Inbound),
        "UF",
        "{workload}: the application does not answer on {upstream} ({failure})",
        "is it running, and does --app-port name the port that it listens on?",
    ),
    cause(
        Some(Outbound),
        "UF",
        "{workload}: no connection to {destination} at {upstream} ({failure})",
        "weft proxy list shows whether that workload is there and what is wrong with it",
    ),
    cause(
        None,
        "UH",
        "{workload}: no healthy endpoint of {destination}",
        "weft proxy list shows its members and their health",
    ),
    cause(
        None,
        "UO",
        "{workload}: too many requests to {destination} at once: a circuit breaker is open",
        "weft get trafficpolicies shows its limits",
    ),
    cause(
        Some(Inbound),
        "UPE",
        "{workload}: what the application on {upstream} answers is not of the protocol that its Service declares",
        "correct protocol of the Service's port: HTTP, HTTP2 or GRPC",
    ),
    cause(
        Some(Outbound),
        "UPE",
        "{workload}: what {destination} at {upstream} answers is not of the protocol that its Service declares",
        "correct protocol of the Service's port: HTTP, HTTP2 or GRPC",
    ),
    cause(
        Some(Inbound),
        "UC",
        "{workload}: the application on {upstream} closed the connection before it had answered",
        "does it crash or restart, or speak another protocol than its Service declares?",
    ),
    failed_with(
        Outbound,
        "UC",
        "{workload}: {destination} at {upstream} broke the connection off before it had answered ({failure})",
        "weft proxy list shows whether the certificates and clocks of both are well",
    ),
    cause(
        Some(Outbound),
        "UC",
        "{workload}: {destination} at {upstream} closed the connection before it had answered",
        "weft proxy list shows whether it restarted, and whether the certificates of both have time left",
    ),
    cause(
        Some(Inbound),
        "UR",
        "{workload}: the application on {upstream} broke the request off",
        "look into the application's log; does it speak the protocol that its Service declares?",
    ),
    cause(
        Some(Outbound),
        "UR",
        "{workload}: {destination} at {upstream} broke the request off",
        "look at the next hop, and into the application's log",
    ),
    cause(
        Some(Inbound),
        "UT",
        "{workload}: the application on {upstream} did not answer in time",
        "look into the application's log",
    ),
    cause(
        Some(Outbound),
        "UT",
        "{workload}: {destination} did not answer within the time that its TrafficPolicy or route gives",
        "weft get trafficpolicies, or look at what takes it so long",
    ),
    cause(
        None,
        "UMSDR",
        "{workload}: {destination} did not end its answer within the longest time for one",
        "weft get trafficpolicies",
    ),
    known_by(
        "filter_chain_not_found",
        "{workload}: no port of it is meant by the server name, or the client sent plain text where mutual TLS is needed",
        "call it through a sidecar, by the name of a Service that it is a member of",
    ),
    cause(
        None,
        "NR",
        "{workload}: no route leads from {authority} with this method, path and headers",
        "weft get httproutes; a Service with routes answers only what one of their rules matches",
    ),
    cause(
        None,
        "NC",
        "{workload}: the route of {authority} leads to a service or a part of one that does not exist",
        "weft get httproutes shows where it leads",
    ),
    cause(
        None,
        "DF",
        "{workload}: no service of the mesh has the host name {authority}, and it has no address that is forwarded to",
        "is the name right? weft get services shows those of the mesh",
    ),
    cause(
        None,
        "RL",
        "{workload}: more requests than the rate limit allows",
        "call less often, or raise the limit",
    ),
    cause(None, "FI", "{workload}: a planted fault answers in place of the service", "take the fault out"),
    cause(
        None,
        "UAEX",
        "{workload}: the caller's token or connection was not let in",
        "weft get authorizationpolicies",
    ),
    cause(
        None,
        "OM",
        "{workload}: the sidecar is out of memory or of files",
        "give it more, or start more of them",
    ),
    known_by(
        "headers_too_large",
        "{workload}: the head of the request is too large, and is refused",
        "send smaller headers, often cookies or tokens: 60 KiB are taken, 100 of them",
    ),
    known_by(
        "too_many_headers",
        "{workload}: the request has too many headers, and is refused",
        "send smaller headers, often cookies or tokens: 60 KiB are taken, 100 of them",
    ),
    known_by(
        "missing_host_header",
        "{workload}: the request names no host, and is refused",
        "send a Host header with the name of the service",
    ),
    known_by(
        "invalid_url",
        "{workload}: the target of the request is no URL, and is refused",
        "call it by a plain path",
    ),
    cause(
        None,
        "DPE",
        "{workload}: what the caller sent is not HTTP as it should be",
        "does it speak the protocol of that port?",
    ),
    cause(None, "SI", "{workload}: neither side has sent anything for too long", "weft get trafficpolicies"),
    cause(None, "DT", "{workload}: the connection has reached its longest time", ""),
    known_by(
        "request_header_timeout",
        "{workload}: the caller did not send the head of its request in time",
        "look at the caller",
    ),
    known_by(
        "request_overall_timeout",
        "{workload}: the caller did not send its request in time",
        "look at the caller",
    ),
    known_by(
        "path_normalization_failed",
        "{workload}: the path has an escaped slash or cannot be normalised, and is refused since servers read it in more ways than one",
        "call it by a plain path",
    ),
    cause(None, "IH", "{workload}: a header of the request that begins with x-envoy- cannot be read", ""),
    cause(
        None,
        "LR",
        "{workload}: the sidecar broke the connection to {destination} off",
        "weft proxy status {workload}",
    ),
    cause(
        None,
        "DC",
        "{workload}: the caller went away before the answer was complete",
        "did it reach a time limit of its own?",
    ),
    cause(
        None,
        "DR",
        "{workload}: the caller broke the request off",
        "did it reach a time limit of its own?",
    ),
];
