//! One health check of one endpoint: when it runs and what its results mean.

use std::fmt;
use std::net::SocketAddr;
use std::time::Duration;

use data_encoding::HEXLOWER_PERMISSIVE;
use envoy_types::pb::envoy::config::core::v3::address::Address as AddressKind;
use envoy_types::pb::envoy::config::core::v3::health_check::HealthChecker;
use envoy_types::pb::envoy::config::core::v3::health_check::Payload;
use envoy_types::pb::envoy::config::core::v3::health_check::payload::Payload as PayloadKind;
use envoy_types::pb::envoy::config::core::v3::socket_address::PortSpecifier;
use envoy_types::pb::envoy::config::core::v3::{HealthCheck, HealthStatus, RequestMethod};
use envoy_types::pb::envoy::config::endpoint::v3::Endpoint;
use rand::Rng as _;
use tokio::sync::mpsc;
use weft_routing::rejection::{Rejection, refuse};

use super::probe::{GrpcProbe, HttpProbe, Probe, TcpProbe};
use crate::decode::fields::duration;

/// Which check of which endpoint.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct CheckedEndpoint {
    cluster: String,
    address: String,
    check: usize,
}

impl CheckedEndpoint {
    pub(super) fn new(cluster: &str, endpoint: &Endpoint, check: usize) -> Self {
        let address = address_of(endpoint).map(|address| address.to_string()).unwrap_or_default();
        Self { cluster: cluster.to_owned(), address, check }
    }
}

impl fmt::Display for CheckedEndpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} at {}", self.cluster, self.address)
    }
}

fn address_of(endpoint: &Endpoint) -> Option<SocketAddr> {
    let Some(AddressKind::SocketAddress(socket)) = &endpoint.address.as_ref()?.address else { return None };
    let Some(PortSpecifier::PortValue(port)) = socket.port_specifier else { return None };
    Some(SocketAddr::new(socket.address.parse().ok()?, u16::try_from(port).ok()?))
}

/// A health check, meant.
#[derive(Debug)]
pub(super) struct Check {
    probe: Probe,
    timeout: Duration,
    interval: Duration,
    jitter: Duration,
    unhealthy_after: u32,
    healthy_after: u32,
}

impl Check {
    /// Reads a check of an endpoint.
    pub(super) fn decode(given: &HealthCheck, cluster: &str, endpoint: &Endpoint) -> Result<Self, Rejection> {
        refuse(&given.tls_options, "tls_options")?;
        refuse(&given.transport_socket_match_criteria, "transport_socket_match_criteria")?;
        let mut address = address_of(endpoint)
            .ok_or_else(|| Rejection::new("endpoint.address", "an IP address and a port are needed"))?;
        let check_port = endpoint.health_check_config.as_ref().map_or(0, |config| config.port_value);
        let alt_port = given.alt_port.as_ref().map_or(check_port, |port| port.value);
        if let Ok(port @ 1..) = u16::try_from(alt_port) {
            address.set_port(port);
        }
        let time = |value: &Option<envoy_types::pb::google::protobuf::Duration>, field: &str| {
            let given = duration(value.as_ref(), field)?.filter(|time| !time.is_zero());
            given.ok_or_else(|| Rejection::new(field, "must be greater than 0"))
        };
        let jitter = duration(given.interval_jitter.as_ref(), "interval_jitter")?;
        Ok(Self {
            probe: probe(given, cluster, address)?,
            timeout: time(&given.timeout, "timeout")?,
            interval: time(&given.interval, "interval")?,
            jitter: jitter.unwrap_or_default(),
            unhealthy_after: given.unhealthy_threshold.as_ref().map_or(1, |count| count.value).max(1),
            healthy_after: given.healthy_threshold.as_ref().map_or(1, |count| count.value).max(1),
        })
    }

    /// Checks for ever and sends each change. The first result counts at once, whatever the thresholds.
    pub(super) async fn run(
        self,
        subject: CheckedEndpoint,
        known: Option<HealthStatus>,
        changes: mpsc::UnboundedSender<(CheckedEndpoint, HealthStatus)>,
    ) {
        let mut state = CheckState { status: known, streak: 0 };
        loop {
            let result = match tokio::time::timeout(self.timeout, self.probe.run()).await {
                Ok(true) => HealthStatus::Healthy,
                Ok(false) => HealthStatus::Unhealthy,
                Err(_) => HealthStatus::Timeout,
            };
            let changed = state.take(result, self.healthy_after, self.unhealthy_after);
            if let Some(status) = changed
                && changes.send((subject.clone(), status)).is_err()
            {
                return;
            }
            let jitter = self.jitter.mul_f64(rand::rng().random_range(0.0..1.0));
            tokio::time::sleep(self.interval + jitter).await;
        }
    }
}

#[derive(Debug)]
struct CheckState {
    status: Option<HealthStatus>,
    streak: u32,
}

impl CheckState {
    /// Counts a result; answers the new status when it changes.
    fn take(
        &mut self,
        result: HealthStatus,
        healthy_after: u32,
        unhealthy_after: u32,
    ) -> Option<HealthStatus> {
        let good = |status: HealthStatus| status == HealthStatus::Healthy;
        let Some(status) = self.status else {
            self.status = Some(result);
            return self.status;
        };
        if good(status) == good(result) {
            self.streak = 0;
            return None;
        }
        self.streak += 1;
        let needed = if good(result) { healthy_after } else { unhealthy_after };
        if self.streak < needed {
            return None;
        }
        self.streak = 0;
        self.status = Some(result);
        self.status
    }
}

fn probe(given: &HealthCheck, cluster: &str, address: SocketAddr) -> Result<Probe, Rejection> {
    match &given.health_checker {
        Some(HealthChecker::HttpHealthCheck(http)) => {
            refuse(&http.send, "http_health_check.send")?;
            refuse(&http.receive, "http_health_check.receive")?;
            refuse(&http.service_name_matcher, "http_health_check.service_name_matcher")?;
            let method = match RequestMethod::try_from(http.method) {
                Ok(RequestMethod::MethodUnspecified) => "GET",
                Ok(method) => method.as_str_name(),
                Err(_) => return Err(Rejection::new("http_health_check.method", "unknown value")),
            };
            let range = |range: &envoy_types::pb::envoy::r#type::v3::Int64Range| range.start..range.end;
            let mut expected: Vec<_> = http.expected_statuses.iter().map(range).collect();
            if expected.is_empty() {
                expected.push(200..201);
            }
            let header = |option: &envoy_types::pb::envoy::config::core::v3::HeaderValueOption| {
                option.header.as_ref().map(|header| (header.key.clone(), header.value.clone()))
            };
            Ok(Probe::Http(HttpProbe {
                address,
                host: if http.host.is_empty() { cluster.replace('/', ".") } else { http.host.clone() },
                path: http.path.clone(),
                method: method.to_owned(),
                headers: http.request_headers_to_add.iter().filter_map(header).collect(),
                expected,
                http2: http.codec_client_type == 1,
            }))
        }
        Some(HealthChecker::TcpHealthCheck(tcp)) => {
            refuse(&tcp.proxy_protocol_config, "tcp_health_check.proxy_protocol_config")?;
            let receive = tcp.receive.iter().map(payload).collect::<Result<_, _>>()?;
            let send = tcp.send.as_ref().map(payload).transpose()?.unwrap_or_default();
            Ok(Probe::Tcp(TcpProbe { address, send, receive }))
        }
        Some(HealthChecker::GrpcHealthCheck(grpc)) => Ok(Probe::Grpc(GrpcProbe {
            address,
            service: grpc.service_name.clone(),
            authority: if grpc.authority.is_empty() {
                cluster.replace('/', ".")
            } else {
                grpc.authority.clone()
            },
        })),
        Some(HealthChecker::CustomHealthCheck(_)) => Err(Rejection::unsupported("custom_health_check")),
        None => Err(Rejection::new("health_checker", "is missing")),
    }
}

/// Text payloads are hexadecimal, as Envoy reads them.
fn payload(given: &Payload) -> Result<Vec<u8>, Rejection> {
    let wrong = || Rejection::new("payload.text", "must be hexadecimal");
    match &given.payload {
        Some(PayloadKind::Binary(bytes)) => Ok(bytes.clone()),
        Some(PayloadKind::Text(text)) => HEXLOWER_PERMISSIVE.decode(text.as_bytes()).map_err(|_| wrong()),
        None => Ok(Vec::new()),
    }
}

#[cfg(test)]
pub(super) mod testing {
    use super::*;
    use envoy_types::pb::envoy::config::core::v3::health_check::HttpHealthCheck;
    use envoy_types::pb::envoy::config::core::v3::{Address, SocketAddress};
    use envoy_types::pb::google::protobuf::Duration as PbDuration;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicBool, Ordering};
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    pub(crate) fn endpoint(address: SocketAddr) -> Endpoint {
        let socket = SocketAddress {
            address: address.ip().to_string(),
            port_specifier: Some(PortSpecifier::PortValue(address.port().into())),
            ..SocketAddress::default()
        };
        let address = Some(Address { address: Some(AddressKind::SocketAddress(socket)) });
        Endpoint { address, ..Endpoint::default() }
    }

    pub(crate) fn http_check(path: &str, interval: Duration) -> HealthCheck {
        let http = HttpHealthCheck { path: path.to_owned(), ..HttpHealthCheck::default() };
        HealthCheck {
            timeout: Some(PbDuration { seconds: 5, nanos: 0 }),
            interval: Some(PbDuration { seconds: 0, nanos: interval.subsec_nanos() as i32 }),
            health_checker: Some(HealthChecker::HttpHealthCheck(http)),
            ..HealthCheck::default()
        }
    }

    /// An HTTP/1.1 server that answers 200, or 503 once it is broken.
    pub(crate) async fn spawn_application() -> (SocketAddr, Arc<AtomicBool>) {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let broken = Arc::new(AtomicBool::new(false));
        let flag = Arc::clone(&broken);
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let flag = Arc::clone(&flag);
                tokio::spawn(async move {
                    let mut buffer = [0; 1024];
                    let _ = stream.read(&mut buffer).await;
                    let status = if flag.load(Ordering::Relaxed) { "503 No" } else { "200 OK" };
                    let answer = format!("HTTP/1.1 {status}\r\ncontent-length: 0\r\n\r\n");
                    let _ = stream.write_all(answer.as_bytes()).await;
                });
            }
        });
        (address, broken)
    }
}

#[cfg(test)]
mod tests {
    use super::testing::{endpoint, http_check};
    use super::*;
    use HealthStatus::{Healthy, Unhealthy};

    #[test]
    fn the_first_result_counts_at_once_and_later_ones_by_threshold() {
        let mut state = CheckState { status: None, streak: 0 };
        assert_eq!(state.take(Healthy, 2, 3), Some(Healthy));
        assert_eq!(state.take(Unhealthy, 2, 3), None);
        assert_eq!(state.take(Unhealthy, 2, 3), None);
        assert_eq!(state.take(Healthy, 2, 3), None);
        assert_eq!(state.take(Unhealthy, 2, 3), None, "a success in between starts the count again");
        assert_eq!(state.take(Unhealthy, 2, 3), None);
        assert_eq!(state.take(Unhealthy, 2, 3), Some(Unhealthy));
        assert_eq!(state.take(Healthy, 2, 3), None);
        assert_eq!(state.take(Healthy, 2, 3), Some(Healthy));
    }

    #[test]
    fn a_check_without_interval_is_refused_by_field() {
        let mut check = http_check("/", Duration::from_millis(100));
        check.interval = None;
        let refused = Check::decode(&check, "a", &endpoint("127.0.0.1:1".parse().unwrap())).unwrap_err();
        assert_eq!(refused.field, "interval");
    }
}
