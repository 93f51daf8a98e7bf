//! Who is trusted, after a trust bundle, a revocation list or the names that are accepted changed: what both sides of
//! the proxy look at.

pub(super) mod clients;
pub(super) mod servers;

use std::sync::Arc;
use std::time::Duration;

use crate::peer::PeerCertificate;
use crate::runtime::{RevocationLists, Runtime, revoked};

/// What is under way with a peer that is refused now may take this long: it hears of the end first. No peer is served
/// for more than 10 s after the list that names it has come.
pub(super) const GRACE: Duration = Duration::from_secs(5);

/// The revocation lists of all contexts, each once. A list says by itself whose certificates it is about: connections whose
/// own context is gone, and which go on for a while, are looked up on any.
#[derive(Debug, Default)]
pub(super) struct Lists(Vec<Arc<RevocationLists>>);

impl Lists {
    pub(super) fn of(runtime: &Runtime) -> Self {
        let mut all = Self::default();
        for chain in runtime.listeners.values().flat_map(|listener| &listener.filter_chains) {
            all.add(chain.tls.as_ref().and_then(|tls| tls.revocations()));
        }
        for transport in runtime.clusters.values().flat_map(|cluster| &cluster.transports) {
            all.add(transport.tls().and_then(|tls| tls.revocations()));
        }
        all
    }

    fn add(&mut self, lists: Option<&Arc<RevocationLists>>) {
        let Some(lists) = lists.filter(|lists| !lists.is_empty()) else { return };
        if !self.0.iter().any(|known| Arc::ptr_eq(known, lists) || known.digest() == lists.digest()) {
            self.0.push(Arc::clone(lists));
        }
    }

    /// Whether there is a list here that `old` does not have.
    pub(super) fn are_news_to(&self, old: &Self) -> bool {
        self.0.iter().any(|lists| !old.0.iter().any(|known| known.digest() == lists.digest()))
    }

    /// Why somebody is not to be trusted any more, by any of them.
    pub(super) fn refusal(&self, peer: &PeerCertificate) -> Option<String> {
        self.0.iter().any(|lists| lists.revoke(&peer.issued)).then(revoked)
    }
}
