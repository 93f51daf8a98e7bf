//! What proxies are served: the discovery service, the health discovery service, and the receiving ends of the metrics
//! service, of the access log service and of taps.

pub mod access_log_service;
pub mod client_version;
pub mod config_source;
pub mod discovery;
pub mod health_discovery;
pub mod metrics_service;
mod peer;
pub mod refusals;
mod stream_limit;
pub mod tap_runtimes;
pub mod tap_service;
