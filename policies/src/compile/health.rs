//! Health checks that a sidecar runs on its own application and reports by HDS.

use std::time::Duration;

use data_encoding::HEXLOWER;
use envoy_types::pb::envoy::config::core::v3::{
    HeaderValue, HeaderValueOption, HealthCheck, RequestMethod, health_check,
};
use envoy_types::pb::envoy::config::endpoint::v3::Endpoint;
use envoy_types::pb::envoy::service::health::v3::{
    ClusterHealthCheck, HealthCheckSpecifier, LocalityEndpoints,
};
use envoy_types::pb::envoy::r#type::v3::{CodecClientType, Int64Range};
use weft_api::names::{ServiceId, WorkloadId, inbound_cluster_name};

use super::inbound::application_ip;
use super::model::{Model, ProxyType};
use super::wire;
use crate::kinds::service::{self, HttpProbe, Port, Probe, Protocol};

/// How often a sidecar tells what it found.
const REPORT_INTERVAL: Duration = Duration::from_secs(1);

/// What the sidecar of this workload checks: each port of its services that `healthCheck` speaks of, or by a connection to
/// each where there is none, named by [`inbound_cluster_name`]. None when nothing is to be checked.
#[must_use]
pub fn health_checks(workload: &WorkloadId, model: &Model<'_>) -> Option<HealthCheckSpecifier> {
    let state = model.workloads.get(workload).filter(|state| state.has_sidecar())?;
    let mut checks = Vec::new();
    for (service, spec) in model.services_of(state) {
        let check = spec.health_check();
        let Some(probe) = check.probe() else { continue };
        for port in spec.ports.iter().filter(|port| probe.fits(port.protocol)) {
            let target = wire::address(application_ip(state), state.app_port(port));
            let Some(checker) = checker(state.proxy, port.protocol, probe) else { continue };
            let application = Endpoint { address: Some(target), ..Default::default() };
            checks.push(cluster_check(&service, port, &check, checker, application));
        }
    }
    let interval = Some(wire::duration(REPORT_INTERVAL));
    (!checks.is_empty()).then_some(HealthCheckSpecifier { cluster_health_checks: checks, interval })
}

fn cluster_check(
    service: &ServiceId,
    port: &Port,
    check: &service::HealthCheck,
    checker: health_check::HealthChecker,
    application: Endpoint,
) -> ClusterHealthCheck {
    ClusterHealthCheck {
        cluster_name: inbound_cluster_name(service, port.name.as_str()),
        health_checks: vec![HealthCheck {
            timeout: Some(wire::duration(check.timeout.get())),
            interval: Some(wire::duration(check.interval.get())),
            // Envoy waits a minute between checks of a cluster that has had no traffic; these have none ever.
            no_traffic_interval: Some(wire::duration(check.interval.get())),
            healthy_threshold: Some(wire::uint32(check.healthy_threshold)),
            unhealthy_threshold: Some(wire::uint32(check.unhealthy_threshold)),
            health_checker: Some(checker),
            ..Default::default()
        }],
        locality_endpoints: vec![LocalityEndpoints { locality: None, endpoints: vec![application] }],
        ..Default::default()
    }
}

fn checker(proxy: ProxyType, protocol: Protocol, probe: Probe<'_>) -> Option<health_check::HealthChecker> {
    Some(match (probe, proxy) {
        (Probe::Http(http), _) => health_check::HealthChecker::HttpHealthCheck(http_check(protocol, http)),
        (Probe::Grpc(grpc), ProxyType::Envoy) => {
            health_check::HealthChecker::HttpHealthCheck(grpc_over_http(&grpc.service))
        }
        (Probe::Grpc(grpc), ProxyType::Weft | ProxyType::Grpc | ProxyType::None) => {
            health_check::HealthChecker::GrpcHealthCheck(health_check::GrpcHealthCheck {
                service_name: grpc.service.clone(),
                ..Default::default()
            })
        }
        (Probe::Tcp, _) => {
            health_check::HealthChecker::TcpHealthCheck(health_check::TcpHealthCheck::default())
        }
        (Probe::None, _) => return None,
    })
}

/// gRPC's health protocol as stock Envoy can speak it by HDS, whose clusters are never HTTP/2 and so refuse Envoy's
/// own gRPC check: the request by hand, and an answer that holds `status: SERVING`.
fn grpc_over_http(service: &str) -> health_check::HttpHealthCheck {
    let mut message = Vec::new();
    if !service.is_empty() {
        wire::append_string(&mut message, 1, service);
    }
    let length = u32::try_from(message.len()).expect("a name is short");
    let frame = [&[0][..], &length.to_be_bytes(), &message].concat();
    let header = |key: &str, value: &str| HeaderValueOption {
        header: Some(HeaderValue { key: key.to_owned(), value: value.to_owned(), ..Default::default() }),
        ..Default::default()
    };
    health_check::HttpHealthCheck {
        path: "/grpc.health.v1.Health/Check".to_owned(),
        method: RequestMethod::Post as i32,
        send: Some(payload(&frame)),
        receive: vec![payload(&[0x08, 0x01])],
        expected_statuses: vec![statuses(200, 200)],
        request_headers_to_add: vec![header("content-type", "application/grpc"), header("te", "trailers")],
        codec_client_type: CodecClientType::Http2 as i32,
        ..Default::default()
    }
}

/// Bytes as Envoy takes them: text of hexadecimal digits.
fn payload(bytes: &[u8]) -> health_check::Payload {
    let text = HEXLOWER.encode(bytes);
    health_check::Payload { payload: Some(health_check::payload::Payload::Text(text)) }
}

fn statuses(first: u16, last: u16) -> Int64Range {
    Int64Range { start: first.into(), end: i64::from(last) + 1 }
}

fn http_check(protocol: Protocol, http: &HttpProbe) -> health_check::HttpHealthCheck {
    let codec = match protocol {
        Protocol::Http2 | Protocol::Grpc => CodecClientType::Http2,
        Protocol::Http | Protocol::Tcp | Protocol::Tls => CodecClientType::Http1,
    };
    let mut expected: Vec<Int64Range> =
        http.expected_statuses.iter().map(|status| statuses(status.first, status.last)).collect();
    if expected.is_empty() {
        expected.push(statuses(200, 299));
    }
    health_check::HttpHealthCheck {
        path: http.path.clone(),
        expected_statuses: expected,
        codec_client_type: codec as i32,
        ..Default::default()
    }
}
