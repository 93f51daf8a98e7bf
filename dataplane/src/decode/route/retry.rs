//! `RetryPolicy`.

use std::time::Duration;

use envoy_types::pb::envoy::config::route::v3 as wire;
use weft_routing::decode::matcher;
use weft_routing::rejection::{Notes, Rejection, Within as _, refuse};

use super::super::fields;
use crate::route::{RetryOn, RetryPolicy};

/// Reads when a request is tried again.
pub(super) fn retry_policy(policy: &wire::RetryPolicy, notes: &mut Notes) -> Result<RetryPolicy, Rejection> {
    refuse(&policy.retry_priority, "retry_priority")?;
    refuse(&policy.retry_options_predicates, "retry_options_predicates")?;
    refuse(&policy.rate_limited_retry_back_off, "rate_limited_retry_back_off")?;
    notes.ignored(policy.refresh_cluster_on_retry, "retry_policy.refresh_cluster_on_retry");
    let (on, unknown) = RetryOn::parse(&policy.retry_on);
    for word in unknown {
        notes.ignored(true, &format!("retry_policy.retry_on: {word}"));
    }
    let avoid_previous_hosts = previous_hosts(policy)?;
    let matchers = |list: &[wire::HeaderMatcher], field: &str| {
        let each = list.iter().enumerate();
        each.map(|(i, h)| matcher::header(h).within(|| format!("{field}[{i}]")))
            .collect::<Result<Vec<_>, _>>()
    };
    let code = |code: &u32| {
        u16::try_from(*code)
            .map_err(|_| Rejection::new("retriable_status_codes", format!("{code} is no status")))
    };
    let (base_interval, max_interval) = intervals(policy)?;
    Ok(RetryPolicy {
        on,
        num_retries: policy.num_retries.as_ref().map_or(1, |n| n.value),
        per_try_timeout: fields::timeout(policy.per_try_timeout.as_ref(), None, "per_try_timeout")?,
        per_try_idle_timeout: fields::timeout(
            policy.per_try_idle_timeout.as_ref(),
            None,
            "per_try_idle_timeout",
        )?,
        base_interval,
        max_interval,
        avoid_previous_hosts,
        host_attempts: u32::try_from(policy.host_selection_retry_max_attempts).unwrap_or(1).max(1),
        status_codes: policy.retriable_status_codes.iter().map(code).collect::<Result<_, _>>()?,
        headers: matchers(&policy.retriable_headers, "retriable_headers")?,
        request_headers: matchers(&policy.retriable_request_headers, "retriable_request_headers")?,
    })
}

fn intervals(policy: &wire::RetryPolicy) -> Result<(Duration, Duration), Rejection> {
    let default = RetryPolicy::default();
    let Some(back_off) = &policy.retry_back_off else {
        return Ok((default.base_interval, default.max_interval));
    };
    let base = fields::duration(back_off.base_interval.as_ref(), "retry_back_off.base_interval")?
        .ok_or_else(|| Rejection::new("retry_back_off.base_interval", "is missing"))?;
    let max = fields::duration(back_off.max_interval.as_ref(), "retry_back_off.max_interval")?;
    let max = max.unwrap_or_else(|| base.saturating_mul(10));
    if base.is_zero() || max < base {
        return Err(Rejection::new("retry_back_off", "needs a base above zero and a maximum not below it"));
    }
    Ok((base.max(Duration::from_millis(1)), max))
}

fn previous_hosts(policy: &wire::RetryPolicy) -> Result<bool, Rejection> {
    for predicate in &policy.retry_host_predicate {
        let wire::retry_policy::retry_host_predicate::ConfigType::TypedConfig(any) = predicate
            .config_type
            .as_ref()
            .ok_or_else(|| Rejection::new("retry_host_predicate", "has no type"))?;
        if !any.type_url.ends_with("retry.host.previous_hosts.v3.PreviousHostsPredicate") {
            return Err(Rejection::unsupported(format!("retry_host_predicate[{}]", predicate.name)));
        }
    }
    Ok(!policy.retry_host_predicate.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unknown_word_is_noted_and_not_fatal() {
        let mut notes = Notes::default();
        let wire = wire::RetryPolicy { retry_on: "5xx,never-heard".into(), ..Default::default() };
        assert!(retry_policy(&wire, &mut notes).unwrap().on.any(RetryOn::SERVER_ERROR));
        assert_eq!(notes.fields(), ["retry_policy.retry_on: never-heard"]);
    }
}
