//! Connections of clients that are not trusted any more end.

use std::rc::{Rc, Weak};

use super::super::chain::ChainState;
use super::super::held::{Ending, Held};
use super::super::local::Local;
use super::super::repeats::Repeats;
use super::{GRACE, Lists};
use crate::runtime::{PeerCertificate, Terminal, TrustChange};

/// Looks at all clients again: those of `chains` where a chain's context changed, all where there are new lists.
pub(in super::super) fn recheck(worker: &Local, chains: &[Rc<ChainState>], news: Option<&Lists>) {
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
        note(&worker.repeats, held, peer, &reason);
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
pub(in super::super) fn note(repeats: &Repeats, held: &Held, peer: &PeerCertificate, reason: &str) {
    let (address, peer) = (held.facts.peer.ip(), peer.described());
    repeats.note(&peer, reason, |unsaid| {
        tracing::warn!(%address, %peer, reason, unsaid, "connections of a client that is not trusted any more end");
    });
}
