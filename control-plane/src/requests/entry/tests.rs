use envoy_types::pb::envoy::config::core::v3::SocketAddress;
use envoy_types::pb::envoy::data::accesslog::v3::tls_properties::CertificateProperties;
use envoy_types::pb::envoy::data::accesslog::v3::tls_properties::certificate_properties::SubjectAltName;
use envoy_types::pb::envoy::data::accesslog::v3::{
    HttpRequestProperties, HttpResponseProperties, TlsProperties,
};
use envoy_types::pb::envoy::service::accesslog::v3::stream_access_logs_message::{
    HttpAccessLogEntries, TcpAccessLogEntries,
};
use envoy_types::pb::google::protobuf::UInt32Value;

use super::*;

fn reporter(hop: Hop) -> Reporter {
    Reporter {
        workload: "shop/cart-1".parse().unwrap(),
        service: "shop/cart".parse().unwrap(),
        hop,
        trust_domain: TrustDomain::try_new("mesh.local").unwrap(),
        set: Arc::default(),
        clock_offset: None,
    }
}

fn from(uri: &str) -> AccessLogCommon {
    let name = SubjectAltName { san: Some(San::Uri(uri.to_owned())) };
    let peer = CertificateProperties { subject_alt_name: vec![name], ..Default::default() };
    let tls = TlsProperties { peer_certificate_properties: Some(peer), ..Default::default() };
    AccessLogCommon { tls_properties: Some(tls), ..Default::default() }
}

fn request(common: AccessLogCommon, path: &str, details: &str, status: u32) -> LogEntries {
    let entry = HttpAccessLogEntry {
        common_properties: Some(common),
        request: Some(HttpRequestProperties {
            request_method: RequestMethod::Get.into(),
            path: path.to_owned(),
            request_id: "id-1".to_owned(),
            authority: "cart".to_owned(),
            ..Default::default()
        }),
        response: Some(HttpResponseProperties {
            response_code: Some(UInt32Value { value: status }),
            response_code_details: details.to_owned(),
            ..Default::default()
        }),
        ..Default::default()
    };
    LogEntries::HttpLogs(HttpAccessLogEntries { log_entry: vec![entry; 3] })
}

#[test]
fn a_refused_request_is_told_with_caller_rule_and_path_without_its_query() {
    let common = AccessLogCommon {
        upstream_cluster: "inbound/shop/cart/http".to_owned(),
        ..from("spiffe://mesh.local/ns/shop/svc/web")
    };
    let details = "rbac_access_denied_matched_policy[shop/no-admin/paths]";
    let read = read(&reporter(Hop::Inbound), request(common, "/admin?token=secret", details, 403), 2);
    assert_eq!(read.len(), 2);
    let record = &read[0];
    assert_eq!(
        (record.id.as_str(), record.path.as_deref(), record.status),
        ("id-1", Some("/admin"), Some(403))
    );
    assert_eq!(
        (record.source.as_deref(), record.destination.as_deref()),
        (Some("shop/web"), Some("shop/cart"))
    );
    assert_eq!(record.policy.as_deref(), Some("shop/no-admin/paths"));
    assert!(record.reason.contains("spiffe://mesh.local/ns/shop/svc/web"), "{record:?}");
}

#[test]
fn a_workload_speaks_for_itself_only() {
    let common =
        AccessLogCommon { upstream_cluster: "inbound/bank/vault/http".to_owned(), ..Default::default() };
    let read = read(&reporter(Hop::Inbound), request(common, "/", "", 503), 1);
    assert_eq!(
        (read[0].workload.as_str(), read[0].destination.as_deref()),
        ("shop/cart-1", Some("shop/cart"))
    );
}

#[test]
fn a_call_that_found_nobody_names_the_service_and_the_address() {
    let socket = SocketAddress {
        address: "10.0.0.7".to_owned(),
        port_specifier: Some(PortSpecifier::PortValue(15006)),
        ..Default::default()
    };
    let common = AccessLogCommon {
        upstream_cluster: "shop/db/tcp".to_owned(),
        upstream_remote_address: Some(Address { address: Some(Kind::SocketAddress(socket)) }),
        upstream_transport_failure_reason: "TLS_error:|verify cert failed: verify SAN list".to_owned(),
        response_flags: Some(ResponseFlags { upstream_connection_failure: true, ..Default::default() }),
        ..Default::default()
    };
    let entry = TcpAccessLogEntry { common_properties: Some(common), ..Default::default() };
    let logs = LogEntries::TcpLogs(TcpAccessLogEntries { log_entry: vec![entry] });
    assert_eq!(count(&logs), 1);
    let record = read(&reporter(Hop::Outbound), logs, 10).remove(0);
    assert_eq!((record.protocol.as_str(), &record.flags[..]), ("TCP", &["UF".to_owned()][..]));
    assert_eq!(
        record.reason,
        "shop/cart-1: no connection to shop/db port tcp at 10.0.0.7:15006 (the other side has the wrong identity: \
         expected spiffe://mesh.local/ns/shop/svc/db)"
    );
}

#[test]
fn texts_are_cut_between_characters_and_cannot_steer_a_terminal() {
    let common = from(&"\u{fc}".repeat(10_000));
    let record = read(&reporter(Hop::Inbound), request(common, "/\u{1b}[2J", "", 500), 1).remove(0);
    assert_eq!(record.path.as_deref(), Some("/\u{fffd}[2J"));
    assert_eq!(record.peer.map(|peer| peer.len()), Some(LONG));
}
