//! Listeners whose address was taken: when they are tried again, and for how long readiness waits for them.

use std::time::Duration;

use tokio::time::Instant;

/// A listener whose address was taken is tried again.
const RETRY: Duration = Duration::from_secs(5);
/// The first configuration is held incomplete for so long while a listener cannot be bound: a predecessor may be about
/// to leave its address. Then the listener counts as refused, and the others serve.
const BIND_TIMEOUT: Duration = Duration::from_secs(5);

/// When binding is tried again for listeners whose address was taken.
#[derive(Debug, Default)]
pub(super) struct BindRetries {
    retry_at: Option<Instant>,
    /// Since when a listener could not be bound.
    unbound_since: Option<Instant>,
}

impl BindRetries {
    /// Every listener is bound.
    pub(super) fn succeeded(&mut self) {
        self.unbound_since = None;
    }

    /// A listener could not be bound.
    pub(super) fn failed(&mut self, now: Instant) {
        self.unbound_since.get_or_insert(now);
        self.retry_at = Some(now + RETRY);
    }

    /// Whether it is time to try again; said once.
    pub(super) fn take_retry(&mut self, now: Instant) -> bool {
        let due = self.retry_at.is_some_and(|at| at <= now);
        if due {
            self.retry_at = None;
        }
        due
    }

    /// Whether readiness waits no longer for listeners.
    pub(super) fn is_decided(&self, now: Instant) -> bool {
        self.unbound_since.is_none_or(|since| now.duration_since(since) >= BIND_TIMEOUT)
    }

    /// When it has to be looked at again.
    pub(super) fn next_deadline(&self) -> Option<Instant> {
        self.retry_at
    }
}
