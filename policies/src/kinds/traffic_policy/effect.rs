//! What TrafficPolicies change: what holds for a call, each value with its origin.

use weft_api::{Name, ServiceId};

use super::TrafficPolicy;
use super::fields::EffectiveTraffic;
use crate::finding::steps;
use crate::kinds::kind::Level;
use crate::kinds::merge::{Effective, levels_of_port};
use crate::kinds::spec::Target;
use crate::set::{HttpRouteMatch, PolicySet};

impl PolicySet {
    /// What holds for calls to a port of a service, of the mesh or outside, and with `rule` for requests that a rule of its routes takes.
    ///
    /// Later levels win field by field: Mesh, Namespace, Service, Service port, Route, Route rule, and last what the
    /// rule writes itself. For a rule, `service` and `port` are those of the parent; only timeouts and retries are
    /// read then. Connections, balancing and ejection belong to the backend: ask for it without a rule.
    #[must_use]
    pub fn traffic_for(
        &self,
        service: &ServiceId,
        port: &Name,
        rule: Option<&HttpRouteMatch>,
    ) -> EffectiveTraffic {
        let mut targets = levels_of_port(&self.backend_key(service), port);
        if let Some(one) = rule {
            targets.push((Level::Route, Target::Object(one.route.key(), None)));
            if let Some(name) = &one.rule.name {
                targets.push((Level::RouteRule, Target::Object(one.route.key(), Some(name.clone()))));
            }
        }
        let mut traffic = self.merged::<TrafficPolicy>(targets);
        if let Some(one) = rule {
            merge_rule(&mut traffic, one);
        }
        traffic
    }
}

/// Takes over the timeouts and retries that a rule of a route writes itself: nothing is more specific.
fn merge_rule(traffic: &mut EffectiveTraffic, one: &HttpRouteMatch) {
    let rule = &one.rule;
    let origin = one.route.key();
    let at = |block: &'static str, field: &'static str| {
        steps!["spec", "rules", one.rule_index, block, field].to_string()
    };
    let level = Level::RouteRule;
    macro_rules! take {
        ($to:ident, $value:expr, $block:literal, $field:literal) => {
            if let Some(value) = $value {
                let path = at($block, $field);
                traffic.$to = Some(Effective { value, origin: origin.clone(), path, level });
            }
        };
    }
    if let Some(timeouts) = rule.timeouts {
        take!(request_timeout, timeouts.request, "timeouts", "request");
        take!(backend_request_timeout, timeouts.backend_request, "timeouts", "backendRequest");
    }
    if let Some(retry) = &rule.retry {
        take!(retry_attempts, retry.attempts, "retry", "attempts");
        take!(retry_codes, retry.codes.clone(), "retry", "codes");
        take!(retry_backoff, retry.backoff, "retry", "backoff");
    }
}
