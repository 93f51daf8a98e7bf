//! What the proxy starts from: an Envoy bootstrap file, or the membership of a joined workload.
//!
//! Both become the same [`Bootstrap`]: who this node is, what is configured statically, where the rest comes
//! from, and where health reports and statistics go.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use envoy_types::pb::envoy::config::bootstrap::v3::Bootstrap as PbBootstrap;
use envoy_types::pb::envoy::config::cluster::v3::Cluster;
use envoy_types::pb::envoy::config::core::v3::node::UserAgentVersionType;
use envoy_types::pb::envoy::config::core::v3::{DataSource, Locality, Node, data_source};
use envoy_types::pb::envoy::config::listener::v3::Listener;
use envoy_types::pb::envoy::extensions::transport_sockets::tls::v3::{
    CertificateValidationContext, Secret, secret,
};
use weft_api::names::{ACCESS_LOG_SERVICE_FEATURE, SYSTEM_ROOTS_SECRET, VIRTUAL_HOSTS_FEATURE};
use weft_routing::rejection::Rejection;

mod envoy;
pub mod link;

/// What a control plane of before would not know of this proxy.
const FEATURES: [&str; 2] = [VIRTUAL_HOSTS_FEATURE, ACCESS_LOG_SERVICE_FEATURE];

/// Where the proxy starts.
#[derive(Debug, Clone)]
pub struct Bootstrap {
    /// Who this is, as told to the control plane.
    pub node: Node,
    /// Where the admin endpoints listen, if the file says.
    pub admin: Option<SocketAddr>,
    /// Resources in the file.
    pub listeners: Vec<Listener>,
    /// Resources in the file.
    pub clusters: Vec<Cluster>,
    /// Resources in the file.
    pub secrets: Vec<Secret>,
    /// Where listeners come from.
    pub listener_source: Option<ListSource>,
    /// Where clusters come from.
    pub cluster_source: Option<ListSource>,
    /// The stream, where some source is it.
    pub ads: Option<DiscoveryStream>,
    /// Where health checks are ordered and reported.
    pub health: Option<GrpcTarget>,
    /// Where statistics are pushed.
    pub metrics: Option<MetricsSink>,
    /// The file as JSON, for `/config_dump`.
    pub shown: serde_json::Value,
    /// Fields of the file that have no effect.
    pub ignored: Vec<String>,
}

/// Where a whole list (LDS, CDS) comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ListSource {
    Ads,
    /// A file with a discovery response.
    File(PathBuf),
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DiscoveryStream {
    pub variant: DiscoveryVariant,
    pub target: GrpcTarget,
}

/// The two forms of the discovery protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DiscoveryVariant {
    /// State of the world.
    Sotw,
    Delta,
}

/// Who answers a gRPC call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum GrpcTarget {
    /// The control plane that was joined.
    ControlPlane,
    /// A cluster of the file.
    Cluster(String),
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MetricsSink {
    pub target: GrpcTarget,
    /// `stats_flush_interval`.
    pub interval: Duration,
    /// `report_counters_as_deltas`.
    pub counters: CounterReports,
    /// `emit_tags_as_labels`.
    pub naming: MetricNaming,
}

/// How counters are reported.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CounterReports {
    /// Counted since the start.
    Totals,
    /// Since the last report.
    Deltas,
}

/// How series are named.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MetricNaming {
    Full,
    /// The name without the parts that become labels.
    Labelled,
}

/// Why a bootstrap file cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum BootstrapError {
    /// The file cannot be read.
    #[error("{path}: {source}")]
    Io { path: PathBuf, source: std::io::Error },
    /// It is neither YAML nor JSON, or has fields that a bootstrap has not.
    #[error("{path}: {reason}")]
    Syntax { path: PathBuf, reason: String },
    /// A field is not supported or wrong.
    #[error("{path}: {rejection}")]
    Field {
        path: PathBuf,
        /// Which field, and why.
        rejection: Rejection,
    },
}

impl Bootstrap {
    /// Reads an Envoy bootstrap, YAML or JSON.
    ///
    /// # Errors
    /// When it cannot be read, or says something that this proxy cannot do; the message names file and field.
    pub fn load(path: &Path) -> Result<Self, BootstrapError> {
        let text = std::fs::read_to_string(path)
            .map_err(|source| BootstrapError::Io { path: path.to_owned(), source })?;
        Self::parse(&text).map_err(|error| match error {
            ParseError::Syntax(reason) => BootstrapError::Syntax { path: path.to_owned(), reason },
            ParseError::Field(rejection) => BootstrapError::Field { path: path.to_owned(), rejection },
        })
    }

    fn parse(text: &str) -> Result<Self, ParseError> {
        // JSON is YAML too; one reader takes both.
        let document: serde_json::Value =
            serde_yaml::from_str(text).map_err(|error| ParseError::Syntax(error.to_string()))?;
        let message: PbBootstrap =
            weft_api::json::from_json(&document).map_err(|error| ParseError::Syntax(error.to_string()))?;
        let mut bootstrap = envoy::decode(message).map_err(ParseError::Field)?;
        bootstrap.shown = weft_api::json::redacted(document);
        Ok(bootstrap)
    }

    /// What a joined workload starts from: everything comes from the control plane.
    #[must_use]
    pub fn joined(
        membership: &crate::identity::Membership,
        locality: Option<&crate::args::LocalityFlag>,
    ) -> Self {
        let node = Node {
            id: membership.workload.to_string(),
            cluster: membership.service.to_string(),
            locality: locality.map(|given| Locality {
                region: given.region.clone(),
                zone: given.zone.clone(),
                ..Locality::default()
            }),
            ..Node::default()
        };
        Self {
            node: introduced(node),
            admin: None,
            listeners: Vec::new(),
            clusters: Vec::new(),
            secrets: system_roots().into_iter().collect(),
            listener_source: Some(ListSource::Ads),
            cluster_source: Some(ListSource::Ads),
            ads: Some(DiscoveryStream { variant: DiscoveryVariant::Delta, target: GrpcTarget::ControlPlane }),
            health: Some(GrpcTarget::ControlPlane),
            metrics: Some(MetricsSink {
                target: GrpcTarget::ControlPlane,
                interval: Duration::from_secs(5),
                counters: CounterReports::Totals,
                naming: MetricNaming::Full,
            }),
            shown: serde_json::Value::Null,
            ignored: Vec::new(),
        }
    }
}

/// What servers outside of the mesh are verified by; nothing on a machine that trusts nobody.
fn system_roots() -> Option<Secret> {
    let file = weft_api::system_roots::file().filter(|file| std::fs::File::open(file).is_ok())?;
    let filename = file.to_str()?.to_owned();
    let roots =
        DataSource { specifier: Some(data_source::Specifier::Filename(filename)), ..Default::default() };
    let context = CertificateValidationContext { trusted_ca: Some(roots), ..Default::default() };
    Some(Secret {
        name: SYSTEM_ROOTS_SECRET.to_owned(),
        r#type: Some(secret::Type::ValidationContext(context)),
    })
}

/// The node, with the name and version of this program and what it can do besides taking Envoy's resources.
fn introduced(mut node: Node) -> Node {
    for feature in FEATURES {
        if !node.client_features.iter().any(|known| known == feature) {
            node.client_features.push(feature.to_owned());
        }
    }
    node.user_agent_name = "weft-proxy".to_owned();
    node.user_agent_version_type =
        Some(UserAgentVersionType::UserAgentVersion(env!("CARGO_PKG_VERSION").to_owned()));
    node
}

#[derive(Debug)]
enum ParseError {
    Syntax(String),
    Field(Rejection),
}

#[cfg(test)]
mod tests {
    use super::*;

    const ADS: &str = r#"
node: {id: shop/web-1, cluster: shop/web}
admin: {address: {socket_address: {address: 127.0.0.1, port_value: 15000}}}
dynamic_resources:
  lds_config: {ads: {}, resource_api_version: V3}
  cds_config: {ads: {}, resource_api_version: V3}
  ads_config:
    api_type: DELTA_GRPC
    transport_api_version: V3
    grpc_services: [{envoy_grpc: {cluster_name: control-plane}}]
stats_flush_interval: 2s
stats_sinks:
- name: metrics
  typed_config:
    "@type": type.googleapis.com/envoy.config.metrics.v3.MetricsServiceConfig
    transport_api_version: V3
    grpc_service: {envoy_grpc: {cluster_name: control-plane}}
hds_config:
  api_type: GRPC
  transport_api_version: V3
  grpc_services: [{envoy_grpc: {cluster_name: control-plane}}]
static_resources:
  clusters:
  - name: control-plane
    type: STATIC
    load_assignment:
      cluster_name: control-plane
      endpoints: [{lb_endpoints: [{endpoint: {address: {socket_address: {address: 127.0.0.1, port_value: 7401}}}}]}]
"#;

    #[test]
    fn reads_the_bootstrap_of_a_sidecar() {
        let bootstrap = Bootstrap::parse(ADS).unwrap();
        assert_eq!(bootstrap.node.id, "shop/web-1");
        assert_eq!(bootstrap.node.user_agent_name, "weft-proxy");
        assert_eq!(bootstrap.node.client_features, FEATURES);
        assert_eq!(bootstrap.admin, Some("127.0.0.1:15000".parse().unwrap()));
        let target = GrpcTarget::Cluster("control-plane".to_owned());
        assert_eq!(
            bootstrap.ads,
            Some(DiscoveryStream { variant: DiscoveryVariant::Delta, target: target.clone() })
        );
        assert_eq!(bootstrap.listener_source, Some(ListSource::Ads));
        assert_eq!(bootstrap.health, Some(target.clone()));
        let metrics = bootstrap.metrics.unwrap();
        assert_eq!((metrics.target, metrics.interval), (target, Duration::from_secs(2)));
        assert_eq!(bootstrap.clusters.len(), 1);
    }

    #[test]
    fn reads_json_and_files_as_sources() {
        let text =
            r#"{"dynamic_resources": {"cds_config": {"path_config_source": {"path": "/x/cds.yaml"}}}}"#;
        let bootstrap = Bootstrap::parse(text).unwrap();
        assert_eq!(bootstrap.cluster_source, Some(ListSource::File("/x/cds.yaml".into())));
        assert_eq!((bootstrap.listener_source, bootstrap.ads), (None, None));
    }

    #[test]
    fn an_unknown_field_is_named() {
        let error = Bootstrap::parse("static_resources: {listners: []}").unwrap_err();
        assert!(matches!(&error, ParseError::Syntax(reason) if reason.contains("listners")), "{error:?}");
    }

    #[test]
    fn what_cannot_be_done_is_named() {
        for (text, field) in [
            (ADS.replace("cluster_name: control-plane}}]\n", "cluster_name: nobody}}]\n"), "ads_config"),
            ("dynamic_resources: {cds_config: {ads: {}}}".to_owned(), "dynamic_resources.ads_config"),
            ("admin: {address: {pipe: {path: /x}}}".to_owned(), "admin.address"),
        ] {
            match Bootstrap::parse(&text) {
                Err(ParseError::Field(rejection)) => {
                    assert!(rejection.field.contains(field), "{rejection}");
                }
                other => panic!("{field}: {other:?}"),
            }
        }
    }
}
