//! Failures in a row.

use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

use super::{AttemptOutcome, EjectionType, HostState, OutlierDetection};

/// Counts the outcome; names the kind whose limit it reached. A count starts anew once it reached its limit.
pub(super) fn detect(
    config: &OutlierDetection,
    host: &HostState,
    outcome: AttemptOutcome,
) -> Option<EjectionType> {
    let local = !matches!(outcome, AttemptOutcome::Answered(_));
    if local && config.split_local_origin {
        return match outcome {
            AttemptOutcome::Connected | AttemptOutcome::Answered(_) => clear(&host.local_failures),
            AttemptOutcome::ConnectFailed | AttemptOutcome::TimedOut | AttemptOutcome::Reset => {
                reached(&host.local_failures, config.consecutive_local_origin_failure)
                    .then_some(EjectionType::LocalOriginFailures)
            }
        };
    }
    let status = match outcome {
        AttemptOutcome::Answered(status) => status,
        AttemptOutcome::Connected => return None,
        AttemptOutcome::ConnectFailed | AttemptOutcome::Reset => 503,
        AttemptOutcome::TimedOut => 504,
    };
    if status < 500 {
        clear(&host.gateway_failures);
        return clear(&host.server_errors);
    }
    let gateway = if matches!(status, 502..=504) {
        reached(&host.gateway_failures, config.consecutive_gateway_failure)
    } else {
        clear(&host.gateway_failures).is_some()
    };
    let server = reached(&host.server_errors, config.consecutive_5xx);
    match (server, gateway) {
        (true, _) => Some(EjectionType::ServerErrors),
        (false, true) => Some(EjectionType::GatewayFailures),
        (false, false) => None,
    }
}

fn clear(count: &AtomicU32) -> Option<EjectionType> {
    // A store only where needed keeps the cache line shared among workers while all is well.
    if count.load(Relaxed) != 0 {
        count.store(0, Relaxed);
    }
    None
}

fn reached(count: &AtomicU32, limit: u32) -> bool {
    let now = count.fetch_add(1, Relaxed) + 1;
    let hit = limit > 0 && now >= limit;
    if hit {
        count.store(0, Relaxed);
    }
    hit
}
