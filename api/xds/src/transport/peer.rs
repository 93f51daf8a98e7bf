//! Who is at the other end: what the certificate proves, and what the node message claims.

use std::sync::Arc;

use weft_api::names::{ServiceId, SpiffeId, WorkloadId};

use crate::sanitize;
use crate::server::EmptyFirst;
use crate::wire::Node;

/// What the peer's certificate proves. The code that accepts TLS connections puts it into the extensions of
/// every request; a request without it is not answered.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PeerIdentity {
    /// The certificate's URI SAN.
    pub spiffe: SpiffeId,
    /// The workload that the certificate's DNS SAN names.
    pub workload: Option<WorkloadId>,
    /// The service that the URI SAN names; none for a control plane.
    pub service: Option<ServiceId>,
    /// Which joining of the workload the certificate belongs to; none where nobody keeps track of that. A workload's name
    /// outlives its instances: what is bound to one of them asks for this.
    pub instance: Option<Arc<str>>,
}

/// What the first message of a stream says about its sender. A claim: compare it with the [`PeerIdentity`] (S1).
#[derive(Clone, PartialEq, Debug)]
pub struct NodeClaim(Node);

impl NodeClaim {
    /// Reads the node of a first message; none, or one without an id, is no claim.
    #[must_use]
    pub fn try_new(node: Option<Node>) -> Option<Self> {
        node.filter(|node| !node.id.is_empty()).map(Self)
    }

    /// `node.id`, by which the node names itself; never empty.
    #[must_use]
    pub fn id(&self) -> &str {
        &self.0.id
    }

    /// `node.cluster`, the service that the node says it is of; empty where it says none.
    #[must_use]
    pub fn cluster(&self) -> &str {
        &self.0.cluster
    }

    /// `node.user_agent_name`, for example `envoy` or `gRPC Go`
    #[must_use]
    pub fn user_agent(&self) -> &str {
        &self.0.user_agent_name
    }

    /// Name and version of the client in one short line, for example `envoy 1.40.0`: fit to be kept, logged and shown
    /// whatever the client sent.
    #[must_use]
    pub fn agent(&self) -> String {
        use envoy_types::pb::envoy::config::core::v3::node::UserAgentVersionType;
        let version = match &self.0.user_agent_version_type {
            Some(UserAgentVersionType::UserAgentVersion(version)) => version.clone(),
            Some(UserAgentVersionType::UserAgentBuildVersion(build)) => build
                .version
                .as_ref()
                .map(|v| format!("{}.{}.{}", v.major_number, v.minor_number, v.patch))
                .unwrap_or_default(),
            None => String::new(),
        };
        sanitize::label(format!("{} {version}", self.0.user_agent_name).trim())
    }

    /// `node.id` in one short line, for what is said about it.
    #[must_use]
    pub fn shown_id(&self) -> String {
        sanitize::label(&self.0.id)
    }

    /// The whole message: locality, metadata, build version, client features.
    #[must_use]
    pub fn node(&self) -> &Node {
        &self.0
    }

    /// Whether the client declares a feature, for example `xds.config.supports-resource-ttl`.
    #[must_use]
    pub fn has_feature(&self, feature: &str) -> bool {
        self.0.client_features.iter().any(|declared| declared == feature)
    }

    /// U2: gRPC never means everything by an empty list.
    #[must_use]
    pub fn empty_first(&self) -> EmptyFirst {
        let agent = self.user_agent().as_bytes();
        let is_grpc = agent.get(..4).is_some_and(|start| start.eq_ignore_ascii_case(b"grpc"));
        if is_grpc { EmptyFirst::Nothing } else { EmptyFirst::Wildcard }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn s1_a_node_without_an_id_is_no_claim() {
        assert!(NodeClaim::try_new(None).is_none());
        assert!(NodeClaim::try_new(Some(Node::default())).is_none());
        assert_eq!(
            NodeClaim::try_new(Some(Node { id: "a/b".into(), ..Default::default() })).unwrap().id(),
            "a/b"
        );
    }

    #[test]
    fn d7_what_a_node_calls_itself_is_one_short_harmless_line() {
        use envoy_types::pb::envoy::config::core::v3::node::UserAgentVersionType::UserAgentVersion;
        let node = |agent: &str, version: &str| Node {
            id: "a/b\u{1b}[31m".into(),
            user_agent_name: agent.into(),
            user_agent_version_type: Some(UserAgentVersion(version.into())),
            ..Default::default()
        };
        let claim = NodeClaim::try_new(Some(node("envoy\n", "1.40.0"))).unwrap();
        assert_eq!(claim.agent(), "envoy  1.40.0");
        assert_eq!(claim.shown_id(), "a/b\u{fffd}[31m");
        let claim = NodeClaim::try_new(Some(node(&"x".repeat(3 << 20), "1"))).unwrap();
        assert!(claim.agent().len() <= 256);
    }

    #[test]
    fn u2_grpc_clients_never_mean_everything_by_an_empty_list() {
        let claim = |agent: &str| {
            let node = Node { id: "a/b".into(), user_agent_name: agent.into(), ..Default::default() };
            NodeClaim::try_new(Some(node)).unwrap().empty_first()
        };
        assert_eq!(claim("gRPC Go"), EmptyFirst::Nothing);
        assert_eq!(claim("envoy"), EmptyFirst::Wildcard);
        assert_eq!(claim(""), EmptyFirst::Wildcard);
    }
}
