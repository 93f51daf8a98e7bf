//! Against messages of the generated types, whose every other byte has to stay.

use std::collections::HashMap;

use envoy_types::pb::envoy::config::cluster::v3::Cluster;
use envoy_types::pb::envoy::config::cluster::v3::cluster::{EdsClusterConfig, TransportSocketMatch};
use envoy_types::pb::envoy::config::core::v3::{
    AggregatedConfigSource, ConfigSource, Metadata, TransportSocket, config_source, transport_socket,
};
use envoy_types::pb::envoy::config::listener::v3::{Filter, FilterChain, Listener, filter};
use envoy_types::pb::envoy::extensions::filters::network::http_connection_manager::v3::{
    HttpConnectionManager, Rds, http_connection_manager,
};
use envoy_types::pb::envoy::extensions::transport_sockets::tls::v3::{
    CommonTlsContext, DownstreamTlsContext, SdsSecretConfig, UpstreamTlsContext, common_tls_context,
};
use envoy_types::pb::google::protobuf::{Any, Struct};
use prost::{Message, Name};

use super::*;

fn source(specifier: config_source::ConfigSourceSpecifier) -> ConfigSource {
    ConfigSource {
        resource_api_version: ApiVersion::V3 as i32,
        initial_fetch_timeout: Some(Default::default()),
        config_source_specifier: Some(specifier),
        ..Default::default()
    }
}

fn ads() -> ConfigSource {
    source(config_source::ConfigSourceSpecifier::Ads(AggregatedConfigSource {}))
}

fn api(api_type: ApiType) -> ConfigSource {
    let target = grpc_service::TargetSpecifier::EnvoyGrpc(grpc_service::EnvoyGrpc {
        cluster_name: "xds".to_owned(),
        ..Default::default()
    });
    source(config_source::ConfigSourceSpecifier::ApiConfigSource(ApiConfigSource {
        api_type: api_type as i32,
        transport_api_version: ApiVersion::V3 as i32,
        grpc_services: vec![GrpcService { target_specifier: Some(target), ..Default::default() }],
        set_node_on_first_message_only: true,
        ..Default::default()
    }))
}

fn packed<M: Message + Name>(message: &M) -> Any {
    Any { type_url: M::type_url(), value: message.encode_to_vec() }
}

fn secret(name: &str, from: &ConfigSource) -> SdsSecretConfig {
    SdsSecretConfig { name: name.to_owned(), sds_config: Some(from.clone()) }
}

fn tls(from: &ConfigSource, validation: common_tls_context::ValidationContextType) -> CommonTlsContext {
    CommonTlsContext {
        alpn_protocols: vec!["h2".to_owned()],
        tls_certificate_sds_secret_configs: vec![secret("identity", from), secret("other", from)],
        validation_context_type: Some(validation),
        ..Default::default()
    }
}

fn socket(context: Any) -> TransportSocket {
    TransportSocket {
        name: "envoy.transport_sockets.tls".to_owned(),
        config_type: Some(transport_socket::ConfigType::TypedConfig(context)),
    }
}

fn upstream(from: &ConfigSource) -> TransportSocket {
    use common_tls_context::{CombinedCertificateValidationContext, ValidationContextType};
    let combined = ValidationContextType::CombinedValidationContext(CombinedCertificateValidationContext {
        default_validation_context: Some(Default::default()),
        validation_context_sds_secret_config: Some(secret("bundle", from)),
        ..Default::default()
    });
    let common_tls_context = Some(tls(from, combined));
    socket(packed(&UpstreamTlsContext { common_tls_context, sni: "web".to_owned(), ..Default::default() }))
}

fn downstream(from: &ConfigSource) -> TransportSocket {
    use common_tls_context::ValidationContextType::ValidationContextSdsSecretConfig;
    let bundle = ValidationContextSdsSecretConfig(secret("bundle", from));
    socket(packed(&DownstreamTlsContext {
        common_tls_context: Some(tls(from, bundle)),
        disable_stateful_session_resumption: true,
        ..Default::default()
    }))
}

fn cluster(from: &ConfigSource) -> Cluster {
    let matched = TransportSocketMatch {
        name: "tls".to_owned(),
        transport_socket: Some(upstream(from)),
        ..Default::default()
    };
    Cluster {
        name: "shop/cart/http".to_owned(),
        eds_cluster_config: Some(EdsClusterConfig {
            eds_config: Some(from.clone()),
            service_name: "cart".to_owned(),
        }),
        transport_socket: Some(upstream(from)),
        transport_socket_matches: vec![matched.clone(), matched],
        connection_pool_per_downstream_connection: true,
        ..Default::default()
    }
}

fn listener(from: &ConfigSource) -> Listener {
    let manager = HttpConnectionManager {
        stat_prefix: "outbound".to_owned(),
        route_specifier: Some(http_connection_manager::RouteSpecifier::Rds(Rds {
            config_source: Some(from.clone()),
            route_config_name: "outbound/shop".to_owned(),
        })),
        ..Default::default()
    };
    let filter = Filter {
        name: "envoy.filters.network.http_connection_manager".to_owned(),
        config_type: Some(filter::ConfigType::TypedConfig(packed(&manager))),
    };
    let chain = FilterChain {
        filters: vec![filter],
        transport_socket: Some(downstream(from)),
        name: "mesh".to_owned(),
        ..Default::default()
    };
    Listener {
        name: "inbound".to_owned(),
        filter_chains: vec![chain.clone(), chain.clone()],
        default_filter_chain: Some(chain),
        ..Default::default()
    }
}

fn applied(api_type: ApiType, kind: ResourceKind, body: Vec<u8>) -> Bytes {
    let cluster = ControlPlaneCluster::try_new("xds").unwrap();
    GrpcSource::new(api_type, cluster).applied(&Resource::new(kind, "r", body, vec![]))
}

#[test]
fn every_source_is_replaced_and_nothing_else() {
    for api_type in [ApiType::Grpc, ApiType::DeltaGrpc] {
        let wanted = api(api_type);
        let body = applied(api_type, ResourceKind::Cluster, cluster(&ads()).encode_to_vec());
        assert_eq!(Cluster::decode(body).unwrap(), cluster(&wanted));
        let body = applied(api_type, ResourceKind::Listener, listener(&ads()).encode_to_vec());
        assert_eq!(Listener::decode(body).unwrap(), listener(&wanted));
    }
}

/// A map of many entries is encoded in another order by each process that decodes it.
#[test]
fn bytes_around_the_sources_stay_as_they_are() {
    let filter_metadata: HashMap<_, _> = (0..40).map(|n| (format!("key{n}"), Struct::default())).collect();
    let metadata = Some(Metadata { filter_metadata, ..Default::default() });
    let plain = Cluster { metadata, ..Default::default() }.encode_to_vec();
    let source = cluster(&ads()).encode_to_vec();
    let body = applied(ApiType::Grpc, ResourceKind::Cluster, [&plain[..], &source, &plain].concat());
    let wanted = applied(ApiType::Grpc, ResourceKind::Cluster, source);
    assert_eq!(body, [&plain[..], &wanted, &plain].concat());
}

#[test]
fn what_names_no_source_is_shared() {
    let kept = [
        (ResourceKind::Cluster, cluster(&api(ApiType::Grpc)).encode_to_vec()),
        // The same bytes as in a cluster mean something else here.
        (ResourceKind::Endpoint, cluster(&ads()).encode_to_vec()),
        (ResourceKind::Secret, b"key".to_vec()),
        // No message at all: a length beyond the end, a group.
        (ResourceKind::Cluster, vec![0x1a, 0x7f, 1]),
        (ResourceKind::Cluster, vec![0x1b]),
        (ResourceKind::Listener, Vec::new()),
    ];
    for (kind, body) in kept {
        let resource = Resource::new(kind, "r", body, vec![]);
        let source = GrpcSource::new(ApiType::Grpc, ControlPlaneCluster::try_new("xds").unwrap());
        let applied = source.applied(&resource);
        assert_eq!(applied.as_ptr(), resource.body.as_ptr(), "{kind}");
    }
}

#[test]
fn only_a_tls_context_is_read_as_one() {
    let Some(transport_socket::ConfigType::TypedConfig(context)) = upstream(&ads()).config_type else {
        panic!("it has a configuration");
    };
    let other = socket(Any { type_url: "type.googleapis.com/other".to_owned(), ..context });
    let body = Cluster { transport_socket: Some(other), ..Default::default() }.encode_to_vec();
    assert_eq!(applied(ApiType::Grpc, ResourceKind::Cluster, body.clone()), body);
}

#[test]
fn names_of_clusters_are_bounded() {
    assert!(ControlPlaneCluster::try_new(&"x".repeat(MAX_CLUSTER_NAME)).is_ok());
    for bad in ["", "a\nb", &"x".repeat(MAX_CLUSTER_NAME + 1)] {
        assert!(ControlPlaneCluster::try_new(bad).is_err(), "{bad:?}");
    }
}
