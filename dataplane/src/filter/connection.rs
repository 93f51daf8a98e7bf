//! Filters on connections: what they say before the chain's terminal serves.

use weft_routing::metadata::KnownMetadata;
use weft_routing::rbac::Attributes;

use super::rbac::run::refusal;
use crate::engine::connection::Facts;
use crate::engine::local::Local;
use crate::runtime::NetworkFilter;

/// Whether all filters let a connection in.
///
/// # Errors
/// The details of the refusal.
pub(crate) fn admit(filters: &[NetworkFilter], worker: &Local, facts: &Facts) -> Result<(), String> {
    filters.iter().try_for_each(|filter| match filter {
        NetworkFilter::Rbac { rbac, stats } => {
            let attributes = Attributes {
                upstream: &[],
                metadata: KnownMetadata::All(None),
                peer: facts.peer_certificate().map(|peer| &peer.names),
                server_name: facts.server_name(),
                local: facts.local,
                direct_remote: facts.peer.ip(),
                remote: facts.peer.ip(),
                request: None,
            };
            let (shadow, verdict) = (rbac.evaluate_shadow(&attributes), rbac.evaluate(&attributes));
            let refusal = refusal(&worker.shard, stats, shadow, verdict);
            let Some(verdict) = refusal else { return Ok(()) };
            let details = verdict.details().to_string();
            tracing::debug!(peer = %facts.peer, details, "connection denied");
            Err(details)
        }
    })
}
