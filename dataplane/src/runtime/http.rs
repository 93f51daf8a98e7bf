//! The HTTP connection manager: how requests of a connection are read, judged and sent on.

use std::sync::Arc;
use std::time::Duration;

use weft_routing::path::PathOptions;

use super::AccessLogs;
use super::local_reply::LocalReplies;
use crate::filter::HttpFilter;
use crate::route::RouteConfig;
use crate::stats::HttpStats;
use crate::tracer::HttpTracing;

/// `HttpConnectionManager`, meant.
#[derive(Debug)]
pub struct HttpManager {
    /// `http.PREFIX.…`.
    pub stat_prefix: Arc<str>,
    /// Where its statistics are counted.
    pub stats: HttpStats,
    /// Which protocol is spoken.
    pub codec: Codec,
    /// Where the routes are.
    pub routes: RouteSource,
    /// `http_filters`.
    pub filters: HttpFilters,
    /// The `server` header's value; Envoy's default is `envoy`.
    pub server_name: Arc<str>,
    /// When the `server` header is written.
    pub server_header: ServerHeader,
    /// `x-forwarded-for` and `x-forwarded-proto`.
    pub forwarding: Forwarding,
    /// `x-request-id`.
    pub request_ids: RequestIds,
    /// `forward_client_cert_details`.
    pub forward_client_cert: ForwardClientCert,
    /// `set_current_client_cert_details`.
    pub client_cert_details: ClientCertDetails,
    /// Path normalisation before routing, authorization and forwarding.
    pub path: PathOptions,
    /// `strip_any_host_port` and `strip_matching_host_port`.
    pub strip_port: StripPort,
    pub timeouts: HttpTimeouts,
    pub limits: HttpLimits,
    /// `headers_with_underscores_action`.
    pub underscores: Underscores,
    pub http1: Http1Options,
    pub http2: Http2Options,
    /// Upgrades that are allowed for every route, for instance `websocket`, `CONNECT`; a route may differ.
    pub upgrades: Vec<UpgradeConfig>,
    /// Written when a request ends.
    pub access_log: AccessLogs,
    /// `tracing`.
    pub tracing: Option<HttpTracing>,
    /// `local_reply_config`.
    pub local_replies: Option<Arc<LocalReplies>>,
}

/// `codec_type`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Codec {
    /// By ALPN, else by the connection preface.
    #[default]
    Auto,
    /// HTTP/1.1 only.
    Http1,
    /// HTTP/2 only.
    Http2,
}

/// Where a connection manager's routes come from.
#[derive(Debug, Clone)]
pub enum RouteSource {
    /// `route_config`.
    Inline(Arc<RouteConfig>),
    /// `rds`: the name to look up in [`super::Runtime::routes`]. A name that is not there answers 404.
    Rds(Arc<str>),
}

/// `http_filters`: what a request passes, in order, with the router behind.
#[derive(Debug, Default)]
pub struct HttpFilters {
    filters: Box<[HttpFilter]>,
    router: Option<Router>,
    see_responses: bool,
}

impl HttpFilters {
    /// Filters in order. Without a router every request that passes them is answered 404.
    #[must_use]
    pub fn new(filters: Vec<HttpFilter>, router: Option<Router>) -> Self {
        let see_responses = filters.iter().any(|one| one.filter.sees_responses());
        Self { filters: filters.into(), router, see_responses }
    }

    /// The filters before the router.
    #[must_use]
    pub fn before_router(&self) -> &[HttpFilter] {
        &self.filters
    }

    /// Whether any of them has to do with responses.
    #[must_use]
    pub fn see_responses(&self) -> bool {
        self.see_responses
    }

    /// What sends requests on; `None` where requests get no further than the filters.
    #[must_use]
    pub fn router(&self) -> Option<&Router> {
        self.router.as_ref()
    }
}

/// `envoy.filters.http.router`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Router {
    /// `suppress_envoy_headers`: add no `x-envoy-…` headers.
    pub suppress_envoy_headers: bool,
}

/// `server_header_transformation`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum ServerHeader {
    #[default]
    Overwrite,
    /// Ours where the upstream sent none.
    AppendIfAbsent,
    /// As the upstream sent it.
    PassThrough,
}

/// How the caller's address is trusted and passed on.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Forwarding {
    /// `use_remote_address`: an edge proxy, which sets `x-forwarded-for` itself.
    pub use_remote_address: bool,
    /// `xff_num_trusted_hops`.
    pub trusted_hops: u32,
    /// `skip_xff_append`.
    pub skip_append: bool,
}

/// How `x-request-id` is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RequestIds {
    /// `generate_request_id`, true by default.
    pub generate: bool,
    /// `preserve_external_request_id`.
    pub preserve_external: bool,
    /// `always_set_request_id_in_response`.
    pub in_response: bool,
}

impl Default for RequestIds {
    fn default() -> Self {
        Self { generate: true, preserve_external: false, in_response: false }
    }
}

/// `forward_client_cert_details`: what happens to `x-forwarded-client-cert`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum ForwardClientCert {
    #[default]
    Sanitize,
    /// Pass on what came over a mutual TLS connection, else remove it.
    ForwardOnly,
    /// Append the caller's certificate to what came over a mutual TLS connection.
    AppendForward,
    /// Replace it by the caller's certificate.
    SanitizeSet,
    /// Pass on whatever came.
    AlwaysForwardOnly,
}

/// `set_current_client_cert_details`: what of the caller's certificate is written, besides `By` and `Hash`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ClientCertDetails {
    /// `Subject`.
    pub subject: bool,
    /// `Cert`, PEM and URL-encoded.
    pub cert: bool,
    /// `Chain`.
    pub chain: bool,
    /// `DNS`.
    pub dns: bool,
    /// `URI`.
    pub uri: bool,
}

/// Whether the port of `host` is removed before routing.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum StripPort {
    #[default]
    Keep,
    /// Remove it where it is the listener's own.
    Matching,
    Any,
}

/// Timeouts of a connection manager; `None` is off.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HttpTimeouts {
    /// `common_http_protocol_options.idle_timeout`, 1 h.
    pub idle: Option<Duration>,
    /// `stream_idle_timeout`, 5 min.
    pub stream_idle: Option<Duration>,
    /// `request_timeout`: from the first byte to the end of the request.
    pub request: Option<Duration>,
    /// `request_headers_timeout`.
    pub request_headers: Option<Duration>,
    /// `max_connection_duration`.
    pub max_connection: Option<Duration>,
    /// `max_stream_duration`.
    pub max_stream: Option<Duration>,
    /// `drain_timeout`, 5 s: between the GOAWAY that warns and the one that ends.
    pub drain: Duration,
    /// `delayed_close_timeout`, 1 s.
    pub delayed_close: Option<Duration>,
}

impl Default for HttpTimeouts {
    fn default() -> Self {
        Self {
            idle: Some(Duration::from_secs(3600)),
            stream_idle: Some(Duration::from_secs(300)),
            request: None,
            request_headers: None,
            max_connection: None,
            max_stream: None,
            drain: Duration::from_secs(5),
            delayed_close: Some(Duration::from_secs(1)),
        }
    }
}

/// Limits of a connection manager.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HttpLimits {
    /// `max_headers_count`, 100.
    pub headers: usize,
    /// `max_request_headers_kb`, 60, in bytes.
    pub header_bytes: usize,
    /// `max_requests_per_connection`.
    pub requests_per_connection: Option<u32>,
}

impl Default for HttpLimits {
    fn default() -> Self {
        Self { headers: 100, header_bytes: 60 * 1024, requests_per_connection: None }
    }
}

/// `headers_with_underscores_action`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Underscores {
    #[default]
    Allow,
    /// Answer 400.
    RejectRequest,
    DropHeader,
}

/// HTTP/1 options of a listener.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Http1Options {
    /// `accept_http_10`.
    pub accept_http_10: bool,
    /// `default_host_for_http_10` is not kept; a 1.0 request without host is answered 400.
    pub title_case_headers: bool,
}

/// HTTP/2 options, of a listener or a cluster.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Http2Options {
    /// `max_concurrent_streams`, 1024.
    pub max_concurrent_streams: u32,
    /// `initial_stream_window_size`, 16 MiB.
    pub stream_window: u32,
    /// `initial_connection_window_size`, 24 MiB.
    pub connection_window: u32,
    /// `hpack_table_size`.
    pub header_table: u32,
    /// `allow_connect`: extended CONNECT (RFC 8441).
    pub allow_connect: bool,
    /// `connection_keepalive.interval`.
    pub keepalive_interval: Option<Duration>,
    /// `connection_keepalive.timeout`.
    pub keepalive_timeout: Duration,
}

impl Default for Http2Options {
    fn default() -> Self {
        Self {
            max_concurrent_streams: 1024,
            stream_window: 16 * 1024 * 1024,
            connection_window: 24 * 1024 * 1024,
            header_table: 4096,
            allow_connect: false,
            keepalive_interval: None,
            keepalive_timeout: Duration::from_secs(20),
        }
    }
}

/// One entry of `upgrade_configs`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UpgradeConfig {
    /// The protocol in lower case: `websocket`, `connect`.
    pub protocol: Arc<str>,
    /// Whether it is allowed where a route says nothing.
    pub enabled: bool,
}
