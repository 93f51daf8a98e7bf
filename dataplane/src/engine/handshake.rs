//! Handshakes that failed: counted as Envoy counts them, and logged with peer and reason, once a minute each.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use super::connect::of_tls;
use super::local::Local;
use crate::runtime::{Cluster, DownstreamTls, Listener, UpstreamTls, counter_of, reason};
use crate::stats::TlsStats;

/// A client's handshake failed. Says why.
pub(super) fn inbound_failed(
    worker: &Local,
    listener: &Listener,
    tls: &DownstreamTls,
    peer: SocketAddr,
    error: &io::Error,
) -> String {
    let reason = count(worker, &listener.stats.tls, error);
    let (listener, address) = (&listener.name, peer.ip());
    let who = tls.take_refused();
    let told = match &who {
        Some(who) => format!("TLS_error: {reason} <{who}>"),
        None => format!("TLS_error: {reason}"),
    };
    // Not by what its certificate says, which a stranger makes up.
    worker.throttle.note(&address.to_string(), &reason, |unsaid| {
        let certificate = who.as_deref().unwrap_or("none that was looked at");
        tracing::warn!(
            event = "handshake_failed",
            %listener, %address, certificate, reason, unsaid,
            "a client's TLS handshake failed"
        );
    });
    told
}

/// A handshake with a server failed.
pub(super) fn outbound_failed(
    worker: &Local,
    cluster: &Cluster,
    tls: Option<&Arc<UpstreamTls>>,
    address: SocketAddr,
    error: &io::Error,
) {
    let reason = count(worker, &cluster.stats.tls, error);
    let who = tls.and_then(|tls| tls.take_refused());
    worker.throttle.note(&address.to_string(), &reason, |unsaid| {
        let certificate = who.as_deref().unwrap_or("none that was looked at");
        let cluster = &cluster.name;
        tracing::warn!(
            event = "upstream_handshake_failed",
            %cluster, %address, certificate, reason, unsaid,
            "a TLS handshake with a server failed"
        );
    });
}

/// With TLS 1.3 a server looks at our certificate after the handshake is over for us: its refusal is the first thing that
/// is read. Says why it refused, where it did.
pub(super) fn refused_by_server(
    worker: &Local,
    cluster: &Cluster,
    address: SocketAddr,
    error: &(dyn std::error::Error + 'static),
) -> Option<String> {
    let mut source = Some(error);
    let alert = loop {
        let cause = source?;
        let io = cause.downcast_ref::<h2::Error>().and_then(h2::Error::get_io).or(cause.downcast_ref());
        match io.and_then(of_tls) {
            Some(alert @ rustls::Error::AlertReceived(_)) => break alert,
            Some(_) | None => source = cause.source(),
        }
    };
    worker.shard.inc(cluster.stats.tls.connection_error);
    let reason = reason(alert);
    worker.throttle.note(&address.to_string(), &reason, |unsaid| {
        let cluster = &cluster.name;
        tracing::warn!(
            event = "certificate_refused",
            %cluster, %address, reason, unsaid,
            "a server refused our certificate"
        );
    });
    Some(format!("TLS_error: {reason}"))
}

/// Counts a handshake that failed, and says why it did.
fn count(worker: &Local, stats: &TlsStats, error: &io::Error) -> String {
    let (counter, reason) = match of_tls(error) {
        Some(error) => (counter_of(error, stats), reason(error)),
        None => (stats.connection_error, error.to_string()),
    };
    worker.shard.inc(counter);
    reason
}
