//! Health discovery: the control plane says what to check on this machine, the results go back to it.
//!
//! The checks are of the workload's own application. Results are reported at the interval that the control plane
//! gives, and at once when an endpoint's health changes. While the stream is away the checks go on.

use std::collections::HashMap;
use std::time::Duration;

use envoy_types::pb::envoy::config::core::v3::{HealthStatus, Node};
use envoy_types::pb::envoy::config::endpoint::v3::Endpoint;
use envoy_types::pb::envoy::service::health::v3::capability::Protocol;
use envoy_types::pb::envoy::service::health::v3::health_check_request_or_endpoint_health_response::RequestType;
use envoy_types::pb::envoy::service::health::v3::health_discovery_service_client::HealthDiscoveryServiceClient;
use envoy_types::pb::envoy::service::health::v3::{
    Capability, ClusterEndpointsHealth, EndpointHealth, EndpointHealthResponse, HealthCheckRequest,
    HealthCheckRequestOrEndpointHealthResponse, HealthCheckSpecifier, LocalityEndpointsHealth,
};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tonic::transport::Channel;
use weft_api::Backoff;

mod check;
mod probe;

use check::{Check, CheckedEndpoint};

use crate::decode::fields::duration;

const FIRST_RETRY: Duration = Duration::from_secs(1);
const LONGEST_RETRY: Duration = Duration::from_secs(30);
/// Reports that wait to be sent: one at the interval and one for a change; a slow stream holds back the rest.
const REPORTS: usize = 4;

/// Checks and reports until `stop` is cancelled.
pub async fn serve(channel: Channel, node: Node, stop: CancellationToken) {
    let mut delegate = HdsDelegate::default();
    let mut retry = Backoff::new(FIRST_RETRY, LONGEST_RETRY);
    while !stop.is_cancelled() {
        let begun = tokio::time::Instant::now();
        let session = session(channel.clone(), &node, &mut delegate);
        match stop.run_until_cancelled(session).await {
            None => return,
            Some(Ok(())) => tracing::debug!("the health discovery stream ended"),
            Some(Err(status)) if status.code() == tonic::Code::Unimplemented => {
                tracing::info!(event = "service_not_offered", "the control plane orders no health checks");
                return;
            }
            Some(Err(status)) => {
                tracing::debug!(code = ?status.code(), message = status.message(), "health discovery stream lost");
            }
        }
        if begun.elapsed() > LONGEST_RETRY {
            retry.reset();
        }
        stop.run_until_cancelled(tokio::time::sleep(retry.next_wait())).await;
    }
}

async fn session(channel: Channel, node: &Node, delegate: &mut HdsDelegate) -> Result<(), tonic::Status> {
    let (reports, outgoing) = mpsc::channel(REPORTS);
    let hello = RequestType::HealthCheckRequest(HealthCheckRequest {
        node: Some(node.clone()),
        capability: Some(Capability {
            health_check_protocols: vec![Protocol::Http.into(), Protocol::Tcp.into()],
        }),
    });
    let hello = HealthCheckRequestOrEndpointHealthResponse { request_type: Some(hello) };
    reports.try_send(hello).expect("the channel is new and holds several");
    let outgoing = tokio_stream::wrappers::ReceiverStream::new(outgoing);
    let mut client = HealthDiscoveryServiceClient::new(channel);
    let mut orders = client.stream_health_check(outgoing).await?.into_inner();
    let mut tick = tokio::time::interval(delegate.interval);
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        let report = tokio::select! {
            order = orders.message() => match order? {
                None => return Ok(()),
                Some(order) => {
                    delegate.order(&order);
                    tick = tokio::time::interval(delegate.interval);
                    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
                    false
                }
            },
            () = delegate.next_change() => true,
            _ = tick.tick() => true,
        };
        if report && let Some(response) = delegate.report() {
            let request_type = Some(RequestType::EndpointHealthResponse(response));
            if reports.send(HealthCheckRequestOrEndpointHealthResponse { request_type }).await.is_err() {
                return Ok(());
            }
        }
    }
}

/// What is checked, and what came of it.
#[derive(Debug)]
struct HdsDelegate {
    interval: Duration,
    order: HealthCheckSpecifier,
    results: HashMap<CheckedEndpoint, HealthStatus>,
    running: JoinSet<()>,
    sender: mpsc::UnboundedSender<(CheckedEndpoint, HealthStatus)>,
    changes: mpsc::UnboundedReceiver<(CheckedEndpoint, HealthStatus)>,
}

impl Default for HdsDelegate {
    fn default() -> Self {
        // Unbounded, but each check waits for its interval between two results.
        let (sender, changes) = mpsc::unbounded_channel();
        Self {
            interval: Duration::from_secs(1),
            order: HealthCheckSpecifier::default(),
            results: HashMap::new(),
            running: JoinSet::new(),
            sender,
            changes,
        }
    }
}

impl HdsDelegate {
    /// Replaces the checks. Results of endpoints that stay are kept, so that an equal order changes nothing.
    fn order(&mut self, order: &HealthCheckSpecifier) {
        let interval = duration(order.interval.as_ref(), "interval").ok().flatten();
        self.interval = interval.unwrap_or(Duration::from_secs(1)).max(Duration::from_millis(100));
        if *order == self.order {
            return;
        }
        self.order = order.clone();
        self.running = JoinSet::new();
        let mut endpoints = Vec::new();
        for cluster in &order.cluster_health_checks {
            for endpoint in cluster.locality_endpoints.iter().flat_map(|group| &group.endpoints) {
                for (index, check) in cluster.health_checks.iter().enumerate() {
                    let subject = CheckedEndpoint::new(&cluster.cluster_name, endpoint, index);
                    match Check::decode(check, &cluster.cluster_name, endpoint) {
                        Ok(check) => {
                            let known = self.results.get(&subject).copied();
                            let sender = self.sender.clone();
                            let task = check.run(subject.clone(), known, sender);
                            self.running.spawn(task);
                            endpoints.push(subject);
                        }
                        Err(rejection) => {
                            tracing::warn!(
                                event = "health_check_refused",
                                cluster = cluster.cluster_name, %rejection,
                                "a health check is refused"
                            );
                        }
                    }
                }
            }
        }
        self.results.retain(|subject, _| endpoints.contains(subject));
    }

    async fn next_change(&mut self) {
        let (subject, status) = self.changes.recv().await.expect("the delegate holds a sender");
        tracing::info!(event = "health_changed", %subject, status = status.as_str_name(), "health changed");
        self.results.insert(subject, status);
    }

    /// All results so far, in the groups of the order; `None` while nothing is known.
    fn report(&self) -> Option<EndpointHealthResponse> {
        let mut response = EndpointHealthResponse::default();
        for cluster in &self.order.cluster_health_checks {
            let mut groups = Vec::new();
            for group in &cluster.locality_endpoints {
                let health = |endpoint: &Endpoint| {
                    let status = self.status(&cluster.cluster_name, endpoint, cluster.health_checks.len())?;
                    let endpoint = Some(endpoint.clone());
                    Some(EndpointHealth { endpoint, health_status: status.into(), health_metadata: None })
                };
                let endpoints_health: Vec<_> = group.endpoints.iter().filter_map(health).collect();
                if !endpoints_health.is_empty() {
                    #[allow(deprecated)] // older control planes read the flat list
                    response.endpoints_health.extend(endpoints_health.iter().cloned());
                    groups
                        .push(LocalityEndpointsHealth { locality: group.locality.clone(), endpoints_health });
                }
            }
            if !groups.is_empty() {
                response.cluster_endpoints_health.push(ClusterEndpointsHealth {
                    cluster_name: cluster.cluster_name.clone(),
                    locality_endpoints_health: groups,
                });
            }
        }
        (!response.cluster_endpoints_health.is_empty()).then_some(response)
    }

    /// The worst result of an endpoint's checks; `None` until one has a result.
    fn status(&self, cluster: &str, endpoint: &Endpoint, checks: usize) -> Option<HealthStatus> {
        let severity = |status: &HealthStatus| match status {
            HealthStatus::Healthy => 0,
            HealthStatus::Timeout => 2,
            _ => 1,
        };
        (0..checks)
            .filter_map(|index| self.results.get(&CheckedEndpoint::new(cluster, endpoint, index)).copied())
            .max_by_key(severity)
    }
}

#[cfg(test)]
mod tests {
    use super::check::testing::{endpoint, http_check, spawn_application};
    use super::*;
    use envoy_types::pb::envoy::service::health::v3::{ClusterHealthCheck, LocalityEndpoints};

    fn order(address: std::net::SocketAddr) -> HealthCheckSpecifier {
        HealthCheckSpecifier {
            cluster_health_checks: vec![ClusterHealthCheck {
                cluster_name: "inbound/shop/web/http".to_owned(),
                health_checks: vec![http_check("/health", Duration::from_millis(20))],
                locality_endpoints: vec![LocalityEndpoints {
                    locality: None,
                    endpoints: vec![endpoint(address)],
                }],
                ..ClusterHealthCheck::default()
            }],
            interval: None,
        }
    }

    #[tokio::test]
    async fn reports_healthy_then_unhealthy_as_the_application_does() {
        let (address, broken) = spawn_application().await;
        let mut delegate = HdsDelegate::default();
        delegate.order(&order(address));
        assert!(delegate.report().is_none(), "nothing is known yet");
        let deadline = Duration::from_secs(10);
        tokio::time::timeout(deadline, delegate.next_change()).await.unwrap();
        let status = |delegate: &HdsDelegate| {
            let report = delegate.report().unwrap();
            report.cluster_endpoints_health[0].locality_endpoints_health[0].endpoints_health[0].health_status
        };
        assert_eq!(status(&delegate), i32::from(HealthStatus::Healthy));
        broken.store(true, std::sync::atomic::Ordering::Relaxed);
        tokio::time::timeout(deadline, delegate.next_change()).await.unwrap();
        assert_eq!(status(&delegate), i32::from(HealthStatus::Unhealthy));
    }

    #[tokio::test]
    async fn an_equal_order_keeps_results() {
        let (address, _broken) = spawn_application().await;
        let mut delegate = HdsDelegate::default();
        delegate.order(&order(address));
        tokio::time::timeout(Duration::from_secs(10), delegate.next_change()).await.unwrap();
        delegate.order(&order(address));
        assert!(delegate.report().is_some());
        delegate.order(&HealthCheckSpecifier::default());
        assert!(delegate.report().is_none());
    }
}
