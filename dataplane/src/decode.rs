//! Envoy's resources as typed, checked plans.
//!
//! ```text
//!   bytes --decode--> Plan (names what it needs: endpoints, routes, secrets)
//!   Plan + Endpoints + Secrets --prepare--> runtime::{Listener, Cluster}
//! ```
//!
//! Routes, matchers, authorization and formats need nothing else: they are read straight into what runs. This is the one
//! place where messages of Envoy's API get their meaning; what runs names none of them.
//!
//! A plan says everything about a resource but what arrives separately. A field that is known and not
//! implemented, and whose absence would weaken security or change meaning, refuses the resource by name; a
//! cosmetic one is noted. Nothing here does I/O but reading the files that a `DataSource` names.

// Fields that Envoy calls deprecated are read all the same: to honour them, or to refuse them by name.
#![allow(deprecated)]

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use envoy_types::pb::envoy::config::core::v3::ConfigSource as PbConfigSource;
use envoy_types::pb::envoy::config::core::v3::config_source::ConfigSourceSpecifier;
use weft_routing::rejection::{Notes, Rejection};

use crate::stats::StatsRegistry;

mod access_log;
mod balancing;
mod cluster;
pub(crate) mod dns_cache;
mod endpoints;
pub(crate) mod fields;
pub(crate) mod format;
mod http_manager;
mod identity;
mod listener;
mod local_reply;
mod log_filter;
mod otlp_log;
mod outlier;
mod protocol;
mod resource;
pub(crate) mod route;
mod tcp_proxy;
#[cfg(test)]
mod tests;
mod tls;
mod trust;

pub use cluster::{ClusterPlan, DnsPlan, EndpointSource};
pub use endpoints::{EndpointPlan, EndpointsPlan};
pub use fields::EndpointHost;
pub use listener::ListenerPlan;
pub use resource::{DecodedResource, decode, name_of};
pub use route::{lone_virtual_host, route_config};
pub use tls::{KnownSecrets, SecretPlan};

/// What decoding writes to besides its result.
#[derive(Debug)]
pub struct DecodeContext<'a> {
    /// Fields that have no effect.
    pub notes: Notes,
    /// Where statistics get their ids.
    pub registry: &'a mut StatsRegistry,
}

/// Where a referenced resource comes from.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ConfigSource {
    /// The stream that everything comes by.
    Ads,
    /// A file with a discovery response, read again when it changes.
    File(PathBuf),
}

/// A resource that another one names.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct ResourceReference {
    /// Where it comes from.
    pub source: ConfigSource,
    pub name: Arc<str>,
    /// `initial_fetch_timeout`: after this long the referrer goes on without it; `None` waits for ever.
    pub fetch_timeout: Option<Duration>,
}

impl ResourceReference {
    fn decode(name: &str, source: Option<&PbConfigSource>, field: &str) -> Result<Self, Rejection> {
        let missing = || Rejection::new(field, "a config source is needed");
        let config = source.ok_or_else(missing)?;
        let fetch_timeout = fields::duration(config.initial_fetch_timeout.as_ref(), field)?;
        let fetch_timeout = match fetch_timeout {
            None => Some(Duration::from_secs(15)),
            Some(Duration::ZERO) => None,
            Some(given) => Some(given),
        };
        let source = match config.config_source_specifier.as_ref().ok_or_else(missing)? {
            ConfigSourceSpecifier::Ads(_) | ConfigSourceSpecifier::Self_(_) => ConfigSource::Ads,
            ConfigSourceSpecifier::Path(path) => ConfigSource::File(path.into()),
            ConfigSourceSpecifier::PathConfigSource(source) => ConfigSource::File((&source.path).into()),
            ConfigSourceSpecifier::ApiConfigSource(_) => {
                return Err(Rejection::new(
                    format!("{field}.api_config_source"),
                    "a stream of its own is not supported; use ads or path_config_source",
                ));
            }
        };
        Ok(Self { source, name: name.into(), fetch_timeout })
    }
}

/// The statistic name of an address: `127.0.0.1_80`, as Envoy writes it.
fn address_stat(address: std::net::SocketAddr) -> Arc<str> {
    address.to_string().replace(':', "_").into()
}
