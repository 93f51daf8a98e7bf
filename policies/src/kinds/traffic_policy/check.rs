//! What makes a TrafficPolicy valid by itself.

use super::{Balancer, Connection, LoadBalancer, LocalityMode, Retry, TrafficPolicy};
use crate::finding::{Code, Findings};
use crate::kinds::kind::{Kind, Level};
use crate::kinds::resilience::{check_retry, check_timeouts};
use crate::kinds::target::{TargetKind, TargetRef, check_targets};
use crate::metadata::Metadata;
use crate::value::Timespan;

pub(super) fn check(policy: &TrafficPolicy, metadata: &Metadata, out: &mut Findings) {
    check_targets::<TrafficPolicy>(&policy.target_refs, &metadata.namespace, out);
    if !policy.clients.is_empty() {
        out.not_supported("clients", "clients of a TrafficPolicy")
            .hint("target an HTTPRoute that has clients: timeouts and retry can be set there");
    }
    if let Some(balancer) = &policy.load_balancer {
        out.at("loadBalancer", |out| balancer.check(out));
    }
    if let Some(locality) = &policy.locality {
        out.at("locality", |out| {
            if locality.mode != LocalityMode::None {
                out.not_supported("mode", &format!("mode {:?}", locality.mode));
            }
            if !locality.failover.is_empty() {
                out.not_supported("failover", "failover");
            }
        });
    }
    if let Some(connection) = &policy.connection {
        out.at("connection", |out| connection.check(out));
    }
    if let Some(outlier) = &policy.outlier_detection {
        out.at("outlierDetection", |out| {
            for (field, span) in
                [("interval", outlier.interval), ("baseEjectionTime", outlier.base_ejection_time)]
            {
                refuse_zero(field, span, out);
            }
        });
    }
    if let Some(timeouts) = &policy.timeouts {
        out.at("timeouts", |out| check_timeouts(timeouts.request, timeouts.backend_request, out));
    }
    if let Some(retry) = &policy.retry {
        out.at("retry", |out| retry.check(out));
    }
    check_levels(policy, out);
}

/// Notes fields that have no meaning at the level of a target: a route has no connections of its own.
fn check_levels(policy: &TrafficPolicy, out: &mut Findings) {
    let of_routes = |target: &TargetRef| target.level() >= Level::Route;
    let of_cluster = [
        ("loadBalancer", policy.load_balancer.is_some()),
        ("locality", policy.locality.is_some()),
        ("connection", policy.connection.is_some()),
        ("outlierDetection", policy.outlier_detection.is_some()),
    ];
    if policy.target_refs.iter().any(of_routes) {
        for (field, _) in of_cluster.iter().filter(|(_, is_set)| *is_set) {
            out.add_at(*field, Code::Inconsistent, "cannot be set on a route, only on what it leads to")
                .hint("put it into a policy that targets the Service");
        }
    }
    if policy.target_refs.iter().any(|target| target.kind == TargetKind::Object(Kind::TcpRoute)) {
        for (field, is_set) in [("timeouts", policy.timeouts.is_some()), ("retry", policy.retry.is_some())] {
            if is_set {
                out.add_at(
                    field,
                    Code::ProtocolMismatch,
                    "has no meaning on a TCPRoute: connections are not requests",
                );
            }
        }
    }
    let has_budget = policy.retry.as_ref().is_some_and(|retry| retry.budget.is_some());
    if has_budget && policy.target_refs.iter().any(of_routes) {
        let text = "cannot be set on a route, only on what it leads to";
        out.add_at("retry", Code::Inconsistent, format!("budget {text}"))
            .hint("put it into a policy that targets the Service");
    }
    let nothing =
        of_cluster.iter().all(|(_, is_set)| !is_set) && policy.timeouts.is_none() && policy.retry.is_none();
    if nothing {
        out.add(Code::Required, "the policy sets nothing")
            .hint("write one of loadBalancer, locality, connection, outlierDetection, timeouts, retry");
    }
}

impl LoadBalancer {
    fn check(&self, out: &mut Findings) {
        if self.balancer == Balancer::PeakEwma {
            out.not_supported("type", "type PeakEwma").hint(
                "use LeastRequest: of stock Envoy only builds with contributed extensions know PeakEwma",
            );
        }
        match (self.balancer.hashes(), &self.hash_on[..]) {
            (true, []) => {
                out.add(Code::Required, format!("hashOn is missing: {:?} chooses by it", self.balancer))
                    .hint("write what is hashed, for instance hashOn: [{type: Header, name: x-user}]");
            }
            (false, [_, ..]) => {
                out.add_at("hashOn", Code::Inconsistent, format!("{:?} hashes nothing", self.balancer))
                    .hint("use RingHash or Maglev");
            }
            (true, [_, ..]) | (false, []) => {}
        }
        out.each("hashOn", &self.hash_on, |out, hashed| hashed.check(out));
    }
}

impl Connection {
    fn check(&self, out: &mut Findings) {
        refuse_zero("connectTimeout", self.connect_timeout, out);
        if let Some(keepalive) = &self.tcp_keepalive {
            out.at("tcpKeepalive", |out| {
                for (field, span) in [("time", keepalive.time), ("interval", keepalive.interval)] {
                    refuse_zero(field, span, out);
                    if let Some(span) = span.filter(|span| span.get().subsec_nanos() != 0) {
                        out.add_at(field, Code::InvalidValue, "must be whole seconds").value(span);
                    }
                }
            });
        }
    }
}

impl Retry {
    fn check(&self, out: &mut Findings) {
        check_retry(self.codes.as_deref(), self.backoff, out);
        if self.on.as_ref().is_some_and(Vec::is_empty) {
            out.add_at("on", Code::Inconsistent, "an empty list retries nothing")
                .hint("leave it out for the defaults, or write attempts: 0");
        }
    }
}

fn refuse_zero(field: &'static str, span: Option<Timespan>, out: &mut Findings) {
    if span.is_some_and(Timespan::is_zero) {
        out.add_at(field, Code::InvalidValue, "must be longer than zero").value("0s");
    }
}
