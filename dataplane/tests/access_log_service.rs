//! Envoy's access log service, as the binary talks to it: what it tells, of which requests and connections, and what it
//! drops when nobody takes it.

#![allow(clippy::unwrap_used, reason = "a test ends where an expectation fails")]

#[path = "support/binary.rs"]
mod binary;

use binary::{Application, Proxy, cluster, free_port, get, http_listener, raw, soon, status};
use envoy_types::pb::envoy::data::accesslog::v3::{HttpAccessLogEntry, TcpAccessLogEntry};
use envoy_types::pb::envoy::service::accesslog::v3::access_log_service_server::{
    AccessLogService, AccessLogServiceServer,
};
use envoy_types::pb::envoy::service::accesslog::v3::stream_access_logs_message::LogEntries;
use envoy_types::pb::envoy::service::accesslog::v3::{StreamAccessLogsMessage, StreamAccessLogsResponse};
use tokio::sync::mpsc;
use tonic::{Request, Response, Status, Streaming};

const FAILED: &str = "filter: {or_filter: {filters: [{status_code_filter: {comparison: {op: GE, value: {default_value: 500, runtime_key: a}}}}, {grpc_status_filter: {statuses: [PERMISSION_DENIED]}}]}}";
const UNSERVED: &str = r#"filter: {extension_filter: {name: cel, typed_config: {"@type": type.googleapis.com/envoy.extensions.access_loggers.filters.cel.v3.ExpressionFilter, expression: "connection.transport_failure_reason != '' || connection.termination_details != ''"}}}"#;

/// What was told, message by message.
struct LogServer {
    port: u16,
    heard: mpsc::UnboundedReceiver<StreamAccessLogsMessage>,
}

struct Service(mpsc::UnboundedSender<StreamAccessLogsMessage>);

#[tonic::async_trait]
impl AccessLogService for Service {
    async fn stream_access_logs(
        &self,
        request: Request<Streaming<StreamAccessLogsMessage>>,
    ) -> Result<Response<StreamAccessLogsResponse>, Status> {
        let mut messages = request.into_inner();
        while let Some(message) = messages.message().await? {
            // The test may be over.
            let _ = self.0.send(message);
        }
        Ok(Response::new(StreamAccessLogsResponse {}))
    }
}

impl LogServer {
    async fn start() -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let (sender, heard) = mpsc::unbounded_channel();
        let incoming = tonic::transport::server::TcpIncoming::from(listener);
        let service = AccessLogServiceServer::new(Service(sender));
        tokio::spawn(tonic::transport::Server::builder().add_service(service).serve_with_incoming(incoming));
        Self { port, heard }
    }

    fn cluster(&self) -> String {
        let http2 = ", typed_extension_protocol_options: {http: {\"@type\": type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions, explicit_http_config: {http2_protocol_options: {}}}}";
        cluster("logs", &[self.port], http2)
    }

    async fn next(&mut self) -> StreamAccessLogsMessage {
        soon(self.heard.recv()).await.unwrap()
    }

    async fn request(&mut self) -> HttpAccessLogEntry {
        match self.next().await.log_entries.unwrap() {
            LogEntries::HttpLogs(mut logs) => logs.log_entry.remove(0),
            LogEntries::TcpLogs(logs) => panic!("{logs:?}"),
        }
    }

    async fn connection(&mut self) -> TcpAccessLogEntry {
        match self.next().await.log_entries.unwrap() {
            LogEntries::TcpLogs(mut logs) => logs.log_entry.remove(0),
            LogEntries::HttpLogs(logs) => panic!("{logs:?}"),
        }
    }
}

fn log(kind: &str, filter: &str, cluster: &str, more: &str) -> String {
    let typed = match kind {
        "http" => "HttpGrpcAccessLogConfig",
        _ => "TcpGrpcAccessLogConfig",
    };
    format!(
        r#"access_log: [{{name: log, {filter}, typed_config: {{"@type": type.googleapis.com/envoy.extensions.access_loggers.grpc.v3.{typed}, common_config: {{log_name: weft, transport_api_version: V3, buffer_flush_interval: 0.05s, grpc_service: {{envoy_grpc: {{cluster_name: {cluster}}}}}}}{more}}}}}]"#
    )
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_request_that_failed_is_told_with_what_is_known_of_it_and_others_are_not() {
    let (application, port, mut server) = (Application::start().await, free_port(), LogServer::start().await);
    let more = ", additional_request_headers_to_log: [X-Asked], additional_response_headers_to_log: [content-length]";
    let manager = format!("          {}", log("http", FAILED, "logs", more));
    let clusters = cluster("app", &[application.port], "") + &server.cluster();
    let proxy = Proxy::start(&http_listener(port, &manager, "", ""), &clusters, "").await;
    assert_eq!(status(&get(port, "/fine", "").await), 200);
    *application.status.lock().unwrap() = "503 Service Unavailable";
    let answer = get(port, "/bad?q=1", "x-request-id: id-7\r\nx-asked: for\r\n").await;
    assert_eq!(status(&answer), 503, "{answer}");
    let message = server.next().await;
    let identifier = message.identifier.unwrap();
    assert_eq!((identifier.log_name.as_str(), identifier.node.unwrap().id.as_str()), ("weft", "shop/web-1"));
    let Some(LogEntries::HttpLogs(mut logs)) = message.log_entries else {
        panic!("{:?}", message.log_entries)
    };
    assert_eq!(logs.log_entry.len(), 1, "{logs:?}");
    let entry = logs.log_entry.remove(0);
    let (request, response) = (entry.request.unwrap(), entry.response.unwrap());
    assert_eq!((request.request_id.as_str(), request.path.as_str()), ("id-7", "/bad?q=1"));
    assert_eq!((request.authority.as_str(), request.request_headers["x-asked"].as_str()), ("a.test", "for"));
    assert_eq!(response.response_code.unwrap().value, 503);
    assert_eq!(response.response_code_details, "via_upstream");
    assert!(response.response_headers.contains_key("content-length"), "{response:?}");
    let common = entry.common_properties.unwrap();
    assert_eq!(common.upstream_cluster, "app");
    assert!(common.upstream_remote_address.is_some() && common.start_time.is_some(), "{common:?}");
    proxy.wait_for("access_logs.grpc_access_log.logs_written", 1).await;
    proxy.wait_for("access_logs.grpc_access_log.logs_dropped", 0).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_does_not_listen_is_told_with_the_reason() {
    let (port, mut server) = (free_port(), LogServer::start().await);
    let manager = format!("          {}", log("http", FAILED, "logs", ""));
    let clusters = cluster("app", &[free_port()], "") + &server.cluster();
    let _proxy = Proxy::start(&http_listener(port, &manager, "", ""), &clusters, "").await;
    assert_eq!(status(&get(port, "/", "").await), 503);
    let common = server.request().await.common_properties.unwrap();
    assert!(common.response_flags.unwrap().upstream_connection_failure);
    assert!(common.upstream_transport_failure_reason.contains("Connection refused"), "{common:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_connection_that_is_refused_is_told_by_its_listener() {
    let (application, port, mut server) = (Application::start().await, free_port(), LogServer::start().await);
    let listener = format!(
        r#"  - name: tcp
    address: {{socket_address: {{address: 127.0.0.1, port_value: {port}}}}}
    {}
    filter_chains:
    - filters:
      - {{name: rbac, typed_config: {{"@type": type.googleapis.com/envoy.extensions.filters.network.rbac.v3.RBAC, stat_prefix: a, rules: {{action: DENY, policies: {{shop/nobody/0: {{permissions: [{{any: true}}], principals: [{{any: true}}]}}}}}}}}}}
      - {{name: tcp, typed_config: {{"@type": type.googleapis.com/envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy, stat_prefix: a, cluster: app}}}}
"#,
        log("tcp", UNSERVED, "logs", "")
    );
    let clusters = cluster("app", &[application.port], "") + &server.cluster();
    let _proxy = Proxy::start(&listener, &clusters, "").await;
    assert_eq!(raw(port, "GET / HTTP/1.1\r\n\r\n").await, "");
    let common = server.connection().await.common_properties.unwrap();
    assert_eq!(common.connection_termination_details, "rbac_access_denied_matched_policy[shop/nobody/0]");
    assert!(common.downstream_direct_remote_address.is_some(), "{common:?}");
}

/// As in Envoy, traffic is served all the same.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_goes_to_a_cluster_that_does_not_exist_is_dropped_and_counted() {
    let (application, port) = (Application::start().await, free_port());
    *application.status.lock().unwrap() = "500 Internal Server Error";
    let manager = format!("          {}", log("http", FAILED, "nobody", ""));
    let listeners = http_listener(port, &manager, "", "");
    let proxy = Proxy::start(&listeners, &cluster("app", &[application.port], ""), "").await;
    for _ in 0..3 {
        assert_eq!(status(&get(port, "/", "").await), 500);
    }
    proxy.wait_for("access_logs.grpc_access_log.logs_dropped", 3).await;
    proxy.logs("the bootstrap has no such cluster").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_waits_for_a_service_that_is_away_is_bounded_and_the_rest_counted() {
    let (application, port, away) = (Application::start().await, free_port(), free_port());
    *application.status.lock().unwrap() = "500 Internal Server Error";
    let manager = format!("          {}", log("http", FAILED, "logs", ""));
    let clusters = cluster("app", &[application.port], "") + &cluster("logs", &[away], "");
    let proxy = Proxy::start(&http_listener(port, &manager, "", ""), &clusters, "").await;
    let path = format!("/{}", "x".repeat(8000));
    for _ in 0..40 {
        assert_eq!(status(&get(port, &path, "").await), 500);
    }
    soon(async {
        loop {
            let stats = proxy.admin("/stats").await;
            let dropped = stats
                .lines()
                .find_map(|line| line.strip_prefix("access_logs.grpc_access_log.logs_dropped: "));
            if dropped.is_some_and(|count| count.trim().parse::<u64>().unwrap() > 0) {
                return;
            }
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
    })
    .await;
}
