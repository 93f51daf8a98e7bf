//! Judges a request.

use http::StatusCode;
use weft_routing::metadata::KnownMetadata;
use weft_routing::rbac::{Attributes, RbacDecision};

use super::super::Override;
use super::super::request::{Flow, Request};
use super::Rbac;
use crate::engine::reply::Reply;
use crate::stats::{RbacStats, Shard};

impl Rbac {
    pub(in super::super) fn on_request(&self, request: &Request<'_>, special: Option<&Override>) -> Flow {
        let rbac = special.and_then(Override::rbac).unwrap_or(&self.rbac);
        let stream = &request.stream;
        let facts = &stream.connection.downstream.facts;
        let attributes = Attributes {
            peer: facts.peer_certificate().map(|peer| &peer.names),
            server_name: facts.server_name(),
            local: facts.local,
            direct_remote: facts.peer.ip(),
            remote: request.remote,
            upstream: stream.host.as_ref().map_or(&[], |host| &host.addresses),
            metadata: KnownMetadata::All(stream.metadata.as_deref()),
            request: Some(request.head()),
        };
        let (shadow, verdict) = (rbac.evaluate_shadow(&attributes), rbac.evaluate(&attributes));
        match refusal(&stream.connection.worker.shard, &self.stats, shadow, verdict) {
            None => Flow::Continue,
            Some(verdict) => {
                let denied = Reply::new(StatusCode::FORBIDDEN, verdict.details().to_string());
                Flow::Reply(Box::new(denied.body("RBAC: access denied")))
            }
        }
    }
}

/// Counts what the rules say, and answers the verdict where it refuses.
pub(in super::super) fn refusal<'a>(
    shard: &Shard,
    stats: &RbacStats,
    shadow: Option<RbacDecision<'a>>,
    verdict: Option<RbacDecision<'a>>,
) -> Option<RbacDecision<'a>> {
    if let Some(shadow) = shadow {
        shard.inc(if shadow.allowed { stats.shadow_allowed } else { stats.shadow_denied });
    }
    let verdict = verdict?;
    shard.inc(if verdict.allowed { stats.allowed } else { stats.denied });
    (!verdict.allowed).then_some(verdict)
}
