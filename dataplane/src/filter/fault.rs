//! `envoy.filters.http.fault`: requests wait, or are answered with an error, to see what that does to their callers.

pub(super) mod active;
pub(super) mod decode;
pub(super) mod run;

use std::sync::Arc;
use std::sync::atomic::AtomicU32;
use std::time::Duration;

use http::StatusCode;
use weft_routing::matcher::HeaderMatch;

use crate::fraction::Fraction;
use crate::stats::{CounterId, GaugeId, StatsRegistry, StatsScope};

/// `envoy.filters.http.fault`, with its own faults for routes that say nothing else.
#[derive(Debug, Clone)]
pub struct Fault {
    /// What happens where the route says nothing else.
    pub(super) settings: Arc<FaultSettings>,
    pub(super) stats: FaultStats,
    /// Faults that are injected now, in the whole process.
    pub(super) active: Arc<AtomicU32>,
}

/// What happens, and to which requests.
#[derive(Debug, Default)]
pub struct FaultSettings {
    pub(super) delay: Option<Delay>,
    pub(super) abort: Option<Abort>,
    /// Only requests to this cluster; empty is any.
    pub(super) upstream_cluster: Box<str>,
    /// Only requests from these nodes, by `x-envoy-downstream-service-node`; empty is any.
    pub(super) downstream_nodes: Vec<Box<str>>,
    /// Only requests with all these headers.
    pub(super) headers: Vec<HeaderMatch>,
    pub(super) max_active: Option<u32>,
}

/// Requests wait before they go on.
#[derive(Debug)]
pub(super) struct Delay {
    pub(super) share: Fraction,
    pub(super) span: Given<Duration>,
}

#[derive(Debug)]
pub(super) struct Abort {
    pub(super) share: Fraction,
    pub(super) status: Given<AbortStatus>,
    pub(super) body: Box<str>,
}

/// The error that stands for the answer of a server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum AbortStatus {
    Http(StatusCode),
    Grpc(u32),
}

/// Who says what happens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Given<T> {
    Fixed(T),
    /// Each request, by headers; without them nothing happens to it.
    ByHeader,
}

/// `http.PREFIX.fault.*`.
#[derive(Debug, Clone)]
pub(super) struct FaultStats {
    pub(super) delays_injected: CounterId,
    pub(super) aborts_injected: CounterId,
    pub(super) faults_overflow: CounterId,
    pub(super) active_faults: GaugeId,
}

impl FaultStats {
    pub(super) fn register(registry: &mut StatsRegistry, manager: &StatsScope) -> Self {
        let scope = manager.child("fault");
        // Named by Envoy as well; responses are not slowed down here.
        registry.counter(&scope, "response_rl_injected");
        Self {
            delays_injected: registry.counter(&scope, "delays_injected"),
            aborts_injected: registry.counter(&scope, "aborts_injected"),
            faults_overflow: registry.counter(&scope, "faults_overflow"),
            active_faults: registry.gauge(&scope, "active_faults"),
        }
    }
}
