//! Statistics that belong to the process and not to a worker: counted by the control thread, or read from the
//! shared state when they are asked for.

use std::time::{Duration, SystemTime};

use weft_api::ResourceKind;

use super::world::World;
use crate::breaker::{Breaker, BreakerResource};
use crate::outlier::{EjectionDecision, EjectionType, count_ejection};
use crate::runtime::{Cluster, Health, Runtime};
use crate::stats::{
    BreakerStats, CounterId, GaugeId, OutlierStats, ServerStats, Shard, ShardSnapshot, StatsRegistry,
    StatsScope,
};

/// What the control thread counts, in a shard of its own.
#[derive(Debug)]
pub(super) struct Gauges {
    shard: Shard,
    server: ServerStats,
    connected: GaugeId,
    active_clusters: GaugeId,
    warming_clusters: GaugeId,
    active_listeners: GaugeId,
    warming_listeners: GaugeId,
    ignored_fields: GaugeId,
    accepted: [CounterId; ResourceKind::ALL.len()],
    rejected: [CounterId; ResourceKind::ALL.len()],
}

impl Gauges {
    pub(super) fn register(registry: &mut StatsRegistry) -> Self {
        let clusters = StatsScope::plain("cluster_manager");
        let listeners = StatsScope::plain("listener_manager");
        let scope = |kind: ResourceKind| match kind {
            ResourceKind::Cluster => clusters.child("cds"),
            ResourceKind::Listener => listeners.child("lds"),
            ResourceKind::Endpoint => clusters.child("eds"),
            ResourceKind::Route => listeners.child("rds"),
            ResourceKind::Secret => clusters.child("sds"),
            ResourceKind::VirtualHost => listeners.child("vhds"),
            ResourceKind::Runtime => StatsScope::plain("runtime"),
        };
        Self {
            shard: Shard::default(),
            server: ServerStats::register(registry, &StatsScope::plain("server")),
            connected: registry.gauge(&StatsScope::plain("control_plane"), "connected_state"),
            active_clusters: registry.gauge(&clusters, "active_clusters"),
            warming_clusters: registry.gauge(&clusters, "warming_clusters"),
            active_listeners: registry.gauge(&listeners, "total_listeners_active"),
            warming_listeners: registry.gauge(&listeners, "total_listeners_warming"),
            ignored_fields: registry.gauge(&StatsScope::plain("weft"), "ignored_fields"),
            accepted: ResourceKind::ALL.map(|kind| registry.counter(&scope(kind), "update_success")),
            rejected: ResourceKind::ALL.map(|kind| registry.counter(&scope(kind), "update_rejected")),
        }
    }

    pub(super) fn set_connected(&self, connected: bool) {
        self.shard.set(self.connected, i64::from(connected));
    }

    /// Counts what happened beside the workers.
    pub(super) fn count(&self, counter: CounterId, count: u64) {
        self.shard.add(counter, count);
    }

    /// Counts what a sweep of outlier detection found.
    pub(super) fn count_ejection(
        &self,
        stats: &OutlierStats,
        kind: EjectionType,
        decision: EjectionDecision,
    ) {
        count_ejection(&self.shard, stats, kind, decision);
    }

    pub(super) fn count_update(&self, kind: ResourceKind, accepted: bool) {
        let ids = if accepted { &self.accepted } else { &self.rejected };
        self.shard.inc(ids[kind.index()]);
    }

    /// All numbers as they are now.
    pub(super) fn read(
        &self,
        runtime: &Runtime,
        world: &World,
        age: Duration,
        workers: usize,
    ) -> ShardSnapshot {
        let shard = &self.shard;
        for cluster in runtime.clusters.values() {
            membership(shard, cluster);
            breaker(shard, &cluster.stats.breaker, &cluster.breaker);
            breaker(shard, &cluster.stats.breaker_high, &cluster.high_breaker);
        }
        shard.set(self.active_clusters, signed(runtime.clusters.len()));
        shard.set(self.active_listeners, signed(runtime.listeners.len()));
        let warming = world.clusters.values().filter(|entry| entry.warming.is_some()).count();
        shard.set(self.warming_clusters, signed(warming));
        let warming = world.listeners.values().filter(|entry| entry.warming.is_some()).count();
        shard.set(self.warming_listeners, signed(warming));
        shard.set(self.ignored_fields, signed(world.ignored_fields()));
        shard.set(self.server.uptime, i64::try_from(age.as_secs()).unwrap_or(i64::MAX));
        shard.set(self.server.concurrency, signed(workers));
        shard.set(self.server.live, 1);
        if let Some(identity) = world.own_certificate() {
            let left = identity.certificate().not_after.duration_since(SystemTime::now()).unwrap_or_default();
            shard.set(self.server.days_until_first_cert_expiring, signed((left.as_secs() / 86_400) as usize));
        }
        shard.collect()
    }
}

fn signed(value: usize) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

fn membership(shard: &Shard, cluster: &Cluster) {
    let list = || cluster.endpoints.list.iter().enumerate();
    let usable = |index: usize| !cluster.outliers.is_ejected(index);
    let count =
        |health: Health| signed(list().filter(|(at, one)| one.health == health && usable(*at)).count());
    shard.set(cluster.stats.membership_total, signed(cluster.endpoints.list.len()));
    shard.set(cluster.stats.membership_healthy, count(Health::Healthy));
    shard.set(cluster.stats.membership_degraded, count(Health::Degraded));
    shard.set(cluster.stats.membership_excluded, count(Health::Draining));
    shard.set(cluster.stats.outlier.ejections_active, signed(cluster.outliers.ejected()));
}

fn breaker(shard: &Shard, stats: &BreakerStats, breaker: &Breaker) {
    for (resource, _, open) in breaker.readings() {
        let gauge = match resource {
            BreakerResource::Connections => stats.cx_open,
            BreakerResource::Pending => stats.rq_pending_open,
            BreakerResource::Requests => stats.rq_open,
            BreakerResource::Retries => stats.rq_retry_open,
        };
        shard.set(gauge, i64::from(open));
    }
}
