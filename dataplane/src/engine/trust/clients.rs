//! Connections of clients that are not trusted any more end.

use std::rc::{Rc, Weak};

use super::super::chain::{ChainState, TerminalState};
use super::super::connection::{DownstreamConnection, Urgency};
use super::super::failure_log::FailureLog;
use super::super::local::Local;
use super::GRACE;
use crate::peer::PeerCertificate;
use crate::runtime::{RevocationListSet, TrustChange};

/// Looks at all clients again: those of `chains` where a chain's context changed, all where there are new lists.
pub(in super::super) fn recheck(worker: &Local, chains: &[Rc<ChainState>], news: Option<&RevocationListSet>) {
    let changed: Vec<&Rc<ChainState>> =
        chains.iter().filter(|chain| chain.trust_change() != TrustChange::Nothing).collect();
    if changed.is_empty() && news.is_none() {
        return;
    }
    let mut ending = Vec::new();
    worker.connections.each(|connection| {
        let Some(peer) = connection.facts.peer_certificate() else { return };
        let live = chains.iter().any(|chain| Rc::ptr_eq(chain, &connection.chain));
        let reason =
            if live { refusal(&connection.chain, peer) } else { news.and_then(|lists| lists.refusal(peer)) };
        let Some(reason) = reason else { return };
        note(&worker.throttle, connection, peer, &reason);
        match connection.chain.terminal {
            TerminalState::Http(_) => connection.end(Urgency::Finish),
            TerminalState::Tcp(_) => connection.end(Urgency::Cut),
        }
        ending.push(connection.facts.id);
    });
    changed.iter().for_each(|chain| chain.trust_settled());
    if ending.is_empty() {
        return;
    }
    let ending = worker.connections.find_all(|connection| ending.contains(&connection.facts.id));
    tokio::task::spawn_local(async move {
        tokio::time::sleep(GRACE).await;
        ending.iter().filter_map(Weak::upgrade).for_each(|connection| connection.end(Urgency::Cut));
    });
}

fn refusal(chain: &ChainState, peer: &PeerCertificate) -> Option<String> {
    chain.view().chain.tls.as_ref()?.refusal(peer, chain.trust_change())
}

/// Says whose connections end, and why.
pub(in super::super) fn note(
    throttle: &FailureLog,
    connection: &DownstreamConnection,
    peer: &PeerCertificate,
    reason: &str,
) {
    let (address, peer) = (connection.facts.peer.ip(), peer.described());
    throttle.note(&peer, reason, |unsaid| {
        tracing::warn!(
            event = "client_distrusted",
            %address, %peer, reason, unsaid,
            "connections of a client that is not trusted any more end"
        );
    });
}
