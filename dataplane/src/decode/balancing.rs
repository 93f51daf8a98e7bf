//! Balancing and circuit breakers of a cluster.

use envoy_types::pb::envoy::config::cluster::v3::circuit_breakers::Thresholds as PbThresholds;
use envoy_types::pb::envoy::config::cluster::v3::circuit_breakers::thresholds::RetryBudget as PbRetryBudget;
use envoy_types::pb::envoy::config::cluster::v3::cluster::ring_hash_lb_config::HashFunction;
use envoy_types::pb::envoy::config::cluster::v3::cluster::{
    ClusterDiscoveryType, LbConfig, LbPolicy as PbPolicy, common_lb_config,
};
use envoy_types::pb::envoy::config::cluster::v3::{CircuitBreakers, Cluster, LoadBalancingPolicy};
use envoy_types::pb::envoy::config::core::v3::{RoutingPriority, RuntimeDouble};
use envoy_types::pb::envoy::extensions::load_balancing_policies::common::v3::locality_lb_config::LocalityConfigSpecifier;
use envoy_types::pb::envoy::extensions::load_balancing_policies::common::v3::{
    ConsistentHashingLbConfig, LocalityLbConfig,
};
use envoy_types::pb::envoy::extensions::load_balancing_policies::least_request::v3::LeastRequest;
use envoy_types::pb::envoy::extensions::load_balancing_policies::maglev::v3::Maglev;
use envoy_types::pb::envoy::extensions::load_balancing_policies::random::v3::Random;
use envoy_types::pb::envoy::extensions::load_balancing_policies::ring_hash::v3::{
    RingHash, ring_hash as ring_hash_v3,
};
use envoy_types::pb::envoy::extensions::load_balancing_policies::round_robin::v3::RoundRobin;
use envoy_types::pb::google::protobuf::{Any, UInt32Value, UInt64Value};
use weft_routing::rejection::{Notes, Rejection, Within as _, refuse};

use super::fields::{self, number};
use crate::balance::{BalanceOptions, LbPolicy};
use crate::breaker::{RetryBudget, Thresholds};

/// How a cluster balances.
#[derive(Debug)]
pub(super) struct Balancing {
    pub(super) options: BalanceOptions,
    /// `use_hostname_for_hashing`.
    pub(super) hash_by_hostname: bool,
}

/// The ring of Envoy has no more entries.
const LARGEST_RING: u64 = 8 << 20;
const RING: u64 = 1024;
const MAGLEV_TABLE: u64 = 65_537;
const LARGEST_MAGLEV_TABLE: u64 = 5_000_011;

/// `load_balancing_policy` where it is given, else `lb_policy` with `common_lb_config`.
pub(super) fn decode(resource: &Cluster, notes: &mut Notes) -> Result<Balancing, Rejection> {
    let common = resource.common_lb_config.as_ref();
    let threshold = common.and_then(|common| common.healthy_panic_threshold.as_ref());
    let threshold = threshold.map_or(50.0, |percent| percent.value);
    if !(0.0..=100.0).contains(&threshold) {
        return Err(Rejection::new("common_lb_config.healthy_panic_threshold", "not a percentage"));
    }
    let mut balancing = match &resource.load_balancing_policy {
        Some(list) => first_known(list, notes).within(|| "load_balancing_policy")?,
        None => Balancing {
            options: BalanceOptions { policy: policy(resource)?, ..BalanceOptions::default() },
            hash_by_hostname: false,
        },
    };
    balancing.options.panic_threshold = threshold.round() as u8;
    if let Some(common) = common
        && resource.load_balancing_policy.is_none()
    {
        let at = || "common_lb_config";
        match &common.locality_config_specifier {
            Some(common_lb_config::LocalityConfigSpecifier::LocalityWeightedLbConfig(_)) => {
                balancing.options.locality_weighted = true;
            }
            Some(common_lb_config::LocalityConfigSpecifier::ZoneAwareLbConfig(_)) => {
                notes.ignored(true, "common_lb_config.zone_aware_lb_config");
            }
            None => {}
        }
        if let Some(hashing) = &common.consistent_hashing_lb_config {
            refuse(&hashing.hash_balance_factor, "consistent_hashing_lb_config.hash_balance_factor")
                .within(at)?;
            balancing.hash_by_hostname = hashing.use_hostname_for_hashing;
        }
    }
    Ok(balancing)
}

fn policy(resource: &Cluster) -> Result<LbPolicy, Rejection> {
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
            Some(_) | None => Ok(LbPolicy::LEAST_REQUEST),
        },
        PbPolicy::Random => Ok(LbPolicy::Random),
        PbPolicy::RingHash => match &resource.lb_config {
            Some(LbConfig::RingHashLbConfig(config)) => {
                let is_murmur = config.hash_function == HashFunction::MurmurHash2 as i32;
                refuse(is_murmur, "ring_hash_lb_config.hash_function MURMUR_HASH_2")?;
                ring_hash(config.minimum_ring_size.as_ref(), config.maximum_ring_size.as_ref())
                    .within(|| "ring_hash_lb_config")
            }
            Some(_) | None => ring_hash(None, None),
        },
        PbPolicy::Maglev => match &resource.lb_config {
            Some(LbConfig::MaglevLbConfig(config)) => {
                maglev(config.table_size.as_ref()).within(|| "maglev_lb_config")
            }
            Some(_) | None => maglev(None),
        },
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
fn first_known(list: &LoadBalancingPolicy, notes: &mut Notes) -> Result<Balancing, Rejection> {
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

fn known(config: &Any, notes: &mut Notes) -> Result<Option<Balancing>, Rejection> {
    let spread = |policy, locality_weighted| {
        let options = BalanceOptions { policy, locality_weighted, ..BalanceOptions::default() };
        Ok(Some(Balancing { options, hash_by_hostname: false }))
    };
    if fields::holds::<RoundRobin>(config) {
        let given: RoundRobin = fields::unpack(config, "typed_config")?;
        refuse(&given.slow_start_config, "slow_start_config")?;
        return spread(LbPolicy::RoundRobin, locality(given.locality_lb_config.as_ref(), notes));
    }
    if fields::holds::<LeastRequest>(config) {
        let given: LeastRequest = fields::unpack(config, "typed_config")?;
        refuse(&given.slow_start_config, "slow_start_config")?;
        let policy = least_request(given.choice_count.as_ref(), given.active_request_bias.as_ref())?;
        return spread(policy, locality(given.locality_lb_config.as_ref(), notes));
    }
    if fields::holds::<Random>(config) {
        let given: Random = fields::unpack(config, "typed_config")?;
        return spread(LbPolicy::Random, locality(given.locality_lb_config.as_ref(), notes));
    }
    if fields::holds::<RingHash>(config) {
        let given: RingHash = fields::unpack(config, "typed_config")?;
        let is_murmur = given.hash_function == ring_hash_v3::HashFunction::MurmurHash2 as i32;
        refuse(is_murmur, "hash_function MURMUR_HASH_2")?;
        #[allow(deprecated, reason = "what older control planes write")]
        let (by_hostname, factor) = (given.use_hostname_for_hashing, &given.hash_balance_factor);
        refuse(factor, "hash_balance_factor")?;
        let policy = ring_hash(given.minimum_ring_size.as_ref(), given.maximum_ring_size.as_ref())?;
        let by_hostname = by_hostname || hashes_names(given.consistent_hashing_lb_config.as_ref())?;
        return Ok(Some(hashed(policy, given.locality_weighted_lb_config.is_some(), by_hostname)));
    }
    if fields::holds::<Maglev>(config) {
        let given: Maglev = fields::unpack(config, "typed_config")?;
        let by_hostname = hashes_names(given.consistent_hashing_lb_config.as_ref())?;
        let policy = maglev(given.table_size.as_ref())?;
        return Ok(Some(hashed(policy, given.locality_weighted_lb_config.is_some(), by_hostname)));
    }
    Ok(None)
}

fn hashed(policy: LbPolicy, locality_weighted: bool, hash_by_hostname: bool) -> Balancing {
    let options = BalanceOptions { policy, locality_weighted, ..BalanceOptions::default() };
    Balancing { options, hash_by_hostname }
}

fn hashes_names(config: Option<&ConsistentHashingLbConfig>) -> Result<bool, Rejection> {
    let Some(config) = config else { return Ok(false) };
    refuse(&config.hash_balance_factor, "consistent_hashing_lb_config.hash_balance_factor")?;
    Ok(config.use_hostname_for_hashing)
}

/// Whether localities are weighed.
fn locality(config: Option<&LocalityLbConfig>, notes: &mut Notes) -> bool {
    match config.and_then(|config| config.locality_config_specifier.as_ref()) {
        Some(LocalityConfigSpecifier::LocalityWeightedLbConfig(_)) => true,
        Some(LocalityConfigSpecifier::ZoneAwareLbConfig(_)) => {
            notes.ignored(true, "locality_lb_config.zone_aware_lb_config");
            false
        }
        None => false,
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

fn ring_hash(min: Option<&UInt64Value>, max: Option<&UInt64Value>) -> Result<LbPolicy, Rejection> {
    let min = min.map_or(RING, |min| min.value);
    let max = max.map_or(LARGEST_RING, |max| max.value);
    if min > LARGEST_RING || max > LARGEST_RING {
        return Err(Rejection::new(
            "minimum_ring_size",
            format!("a ring has at most {LARGEST_RING} entries"),
        ));
    }
    if min > max {
        let reason = format!("{min} is more than maximum_ring_size, {max}");
        return Err(Rejection::new("minimum_ring_size", reason));
    }
    Ok(LbPolicy::RingHash { min, max })
}

fn maglev(size: Option<&UInt64Value>) -> Result<LbPolicy, Rejection> {
    let size = size.map_or(MAGLEV_TABLE, |size| size.value);
    let is_prime = size > 1 && (2..).take_while(|by| by * by <= size).all(|by| !size.is_multiple_of(by));
    if size > LARGEST_MAGLEV_TABLE || !is_prime {
        let reason = format!("{size} is no prime of at most {LARGEST_MAGLEV_TABLE}");
        return Err(Rejection::new("table_size", reason));
    }
    Ok(LbPolicy::Maglev { size })
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
    notes.ignored(&given.max_connection_pools, "circuit_breakers.max_connection_pools");
    let default = Thresholds::default();
    Ok(Thresholds {
        max_connections: number(given.max_connections.as_ref()).unwrap_or(default.max_connections),
        max_pending: number(given.max_pending_requests.as_ref()).unwrap_or(default.max_pending),
        max_requests: number(given.max_requests.as_ref()).unwrap_or(default.max_requests),
        max_retries: number(given.max_retries.as_ref()).unwrap_or(default.max_retries),
        retry_budget: given.retry_budget.as_ref().map(retry_budget).transpose()?,
    })
}

fn retry_budget(given: &PbRetryBudget) -> Result<RetryBudget, Rejection> {
    refuse(&given.budget_interval, "retry_budget.budget_interval")?;
    let percent = given.budget_percent.as_ref().map_or(20.0, |percent| percent.value);
    if !(0.0..=100.0).contains(&percent) {
        return Err(Rejection::new("retry_budget.budget_percent", "not a percentage"));
    }
    Ok(RetryBudget { percent, min_concurrency: number(given.min_retry_concurrency.as_ref()).unwrap_or(3) })
}
