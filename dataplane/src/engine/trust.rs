//! Live connections after a trust bundle, a revocation list or the names that are accepted changed.

use std::rc::{Rc, Weak};
use std::sync::Arc;
use std::time::Duration;

use super::chain::ChainState;
use super::held::{Ending, Held};
use super::worker::Worker;
use crate::runtime::{PeerCertificate, RevocationLists, Runtime, Terminal, Transport, TrustChange, revoked};

/// What is under way with a peer that is refused now may take this long: it hears of the end first. No peer is served
/// for more than 10 s after the list that names it has come.
pub(super) const GRACE: Duration = Duration::from_secs(5);

/// Ends connections whose peer would be refused now, on either side. Where nothing of this changed, nothing is looked at.
pub(super) fn recheck(worker: &Rc<Worker>, chains: &[Rc<ChainState>], old: &Runtime, new: &Runtime) {
    let lists = Lists::of(new);
    let are_new = lists.are_news_to(&Lists::of(old));
    recheck_clients(worker, chains, are_new.then_some(&lists));
    let secured_anew = new.clusters.iter().any(|(name, config)| {
        let before = old.clusters.get(name);
        before.is_some_and(|before| transports_differ(&before.transports, &config.transports))
    });
    if secured_anew || are_new {
        worker.servers.check(worker, &lists);
    }
}

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

    fn are_news_to(&self, old: &Self) -> bool {
        self.0.iter().any(|lists| !old.0.iter().any(|known| known.digest() == lists.digest()))
    }

    /// Why somebody is not to be trusted any more, by any of them.
    pub(super) fn refusal(&self, peer: &PeerCertificate) -> Option<String> {
        self.0.iter().any(|lists| lists.revoke(&peer.issued)).then(revoked)
    }
}

fn recheck_clients(worker: &Rc<Worker>, chains: &[Rc<ChainState>], news: Option<&Lists>) {
    let changed: Vec<&Rc<ChainState>> =
        chains.iter().filter(|chain| chain.trust_change() != TrustChange::Nothing).collect();
    if changed.is_empty() && news.is_none() {
        return;
    }
    let mut ending = Vec::new();
    worker.connections.each(|held| {
        let Some(peer) = held.facts.peer_certificate() else { return };
        let live = chains.iter().any(|chain| Rc::ptr_eq(chain, &held.chain));
        let reason =
            if live { refusal(&held.chain, peer) } else { news.and_then(|lists| lists.refusal(peer)) };
        let Some(reason) = reason else { return };
        note_client(worker, held, peer, &reason);
        match held.chain.view().chain.terminal {
            Terminal::Http(_) => held.end(Ending::Finish),
            Terminal::Tcp(_) => held.end(Ending::Cut),
        }
        ending.push(held.facts.id);
    });
    changed.iter().for_each(|chain| chain.trust_settled());
    if ending.is_empty() {
        return;
    }
    let ending = worker.connections.select(|held| ending.contains(&held.facts.id));
    tokio::task::spawn_local(async move {
        tokio::time::sleep(GRACE).await;
        ending.iter().filter_map(Weak::upgrade).for_each(|held| held.end(Ending::Cut));
    });
}

fn refusal(chain: &ChainState, peer: &PeerCertificate) -> Option<String> {
    chain.view().chain.tls.as_ref()?.refusal(peer, chain.trust_change())
}

/// Says whose connections end, and why.
pub(super) fn note_client(worker: &Worker, held: &Held, peer: &PeerCertificate, reason: &str) {
    let (address, peer) = (held.facts.peer.ip(), peer.described());
    worker.repeats.note(&peer, reason, |unsaid| {
        tracing::warn!(%address, %peer, reason, unsaid, "connections of a client that is not trusted any more end");
    });
}

fn transports_differ(one: &[Transport], other: &[Transport]) -> bool {
    one.len() != other.len()
        || one.iter().zip(other).any(|pair| match pair {
            (Transport::Plaintext, Transport::Plaintext) => false,
            (Transport::Tls(a), Transport::Tls(b)) => !Arc::ptr_eq(a, b),
            (Transport::Plaintext, Transport::Tls(_)) | (Transport::Tls(_), Transport::Plaintext) => true,
        })
}
