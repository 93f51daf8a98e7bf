//! Live connections after a trust bundle, a revocation list or the names that are accepted changed.

use std::rc::{Rc, Weak};
use std::time::Duration;

use super::chain::ChainState;
use super::held::{Ending, Held};
use super::worker::Worker;
use crate::runtime::{PeerCertificate, Runtime, Terminal, Transport, TrustChange};

/// What is under way with a peer that is refused now may take this long: it hears of the end first. No peer is served
/// for more than 10 s after it was revoked.
pub(super) const GRACE: Duration = Duration::from_secs(5);

/// Ends connections whose peer would be refused now, on either side. Where nothing of this changed, nothing is looked at.
pub(super) fn recheck(worker: &Rc<Worker>, chains: &[Rc<ChainState>], old: &Runtime, new: &Runtime) {
    recheck_clients(worker, chains);
    let secured_anew = new.clusters.iter().any(|(name, config)| {
        let before = old.clusters.get(name);
        before.is_some_and(|before| transports_differ(&before.transports, &config.transports))
    });
    if secured_anew {
        worker.servers.check(worker);
    }
}

fn recheck_clients(worker: &Rc<Worker>, chains: &[Rc<ChainState>]) {
    let changed: Vec<&Rc<ChainState>> =
        chains.iter().filter(|chain| chain.trust_change() != TrustChange::Nothing).collect();
    if changed.is_empty() {
        return;
    }
    let mut ending = Vec::new();
    worker.connections.each(|held| {
        let Some(peer) = held.facts.peer_certificate() else { return };
        let live = chains.iter().any(|chain| Rc::ptr_eq(chain, &held.chain));
        let reason = if live { refusal(&held.chain, peer) } else { revoked_by_any(&changed, peer) };
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

/// Connections of a chain that is gone go on for a while, with nobody to bring them a new list: any list will do, since it
/// says by itself whose certificates it is about.
fn revoked_by_any(changed: &[&Rc<ChainState>], peer: &PeerCertificate) -> Option<String> {
    changed.iter().find_map(|chain| {
        let view = chain.view();
        view.chain.tls.as_ref()?.refusal(peer, TrustChange::Revocations)
    })
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
            (Transport::Tls(a), Transport::Tls(b)) => !std::sync::Arc::ptr_eq(a, b),
            (Transport::Plaintext, Transport::Tls(_)) | (Transport::Tls(_), Transport::Plaintext) => true,
        })
}
