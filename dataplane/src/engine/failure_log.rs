//! Failures of connections that may be thousands: a line a minute for each peer and reason.

use weft_api::LogThrottle;

/// More of a reason than this is not kept: a peer can choose how long it is.
const LONGEST_REASON: usize = 256;

/// What all workers have logged of late. Its lock is taken where something failed, and never on the path of a request that
/// goes well: a worker must not repeat what another has said.
#[derive(Debug, Default)]
pub(crate) struct FailureLog(LogThrottle<(Box<str>, Box<str>)>);

impl FailureLog {
    /// Calls `say` where this was not said within the last minute, with how often it happened unsaid since.
    pub(crate) fn note(&self, who: &str, why: &str, say: impl FnOnce(u64)) {
        let why = why.char_indices().nth(LONGEST_REASON).map_or(why, |(at, _)| &why[..at]);
        if let Some(unsaid) = self.0.speaks_at((who.into(), why.into()), super::clock::now()) {
            say(unsaid);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reasons_that_differ_behind_the_bound_are_one() {
        let (log, mut said) = (FailureLog::default(), 0);
        for end in ["x", "y"] {
            log.note("a", &format!("{}{end}", "ü".repeat(LONGEST_REASON)), |_| said += 1);
        }
        assert_eq!(said, 1);
    }
}
