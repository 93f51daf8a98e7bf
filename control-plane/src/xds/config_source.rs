//! Where an Envoy that takes each type on a stream of its own has its endpoints, routes and secrets from.

use envoy_types::pb::google::protobuf::value::Kind;
use weft_api::names::{CONTROL_PLANE_CLUSTER, CONTROL_PLANE_CLUSTER_FIELD};
use weft_xds::server::ServedTypes;
use weft_xds::source::{ControlPlaneCluster, InvalidClusterName};
use weft_xds::transport::NodeClaim;

/// It says something else than the name of a cluster.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "node.metadata has {CONTROL_PLANE_CLUSTER_FIELD}, which is to be the name of the control plane's cluster: {0}"
)]
pub struct NoCluster(String);

impl From<InvalidClusterName> for NoCluster {
    fn from(error: InvalidClusterName) -> Self {
        Self(error.to_string())
    }
}

/// The client's cluster of the control plane, where it may have no aggregated stream with it: what its node says, or the
/// name that `weft proxy bootstrap` gives.
///
/// # Errors
/// When the node says something that is no name of a cluster.
pub fn separate(node: &NodeClaim, served: ServedTypes) -> Result<Option<ControlPlaneCluster>, NoCluster> {
    match served {
        ServedTypes::Aggregated => return Ok(None),
        ServedTypes::Only(_) => {}
    }
    let metadata = node.node().metadata.as_ref();
    let named = metadata.and_then(|metadata| metadata.fields.get(CONTROL_PLANE_CLUSTER_FIELD));
    let name = match named.map(|value| &value.kind) {
        None => CONTROL_PLANE_CLUSTER,
        Some(Some(Kind::StringValue(name))) => name,
        Some(_) => return Err(NoCluster("it is no string".to_owned())),
    };
    Ok(Some(ControlPlaneCluster::try_new(name)?))
}

#[cfg(test)]
mod tests {
    use envoy_types::pb::envoy::config::core::v3::Node;
    use envoy_types::pb::google::protobuf::{Struct, Value};
    use weft_api::ResourceKind;

    use super::*;

    const CDS: ServedTypes = ServedTypes::Only(ResourceKind::Cluster);

    fn node(kind: Option<Kind>) -> NodeClaim {
        let entry = |kind| (CONTROL_PLANE_CLUSTER_FIELD.to_owned(), Value { kind: Some(kind) });
        let metadata = kind.map(|kind| Struct { fields: [entry(kind)].into() });
        NodeClaim::try_new(Some(Node { id: "shop/web-1".to_owned(), metadata, ..Default::default() }))
            .unwrap()
    }

    fn name(text: &str) -> Option<ControlPlaneCluster> {
        Some(ControlPlaneCluster::try_new(text).unwrap())
    }

    #[test]
    fn separate_streams_name_the_cluster_that_the_node_tells_or_the_usual_one() {
        let own = node(Some(Kind::StringValue("mesh-xds".to_owned())));
        assert_eq!(separate(&own, CDS), Ok(name("mesh-xds")));
        assert_eq!(separate(&own, ServedTypes::Aggregated), Ok(None));
        assert_eq!(separate(&node(None), CDS), Ok(name("weft_control_plane")));
    }

    #[test]
    fn refuses_what_can_not_name_a_cluster() {
        for bad in
            [Kind::NumberValue(1.0), Kind::StringValue(String::new()), Kind::StringValue("x".repeat(129))]
        {
            let refused = separate(&node(Some(bad)), CDS).unwrap_err().to_string();
            assert!(refused.contains("weft.control_plane_cluster"), "{refused}");
        }
    }
}
