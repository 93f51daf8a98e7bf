//! Entries of Envoy's access log service as records.
//!
//! What a sidecar reports is its word: texts are cut, control characters and queries taken out. Whose report it is, the
//! certificate says.

use std::collections::BTreeSet;
use std::sync::Arc;

use envoy_types::pb::envoy::config::core::v3::address::Address as Kind;
use envoy_types::pb::envoy::config::core::v3::socket_address::PortSpecifier;
use envoy_types::pb::envoy::config::core::v3::{Address, RequestMethod};
use envoy_types::pb::envoy::data::accesslog::v3::http_access_log_entry::HttpVersion;
use envoy_types::pb::envoy::data::accesslog::v3::tls_properties::certificate_properties::subject_alt_name::San;
use envoy_types::pb::envoy::data::accesslog::v3::{
    AccessLogCommon, HttpAccessLogEntry, ResponseFlags, TcpAccessLogEntry,
};
use envoy_types::pb::envoy::service::accesslog::v3::stream_access_logs_message::LogEntries;
use envoy_types::pb::google::protobuf::{Duration, Timestamp};
use weft_api::cause::{Ending, Explanation, explain};
use weft_api::names::inbound_port;
use weft_api::rest::{Hop, RequestRecord};
use weft_api::{Destination, ServiceId, SpiffeId, TrustDomain, WorkloadId};
use weft_policies::PolicySet;

/// Bytes of a text that is kept.
const LONG: usize = 512;
/// Bytes of an id.
const SHORT: usize = 128;

/// Whose report it is, and of which of its sides.
#[derive(Debug, Clone)]
pub struct Reporter {
    /// As its certificate says.
    pub workload: WorkloadId,
    /// As its certificate says.
    pub service: ServiceId,
    /// By the name of the log.
    pub hop: Hop,
    /// Whose identities these are.
    pub trust_domain: TrustDomain,
    /// The services that there are.
    pub set: Arc<PolicySet>,
    /// How far its clock is off, in milliseconds.
    pub clock_offset: Option<i64>,
}

/// Reads as many entries of a report as `limit` says.
#[must_use]
pub fn read(reporter: &Reporter, entries: LogEntries, limit: usize) -> Vec<RequestRecord> {
    match entries {
        LogEntries::HttpLogs(logs) => {
            logs.log_entry.into_iter().take(limit).map(|entry| reporter.request(&entry)).collect()
        }
        LogEntries::TcpLogs(logs) => {
            logs.log_entry.into_iter().take(limit).map(|entry| reporter.connection(&entry)).collect()
        }
    }
}

/// How many entries there are.
#[must_use]
pub fn count(entries: &LogEntries) -> usize {
    match entries {
        LogEntries::HttpLogs(logs) => logs.log_entry.len(),
        LogEntries::TcpLogs(logs) => logs.log_entry.len(),
    }
}

impl Reporter {
    /// A request of it.
    pub fn request(&self, entry: &HttpAccessLogEntry) -> RequestRecord {
        let request = entry.request.clone().unwrap_or_default();
        let response = entry.response.clone().unwrap_or_default();
        let path = match request.original_path.as_str() {
            "" => request.path.as_str(),
            original => original,
        };
        let status = response.response_code.and_then(|code| u16::try_from(code.value).ok());
        let record = RequestRecord {
            id: clean(&request.request_id, SHORT).unwrap_or_else(new_id),
            method: method(request.request_method),
            authority: clean(&request.authority, LONG),
            path: clean(without_query(path), LONG),
            protocol: version(entry.protocol_version).to_owned(),
            status: status.filter(|status| *status != 0),
            details: clean(&response.response_code_details, LONG),
            ..RequestRecord::default()
        };
        self.explained(record, &entry.common_properties.clone().unwrap_or_default())
    }

    fn connection(&self, entry: &TcpAccessLogEntry) -> RequestRecord {
        let common = entry.common_properties.clone().unwrap_or_default();
        let details = clean(&common.connection_termination_details, LONG);
        // Where no chain of a listener is meant, that is all that is said of a connection.
        let no_chain = common.response_flags.as_ref().is_some_and(|flags| flags.no_route_found);
        let record = RequestRecord {
            id: new_id(),
            protocol: "TCP".to_owned(),
            details: details.or_else(|| no_chain.then(|| "filter_chain_not_found".to_owned())),
            ..RequestRecord::default()
        };
        self.explained(record, &common)
    }

    /// Adds what all entries have, and says why it ended so.
    fn explained(&self, record: RequestRecord, common: &AccessLogCommon) -> RequestRecord {
        let peer = peer(common);
        let caller = peer.as_deref().and_then(|peer| peer.parse::<SpiffeId>().ok()).and_then(service_of);
        let called = Destination::parse(&common.upstream_cluster);
        let by_host = || match self.hop {
            Hop::Outbound => self.by_host(record.authority.as_deref()?),
            Hop::Inbound => None,
        };
        let called_service = called.as_ref().map(|called| called.service.clone()).or_else(by_host);
        let (source, destination) = match self.hop {
            Hop::Outbound => (Some(self.service.clone()), called_service.clone()),
            Hop::Inbound => {
                // A workload may be a member of other services of its namespace too.
                let port = inbound_port(&common.upstream_cluster).map(|(service, _)| service);
                let own = port.filter(|service| service.namespace == self.workload.namespace);
                (caller, Some(own.unwrap_or_else(|| self.service.clone())))
            }
        };
        let expected = called_service.as_ref().map(|service| SpiffeId::service(&self.trust_domain, service));
        let record = RequestRecord {
            at: millis(common.start_time.as_ref()),
            hop: self.hop,
            workload: self.workload.to_string(),
            service: self.service.to_string(),
            source: source.map(|service| service.to_string()),
            destination: destination.map(|service| service.to_string()),
            flags: common.response_flags.as_ref().map(letters).unwrap_or_default(),
            route: clean(&common.route_name, LONG),
            upstream: common.upstream_remote_address.as_ref().and_then(address),
            duration_ms: milliseconds(common.duration.or(common.time_to_last_downstream_tx_byte).as_ref()),
            peer,
            ..record
        };
        let text = |text: &str| clean(text, LONG).unwrap_or_default();
        let upstream_failure = text(&common.upstream_transport_failure_reason);
        let downstream_failure = text(&common.downstream_transport_failure_reason);
        let from = common.downstream_direct_remote_address.as_ref().and_then(address);
        let expected = expected.map(|id| id.to_string());
        let ejecting = called.as_ref().and_then(|called| self.ejecting(called));
        let called = called.map(|called| format!("{} port {}", called.service, called.port));
        let called = called.or_else(|| called_service.map(|service| service.to_string()));
        let ending = Ending {
            hop: record.hop,
            workload: &record.workload,
            flags: &record.flags,
            details: record.details.as_deref().unwrap_or_default(),
            status: record.status,
            upstream: record.upstream.as_deref(),
            destination: called.as_deref(),
            authority: record.authority.as_deref(),
            peer: record.peer.as_deref().or(from.as_deref()),
            route: record.route.as_deref().unwrap_or_default(),
            upstream_failure: &upstream_failure,
            downstream_failure: &downstream_failure,
            expected: expected.as_deref(),
            ejecting: ejecting.as_deref(),
            clock_offset: self.clock_offset,
        };
        let Explanation { reason, remedy, policy } = explain(&ending);
        RequestRecord { reason, remedy, policy, ..record }
    }
}

impl Reporter {
    /// The policies by which members of a destination that fail are left alone.
    fn ejecting(&self, called: &Destination) -> Option<String> {
        let traffic = self.set.traffic_for(&called.service, &called.port, None);
        let policies: BTreeSet<String> = traffic.outlier_origins().map(ToString::to_string).collect();
        (!policies.is_empty()).then(|| policies.into_iter().collect::<Vec<_>>().join(", "))
    }

    /// The service that a host name means to the caller: an Envoy that found no endpoint does not say in which cluster.
    fn by_host(&self, authority: &str) -> Option<ServiceId> {
        let host = authority.split(':').next().unwrap_or_default();
        let parts: Vec<&str> = host.split('.').collect();
        let (name, namespace) = match parts[..] {
            [name] => (name, self.workload.namespace.as_str()),
            [name, namespace] | [name, namespace, "mesh"] => (name, namespace),
            _ => return None,
        };
        let service = ServiceId::try_new(namespace, name).ok()?;
        self.set.service(&service).map(|_| service)
    }
}

/// A connection has no id of its own that anybody would know.
fn new_id() -> String {
    format!("{:016x}", rand::random::<u64>())
}

/// A text without control characters, cut; none where it is empty.
fn clean(text: &str, most: usize) -> Option<String> {
    let mut end = text.len().min(most);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    let text = &text[..end];
    (!text.is_empty()).then(|| text.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect())
}

/// Queries carry secrets more often than they help.
fn without_query(path: &str) -> &str {
    path.split(['?', '#']).next().unwrap_or_default()
}

fn method(method: i32) -> Option<String> {
    let known =
        RequestMethod::try_from(method).ok().filter(|known| *known != RequestMethod::MethodUnspecified);
    known.map(|known| known.as_str_name().to_owned())
}

fn version(version: i32) -> &'static str {
    match HttpVersion::try_from(version) {
        Ok(HttpVersion::Http10) => "HTTP/1.0",
        Ok(HttpVersion::Http11 | HttpVersion::ProtocolUnspecified) | Err(_) => "HTTP/1.1",
        Ok(HttpVersion::Http2) => "HTTP/2",
        Ok(HttpVersion::Http3) => "HTTP/3",
    }
}

fn peer(common: &AccessLogCommon) -> Option<String> {
    let certificate = common.tls_properties.as_ref()?.peer_certificate_properties.as_ref()?;
    let uris = certificate.subject_alt_name.iter().filter_map(|name| match &name.san {
        Some(San::Uri(uri)) => Some(uri),
        Some(San::Dns(_)) | None => None,
    });
    clean(uris.into_iter().next()?, LONG)
}

fn service_of(id: SpiffeId) -> Option<ServiceId> {
    match id {
        SpiffeId::Service { service, .. } => Some(service),
        SpiffeId::ControlPlane { .. } => None,
    }
}

fn address(address: &Address) -> Option<String> {
    let Some(Kind::SocketAddress(socket)) = &address.address else { return None };
    let host = clean(&socket.address, SHORT)?;
    match socket.port_specifier {
        Some(PortSpecifier::PortValue(port)) if host.contains(':') => Some(format!("[{host}]:{port}")),
        Some(PortSpecifier::PortValue(port)) => Some(format!("{host}:{port}")),
        Some(PortSpecifier::NamedPort(_)) | None => Some(host),
    }
}

fn millis(time: Option<&Timestamp>) -> u64 {
    let Some(time) = time else { return 0 };
    let seconds = u64::try_from(time.seconds).unwrap_or_default();
    let millis = u64::try_from(time.nanos / 1_000_000).unwrap_or_default();
    seconds.saturating_mul(1000).saturating_add(millis)
}

fn milliseconds(duration: Option<&Duration>) -> f64 {
    let span = duration.and_then(|given| {
        Some(std::time::Duration::new(u64::try_from(given.seconds).ok()?, u32::try_from(given.nanos).ok()?))
    });
    span.unwrap_or_default().as_secs_f64() * 1000.0
}

/// The flags that are set, in the order in which Envoy writes their letters.
fn letters(flags: &ResponseFlags) -> Vec<String> {
    let known = [
        (flags.failed_local_healthcheck, "LH"),
        (flags.no_healthy_upstream, "UH"),
        (flags.upstream_request_timeout, "UT"),
        (flags.local_reset, "LR"),
        (flags.upstream_remote_reset, "UR"),
        (flags.upstream_connection_failure, "UF"),
        (flags.upstream_connection_termination, "UC"),
        (flags.upstream_overflow, "UO"),
        (flags.no_route_found, "NR"),
        (flags.delay_injected, "DI"),
        (flags.fault_injected, "FI"),
        (flags.rate_limited, "RL"),
        (flags.unauthorized_details.is_some(), "UAEX"),
        (flags.rate_limit_service_error, "RLSE"),
        (flags.downstream_connection_termination, "DC"),
        (flags.upstream_retry_limit_exceeded, "URX"),
        (flags.stream_idle_timeout, "SI"),
        (flags.invalid_envoy_request_headers, "IH"),
        (flags.downstream_protocol_error, "DPE"),
        (flags.upstream_max_stream_duration_reached, "UMSDR"),
        (flags.no_filter_config_found, "NFCF"),
        (flags.duration_timeout, "DT"),
        (flags.upstream_protocol_error, "UPE"),
        (flags.no_cluster_found, "NC"),
        (flags.overload_manager, "OM"),
        (flags.dns_resolution_failure, "DF"),
        (flags.downstream_remote_reset, "DR"),
    ];
    known.into_iter().filter(|(set, _)| *set).map(|(_, letters)| letters.to_owned()).collect()
}

#[cfg(test)]
mod tests;
