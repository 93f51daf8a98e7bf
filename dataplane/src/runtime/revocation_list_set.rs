//! The revocation lists of a whole configuration, gathered once, where it is built.

use std::sync::Arc;

use imbl::ordmap::DiffItem;

use super::Runtime;
use super::cluster::Cluster;
use super::listener::Listener;
use super::revocation::RevocationLists;
use super::verify::revoked;
use crate::peer::PeerCertificate;

/// The revocation lists of all contexts, each once. A list says by itself whose certificates it is about: connections whose
/// own context is gone, and which go on for a while, are looked up on any.
#[derive(Debug, Default)]
pub struct RevocationListSet(Vec<Arc<RevocationLists>>);

impl RevocationListSet {
    fn of(runtime: &Runtime) -> Self {
        let of_listeners = runtime.listeners.values().flat_map(|listener| of_listener(listener));
        let of_clusters = runtime.clusters.values().flat_map(|cluster| of_cluster(cluster));
        let mut all = Self::default();
        for lists in of_listeners.chain(of_clusters) {
            if !all.has(lists) {
                all.0.push(Arc::clone(lists));
            }
        }
        all
    }

    fn has(&self, lists: &Arc<RevocationLists>) -> bool {
        self.0.iter().any(|known| Arc::ptr_eq(known, lists) || known.digest() == lists.digest())
    }

    /// Whether there is a list here that `old` does not have.
    pub(crate) fn is_news_to(&self, old: &Self) -> bool {
        !std::ptr::eq(self, old) && self.0.iter().any(|lists| !old.has(lists))
    }

    /// Why somebody is not to be trusted any more, by any of them.
    pub(crate) fn refusal(&self, peer: &PeerCertificate) -> Option<String> {
        self.0.iter().any(|lists| lists.revoke(&peer.issued)).then(revoked)
    }
}

impl Runtime {
    /// Takes note of the revocation lists of its contexts. Of what stands in `before` too nothing is looked at.
    ///
    /// A list whose last context went stays until others change: it is still true.
    pub fn gather_revocations(&mut self, before: &Self) {
        let known = &before.revocations;
        let listeners = before.listeners.diff(&self.listeners).all(|change| match change {
            DiffItem::Add(_, new) => of_listener(new).all(|lists| known.has(lists)),
            DiffItem::Update { old: (_, old), new: (_, new) } => {
                are_equal(of_listener(old), of_listener(new))
            }
            DiffItem::Remove(..) => true,
        });
        let clusters = before.clusters.diff(&self.clusters).all(|change| match change {
            DiffItem::Add(_, new) => of_cluster(new).all(|lists| known.has(lists)),
            DiffItem::Update { old: (_, old), new: (_, new) } => are_equal(of_cluster(old), of_cluster(new)),
            DiffItem::Remove(..) => true,
        });
        self.revocations = match listeners && clusters {
            true => Arc::clone(known),
            false => Arc::new(RevocationListSet::of(self)),
        };
    }
}

fn of_listener(listener: &Listener) -> impl Iterator<Item = &Arc<RevocationLists>> {
    let chains = listener.filter_chains.iter().chain(&listener.default_filter_chain);
    let lists = chains.filter_map(|chain| chain.tls.as_ref()?.revocations());
    lists.filter(|lists| !lists.is_empty())
}

fn of_cluster(cluster: &Cluster) -> impl Iterator<Item = &Arc<RevocationLists>> {
    let lists = cluster.transports.iter().filter_map(|transport| transport.tls()?.revocations());
    lists.filter(|lists| !lists.is_empty())
}

fn are_equal<'a>(
    one: impl Iterator<Item = &'a Arc<RevocationLists>>,
    other: impl Iterator<Item = &'a Arc<RevocationLists>>,
) -> bool {
    one.map(|lists| lists.digest()).eq(other.map(|lists| lists.digest()))
}
