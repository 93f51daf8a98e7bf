//! What filters of a listener are told by a route configuration: `typed_per_filter_config`.
//!
//! Filters stand in listeners and are configured where the route is: a change then takes effect at once on connections
//! that exist, where a changed listener would drain them.

use std::collections::BTreeMap;

use envoy_types::pb::envoy::config::route::v3::weighted_cluster::ClusterWeight;
use envoy_types::pb::envoy::config::route::v3::{Route, RouteConfiguration, VirtualHost};
use envoy_types::pb::google::protobuf::Any;
use prost::Message;

use super::wire;

/// A message of a route configuration that may tell filters something.
pub(super) trait OverrideLevel: Message {
    /// The number of its field `typed_per_filter_config`.
    const FIELD: u32;
}

impl OverrideLevel for RouteConfiguration {
    const FIELD: u32 = 16;
}

impl OverrideLevel for VirtualHost {
    const FIELD: u32 = 15;
}

impl OverrideLevel for Route {
    const FIELD: u32 = 13;
}

impl OverrideLevel for ClusterWeight {
    const FIELD: u32 = 10;
}

/// Configurations by the name of their filter.
#[derive(Debug, Default)]
pub(super) struct FilterOverrides(BTreeMap<String, Any>);

impl FilterOverrides {
    /// Sets what a filter is told.
    pub(super) fn insert(&mut self, filter: impl Into<String>, config: Any) {
        self.0.insert(filter.into(), config);
    }

    /// Encodes a message with them, in the order of their names: a map of protobuf has none, and versions are hashes of
    /// bytes.
    pub(super) fn encode<L: OverrideLevel>(&self, level: &L) -> Vec<u8> {
        let mut body = level.encode_to_vec();
        let entries = self.0.iter().map(|(filter, config)| (filter, config.encode_to_vec()));
        wire::append_map(&mut body, L::FIELD, entries);
        body
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;

    fn read<L: OverrideLevel + Default>(of: impl Fn(&L) -> &HashMap<String, Any>) {
        let mut overrides = FilterOverrides::default();
        let config = |value: u8| Any { type_url: "t".to_owned(), value: vec![value] };
        overrides.insert("b", config(2));
        overrides.insert("a", config(1));
        let body = overrides.encode(&L::default());
        let position = |name: u8| body.iter().position(|byte| *byte == name);
        assert!(position(b'a') < position(b'b'), "sorted: {body:?}");
        let expected = HashMap::from([("a".to_owned(), config(1)), ("b".to_owned(), config(2))]);
        assert_eq!(of(&L::decode(&*body).unwrap()), &expected);
    }

    #[test]
    fn each_level_is_read_with_what_it_tells_filters() {
        read::<RouteConfiguration>(|level| &level.typed_per_filter_config);
        read::<VirtualHost>(|level| &level.typed_per_filter_config);
        read::<Route>(|level| &level.typed_per_filter_config);
        read::<ClusterWeight>(|level| &level.typed_per_filter_config);
    }
}
