//! Which versions of Envoy are served, in which form clients are told virtual hosts, and what older ones do not know.
//!
//! Every minor from [`OLDEST_ENVOY`] on is tested. What is older may take a part of its configuration, and a mesh that
//! half of a proxy understands is worse than a sentence that says so.

use envoy_types::pb::envoy::config::core::v3::node::UserAgentVersionType;
use weft_api::OLDEST_ENVOY;
use weft_api::names::{ACCESS_LOG_SERVICE_FEATURE, VIRTUAL_HOSTS_FEATURE};
use weft_policies::compile::RouteForm;
use weft_xds::server::{ServedTypes, Variant};
use weft_xds::transport::NodeClaim;
use weft_xds::transport::server::StreamKind;

/// An Envoy that is too old.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{agent} is too old: Envoy {}.{} is the oldest that this control plane serves; run that or a newer one",
    OLDEST_ENVOY.0,
    OLDEST_ENVOY.1
)]
pub struct TooOld {
    agent: String,
}

/// The oldest Envoy that takes virtual hosts by VHDS on the aggregated stream.
const OLDEST_ENVOY_WITH_VHDS: (u32, u32) = (1, 37);

/// How a client is told the virtual hosts of services. State of the world knows no VHDS, and on separate streams it would
/// have to be configured by the owner of the proxy.
pub fn route_form(node: &NodeClaim, stream: StreamKind) -> RouteForm {
    let knows = node.has_feature(VIRTUAL_HOSTS_FEATURE)
        || (node.user_agent() == "envoy"
            && version(node).is_some_and(|version| version >= OLDEST_ENVOY_WITH_VHDS));
    match (stream.variant, stream.served) {
        (Variant::Delta, ServedTypes::Aggregated) if knows => RouteForm::VirtualHosts,
        (Variant::Delta | Variant::Sotw, ServedTypes::Aggregated | ServedTypes::Only(_)) => RouteForm::Table,
    }
}

/// Whether a client takes listeners with access logs that go to an access log service. Envoy does; a weft-proxy says so.
pub fn knows_access_log_services(node: &NodeClaim) -> bool {
    node.user_agent() != "weft-proxy" || node.has_feature(ACCESS_LOG_SERVICE_FEATURE)
}

fn version(node: &NodeClaim) -> Option<(u32, u32)> {
    let Some(UserAgentVersionType::UserAgentBuildVersion(build)) = &node.node().user_agent_version_type
    else {
        return None;
    };
    build.version.as_ref().map(|version| (version.major_number, version.minor_number))
}

/// Checks what the client says of itself. Only Envoy has an oldest version, and only one that tells it is known to be older.
///
/// # Errors
/// When it is older than [`OLDEST_ENVOY`].
pub fn check(node: &NodeClaim) -> Result<(), TooOld> {
    if node.user_agent() != "envoy" {
        return Ok(());
    }
    match version(node) {
        Some(version) if version < OLDEST_ENVOY => Err(TooOld { agent: node.agent() }),
        Some(_) | None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use envoy_types::pb::envoy::config::core::v3::{BuildVersion, Node};
    use envoy_types::pb::envoy::r#type::v3::SemanticVersion;

    use super::*;

    fn node(agent: &str, version: Option<(u32, u32)>) -> NodeClaim {
        let semantic =
            |(major_number, minor_number)| SemanticVersion { major_number, minor_number, patch: 1 };
        let build = BuildVersion { version: version.map(semantic), ..Default::default() };
        NodeClaim::try_new(Some(Node {
            id: "shop/web-1".to_owned(),
            user_agent_name: agent.to_owned(),
            user_agent_version_type: Some(UserAgentVersionType::UserAgentBuildVersion(build)),
            ..Default::default()
        }))
        .unwrap()
    }

    #[test]
    fn older_envoy_is_refused_with_both_versions() {
        let (major, minor) = OLDEST_ENVOY;
        let refused = check(&node("envoy", Some((major, minor - 1)))).unwrap_err().to_string();
        assert!(refused.contains(&format!("envoy {major}.{}.1", minor - 1)), "{refused}");
        assert!(refused.contains(&format!("Envoy {major}.{minor} is the oldest")), "{refused}");
        for served in [
            node("envoy", Some(OLDEST_ENVOY)),
            node("envoy", Some((major + 1, 0))),
            node("envoy", None),
            node("gRPC Go", Some((1, 1))),
        ] {
            assert_eq!(check(&served), Ok(()));
        }
    }

    #[test]
    fn weft_proxy_of_before_the_access_log_service_is_known_by_what_it_does_not_say() {
        let mut new = node("weft-proxy", None).node().clone();
        new.client_features.push(ACCESS_LOG_SERVICE_FEATURE.to_owned());
        assert!(knows_access_log_services(&NodeClaim::try_new(Some(new)).unwrap()));
        assert!(knows_access_log_services(&node("envoy", Some(OLDEST_ENVOY))));
        assert!(!knows_access_log_services(&node("weft-proxy", None)));
    }
}
