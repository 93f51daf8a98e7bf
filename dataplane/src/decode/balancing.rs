//! Balancing, circuit breakers and outlier detection of a cluster.

use envoy_types::pb::envoy::config::cluster::v3::circuit_breakers::Thresholds as PbThresholds;
use envoy_types::pb::envoy::config::cluster::v3::cluster::{
    ClusterDiscoveryType, LbConfig, LbPolicy as PbPolicy,
};
use envoy_types::pb::envoy::config::cluster::v3::{
    CircuitBreakers, Cluster, LoadBalancingPolicy, OutlierDetection as PbOutlier,
};
use envoy_types::pb::envoy::config::core::v3::{RoutingPriority, RuntimeDouble};
use envoy_types::pb::envoy::extensions::load_balancing_policies::least_request::v3::LeastRequest;
use envoy_types::pb::envoy::extensions::load_balancing_policies::random::v3::Random;
use envoy_types::pb::envoy::extensions::load_balancing_policies::round_robin::v3::RoundRobin;
use envoy_types::pb::google::protobuf::{Any, UInt32Value};
use weft_routing::rejection::{Notes, Rejection, Within as _, refuse};

use super::fields::{self, number};
use crate::balance::LbPolicy;
use crate::breaker::Thresholds;
use crate::outlier::OutlierDetection;

/// `load_balancing_policy` where it is given, else `lb_policy`.
pub(super) fn policy(resource: &Cluster, notes: &mut Notes) -> Result<LbPolicy, Rejection> {
    if let Some(list) = &resource.load_balancing_policy {
        return first_known(list, notes).within(|| "load_balancing_policy");
    }
    let policy = PbPolicy::try_from(resource.lb_policy)
        .map_err(|_| Rejection::new("lb_policy", format!("unknown value {}", resource.lb_policy)))?;
    match policy {
        PbPolicy::RoundRobin => {
            if let Some(LbConfig::RoundRobinLbConfig(config)) = &resource.lb_config {
                refuse(&config.slow_start_config, "round_robin_lb_config.slow_start_config")?;
            }
            Ok(LbPolicy::RoundRobin)
        }
        PbPolicy::LeastRequest => match &resource.lb_config {
            Some(LbConfig::LeastRequestLbConfig(config)) => {
                refuse(&config.slow_start_config, "least_request_lb_config.slow_start_config")?;
                least_request(config.choice_count.as_ref(), config.active_request_bias.as_ref())
            }
            Some(
                LbConfig::RingHashLbConfig(_)
                | LbConfig::MaglevLbConfig(_)
                | LbConfig::OriginalDstLbConfig(_)
                | LbConfig::RoundRobinLbConfig(_),
            )
            | None => Ok(LbPolicy::LEAST_REQUEST),
        },
        PbPolicy::Random => Ok(LbPolicy::Random),
        PbPolicy::RingHash => Err(Rejection::unsupported("lb_policy RING_HASH")),
        PbPolicy::Maglev => Err(Rejection::unsupported("lb_policy MAGLEV")),
        // Of the clusters that choose by themselves, one is known here: a dynamic forward proxy, whose hosts' addresses
        // take turns.
        PbPolicy::ClusterProvided => match &resource.cluster_discovery_type {
            Some(ClusterDiscoveryType::ClusterType(_)) => Ok(LbPolicy::RoundRobin),
            Some(ClusterDiscoveryType::Type(_)) | None => {
                Err(Rejection::unsupported("lb_policy CLUSTER_PROVIDED"))
            }
        },
        PbPolicy::LoadBalancingPolicyConfig => {
            Err(Rejection::new("load_balancing_policy", "is needed with LOAD_BALANCING_POLICY_CONFIG"))
        }
    }
}

/// Of a list of policies, the first known one counts.
fn first_known(list: &LoadBalancingPolicy, notes: &mut Notes) -> Result<LbPolicy, Rejection> {
    let mut unknown = Vec::new();
    for (index, entry) in list.policies.iter().enumerate() {
        let extension = entry.typed_extension_config.as_ref();
        let Some(config) = extension.and_then(|extension| extension.typed_config.as_ref()) else {
            continue;
        };
        match known(config, notes).within(|| format!("policies[{index}]"))? {
            Some(policy) => return Ok(policy),
            None => unknown.push(fields::type_name(config)),
        }
    }
    Err(Rejection::new("policies", format!("none is known to this proxy: {}", unknown.join(", "))))
}

fn known(config: &Any, notes: &mut Notes) -> Result<Option<LbPolicy>, Rejection> {
    if fields::holds::<RoundRobin>(config) {
        let given: RoundRobin = fields::unpack(config, "typed_config")?;
        refuse(&given.slow_start_config, "slow_start_config")?;
        locality(given.locality_lb_config.as_ref(), notes)?;
        return Ok(Some(LbPolicy::RoundRobin));
    }
    if fields::holds::<LeastRequest>(config) {
        let given: LeastRequest = fields::unpack(config, "typed_config")?;
        refuse(&given.slow_start_config, "slow_start_config")?;
        locality(given.locality_lb_config.as_ref(), notes)?;
        return least_request(given.choice_count.as_ref(), given.active_request_bias.as_ref()).map(Some);
    }
    if fields::holds::<Random>(config) {
        let given: Random = fields::unpack(config, "typed_config")?;
        locality(given.locality_lb_config.as_ref(), notes)?;
        return Ok(Some(LbPolicy::Random));
    }
    Ok(None)
}

fn locality(
    config: Option<
        &envoy_types::pb::envoy::extensions::load_balancing_policies::common::v3::LocalityLbConfig,
    >,
    notes: &mut Notes,
) -> Result<(), Rejection> {
    use envoy_types::pb::envoy::extensions::load_balancing_policies::common::v3::locality_lb_config::LocalityConfigSpecifier;
    match config.and_then(|config| config.locality_config_specifier.as_ref()) {
        Some(LocalityConfigSpecifier::LocalityWeightedLbConfig(_)) => {
            Err(Rejection::unsupported("locality_lb_config.locality_weighted_lb_config"))
        }
        Some(LocalityConfigSpecifier::ZoneAwareLbConfig(_)) => {
            notes.ignored(true, "locality_lb_config.zone_aware_lb_config");
            Ok(())
        }
        None => Ok(()),
    }
}

fn least_request(choices: Option<&UInt32Value>, bias: Option<&RuntimeDouble>) -> Result<LbPolicy, Rejection> {
    let choices = number(choices).unwrap_or(2);
    if choices < 2 {
        return Err(Rejection::new("choice_count", "must be at least 2"));
    }
    let bias = bias.map_or(1.0, |bias| bias.default_value);
    if bias < 0.0 || !bias.is_finite() {
        return Err(Rejection::new("active_request_bias", "must not be negative"));
    }
    Ok(LbPolicy::LeastRequest { choices, bias: bias as f32 })
}

/// Limits for default and for high priority.
pub(super) fn thresholds(
    breakers: Option<&CircuitBreakers>,
    notes: &mut Notes,
) -> Result<[Thresholds; 2], Rejection> {
    let mut all = [Thresholds::default(); 2];
    let Some(breakers) = breakers else { return Ok(all) };
    refuse(&breakers.per_host_thresholds, "circuit_breakers.per_host_thresholds")?;
    for (index, given) in breakers.thresholds.iter().enumerate() {
        let at = || format!("circuit_breakers.thresholds[{index}]");
        let slot = match RoutingPriority::try_from(given.priority) {
            Ok(RoutingPriority::Default) => 0,
            Ok(RoutingPriority::High) => 1,
            Err(_) => return Err(Rejection::new("priority", "unknown value").within(at())),
        };
        all[slot] = limits(given, notes).within(at)?;
    }
    Ok(all)
}

fn limits(given: &PbThresholds, notes: &mut Notes) -> Result<Thresholds, Rejection> {
    refuse(&given.retry_budget, "retry_budget")?;
    notes.ignored(&given.max_connection_pools, "circuit_breakers.max_connection_pools");
    let default = Thresholds::default();
    Ok(Thresholds {
        max_connections: number(given.max_connections.as_ref()).unwrap_or(default.max_connections),
        max_pending: number(given.max_pending_requests.as_ref()).unwrap_or(default.max_pending),
        max_requests: number(given.max_requests.as_ref()).unwrap_or(default.max_requests),
        max_retries: number(given.max_retries.as_ref()).unwrap_or(default.max_retries),
    })
}

/// Detection of failures in a row; the statistical kinds count as not enforced, as the defaults of their volumes
/// make them on small clusters, unless they are asked for.
pub(super) fn outlier(
    given: Option<&PbOutlier>,
    notes: &mut Notes,
) -> Result<Option<OutlierDetection>, Rejection> {
    let Some(given) = given else { return Ok(None) };
    let at = "outlier_detection";
    let asked = |value: &Option<UInt32Value>| number(value.as_ref()).is_some_and(|percent| percent > 0);
    refuse(asked(&given.enforcing_success_rate), "enforcing_success_rate").within(|| at)?;
    refuse(asked(&given.enforcing_local_origin_success_rate), "enforcing_local_origin_success_rate")
        .within(|| at)?;
    refuse(asked(&given.enforcing_failure_percentage), "enforcing_failure_percentage").within(|| at)?;
    refuse(
        asked(&given.enforcing_failure_percentage_local_origin),
        "enforcing_failure_percentage_local_origin",
    )
    .within(|| at)?;
    refuse(&given.monitors, "monitors").within(|| at)?;
    refuse(fields::flag(given.detect_degraded_hosts.as_ref()), "detect_degraded_hosts").within(|| at)?;
    let volumes = given.success_rate_minimum_hosts.is_some()
        || given.success_rate_request_volume.is_some()
        || given.success_rate_stdev_factor.is_some();
    notes.ignored(volumes, "outlier_detection.success_rate");
    let percentages = given.failure_percentage_threshold.is_some()
        || given.failure_percentage_minimum_hosts.is_some()
        || given.failure_percentage_request_volume.is_some();
    notes.ignored(percentages, "outlier_detection.failure_percentage");
    let default = OutlierDetection::default();
    let or = |value: &Option<UInt32Value>, default: u32| number(value.as_ref()).unwrap_or(default);
    let time = |value: &Option<_>, default, field: &str| {
        fields::duration(value.as_ref(), field).within(|| at).map(|given| given.unwrap_or(default))
    };
    let base_ejection_time =
        time(&given.base_ejection_time, default.base_ejection_time, "base_ejection_time")?;
    Ok(Some(OutlierDetection {
        consecutive_5xx: or(&given.consecutive_5xx, default.consecutive_5xx),
        consecutive_gateway_failure: or(
            &given.consecutive_gateway_failure,
            default.consecutive_gateway_failure,
        ),
        consecutive_local_origin_failure: or(
            &given.consecutive_local_origin_failure,
            default.consecutive_local_origin_failure,
        ),
        split_local_origin: given.split_external_local_origin_errors,
        interval: time(&given.interval, default.interval, "interval")?,
        base_ejection_time,
        max_ejection_time: time(&given.max_ejection_time, default.max_ejection_time, "max_ejection_time")?
            .max(base_ejection_time),
        max_ejection_time_jitter: time(
            &given.max_ejection_time_jitter,
            default.max_ejection_time_jitter,
            "max_ejection_time_jitter",
        )?,
        max_ejection_percent: or(&given.max_ejection_percent, default.max_ejection_percent),
        always_eject_one_host: fields::flag(given.always_eject_one_host.as_ref()),
        enforcing_5xx: or(&given.enforcing_consecutive_5xx, default.enforcing_5xx),
        enforcing_gateway_failure: or(
            &given.enforcing_consecutive_gateway_failure,
            default.enforcing_gateway_failure,
        ),
        enforcing_local_origin_failure: or(
            &given.enforcing_consecutive_local_origin_failure,
            default.enforcing_local_origin_failure,
        ),
    }))
}
