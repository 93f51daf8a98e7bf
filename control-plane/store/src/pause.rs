//! How long to wait for a store that does not answer.

use std::time::Duration;

/// The first wait is between this and twice as long.
const FIRST: Duration = Duration::from_millis(100);
/// No wait is longer.
const LONGEST: Duration = Duration::from_secs(5);

/// Waits that grow while the store fails, and that differ, so that replicas do not come back at once. The rule is that of
/// `weft_api::Backoff`; it stands here once more because this crate uses nothing of ours.
#[derive(Clone, Debug)]
pub(crate) struct Pauses {
    ceiling: Duration,
}

impl Pauses {
    pub(crate) const fn new() -> Self {
        Self { ceiling: FIRST }
    }

    /// The wait before the next try.
    pub(crate) fn next(&mut self) -> Duration {
        self.ceiling = (self.ceiling * 2).min(LONGEST);
        rand::random_range(FIRST..=self.ceiling)
    }

    /// It has answered: the next wait is as the first one.
    pub(crate) fn reset(&mut self) {
        self.ceiling = FIRST;
    }
}
