//! What listeners count.

use prometheus_client::encoding::{EncodeLabelSet, EncodeLabelValue};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ListenerLabel {
    listener: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ClosedLabel {
    listener: &'static str,
    reason: Closed,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct HandshakeLabel {
    listener: &'static str,
    reason: HandshakeFailure,
}

/// Why a connection was closed from this side.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, EncodeLabelValue)]
#[allow(non_camel_case_types, reason = "label values are lower case")]
pub enum Closed {
    /// It made no call for too long.
    idle,
    /// Another one took its place.
    made_room,
    /// There was no place for it.
    no_room,
    /// Its workload has too many others.
    too_many_of_a_workload,
    certificate_ended,
    /// Its certificate is no longer believed.
    cut,
}

/// Why a handshake failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, EncodeLabelValue)]
#[allow(non_camel_case_types, reason = "label values are lower case")]
pub enum HandshakeFailure {
    /// The client's certificate has expired.
    expired,
    /// The client's certificate does not hold yet.
    not_yet_valid,
    /// The client's certificate was revoked.
    revoked,
    /// The client's certificate is another mesh's, or nobody's.
    unknown_issuer,
    /// The client's certificate is no identity of this mesh.
    not_an_identity,
    /// No protocol version, cipher suite, group or application protocol in common.
    nothing_in_common,
    /// The client does not believe our certificate.
    refused_by_client,
    /// Something else than TLS.
    not_tls,
    /// The client went away.
    closed,
    /// It took too long.
    timed_out,
    /// Another one took its place.
    made_room,
    other,
}

#[derive(Debug, Default)]
pub(super) struct Families {
    accepted: Family<ListenerLabel, Counter>,
    open: Family<ListenerLabel, Gauge>,
    closed: Family<ClosedLabel, Counter>,
    handshakes: Family<HandshakeLabel, Counter>,
    accept_errors: Family<ListenerLabel, Counter>,
}

impl Families {
    pub(super) fn register(&self, registry: &mut Registry) {
        registry.register("connections_accepted", "Connections accepted", self.accepted.clone());
        registry.register("connections", "Open connections", self.open.clone());
        registry.register("connections_closed", "Connections closed from this side", self.closed.clone());
        registry.register("handshakes_failed", "TLS handshakes that failed", self.handshakes.clone());
        registry.register(
            "accept_errors",
            "Times that the kernel refused to accept a connection",
            self.accept_errors.clone(),
        );
    }

    pub(super) fn of(&self, listener: &'static str) -> ListenerMetrics {
        let label = ListenerLabel { listener };
        ListenerMetrics {
            listener,
            accepted: self.accepted.get_or_create(&label).clone(),
            open: self.open.get_or_create(&label).clone(),
            accept_errors: self.accept_errors.get_or_create(&label).clone(),
            closed: self.closed.clone(),
            handshakes: self.handshakes.clone(),
        }
    }
}

/// The counters of one listener. Cheap to clone.
#[derive(Clone, Debug)]
pub struct ListenerMetrics {
    /// Its name in labels and in the log.
    pub listener: &'static str,
    pub accepted: Counter,
    pub open: Gauge,
    /// Times that the kernel refused to accept.
    pub accept_errors: Counter,
    closed: Family<ClosedLabel, Counter>,
    handshakes: Family<HandshakeLabel, Counter>,
}

impl ListenerMetrics {
    /// Connections closed from this side, for a reason.
    #[must_use]
    pub fn closed(&self, reason: Closed) -> Counter {
        self.closed.get_or_create(&ClosedLabel { listener: self.listener, reason }).clone()
    }

    /// Handshakes that failed, for a reason.
    #[must_use]
    pub fn handshakes_failed(&self, reason: HandshakeFailure) -> Counter {
        self.handshakes.get_or_create(&HandshakeLabel { listener: self.listener, reason }).clone()
    }
}
