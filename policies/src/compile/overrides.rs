//! What filters of a listener are told by a route configuration: `typed_per_filter_config`.
//!
//! Filters stand in listeners and are configured where the route is: a change then takes effect at once on connections
//! that exist, where a changed listener would drain them.

use std::collections::BTreeMap;

use envoy_types::pb::envoy::config::route::v3::VirtualHost;
use envoy_types::pb::google::protobuf::Any;
use prost::Message;

use super::wire;

/// Field `typed_per_filter_config` of a virtual host.
const OF_VIRTUAL_HOST: u32 = 15;

/// Configurations by the name of their filter.
#[derive(Debug, Default)]
pub(super) struct FilterOverrides(BTreeMap<String, Any>);

impl FilterOverrides {
    /// Sets what a filter is told.
    pub(super) fn insert(&mut self, filter: impl Into<String>, config: Any) {
        self.0.insert(filter.into(), config);
    }

    /// Encodes a virtual host with them.
    pub(super) fn of_virtual_host(&self, host: &VirtualHost) -> Vec<u8> {
        let mut body = host.encode_to_vec();
        let entries = self.0.iter().map(|(filter, config)| (filter, config.encode_to_vec()));
        wire::append_map(&mut body, OF_VIRTUAL_HOST, entries);
        body
    }
}
