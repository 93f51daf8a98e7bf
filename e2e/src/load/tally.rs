//! What became of the requests.

use std::collections::BTreeMap;
use std::time::Duration;

/// Failures that are kept word for word; the others are counted.
const KEPT: usize = 20;

/// A request that failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FailedRequest {
    /// When it was started, since the load began.
    pub at: Duration,
    /// How long it took.
    pub took: Duration,
    /// The era it was started in.
    pub era: usize,
    /// Why.
    pub reason: String,
}

/// The requests that were started between two changes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Era {
    /// Answers by workload.
    pub answers: BTreeMap<String, u64>,
    /// Requests that failed.
    pub failed: u64,
}

impl Era {
    /// Requests that have ended.
    #[must_use]
    pub fn ended(&self) -> u64 {
        self.answered() + self.failed
    }

    /// Requests that were answered.
    #[must_use]
    pub fn answered(&self) -> u64 {
        self.answers.values().sum()
    }

    /// The share of the answers that came from a workload, in percent.
    #[must_use]
    pub fn percent(&self, workload: &str) -> f64 {
        let from = self.answers.get(workload).copied().unwrap_or(0);
        if self.answered() == 0 { 0.0 } else { 100.0 * from as f64 / self.answered() as f64 }
    }
}

/// All requests of a load.
#[derive(Clone, Debug, Default)]
pub struct Tally {
    eras: BTreeMap<usize, Era>,
    failures: Vec<FailedRequest>,
    failed: u64,
    started: u64,
    ended: u64,
    slowest: Duration,
}

impl Tally {
    /// One era.
    #[must_use]
    pub fn era(&self, era: usize) -> Era {
        self.eras.get(&era).cloned().unwrap_or_default()
    }

    /// Requests that were answered, in all eras.
    #[must_use]
    pub fn answered(&self) -> u64 {
        self.ended - self.failed
    }

    /// Requests that failed, in all eras.
    #[must_use]
    pub fn failed(&self) -> u64 {
        self.failed
    }

    /// The first failures, word for word.
    #[must_use]
    pub fn failures(&self) -> &[FailedRequest] {
        &self.failures
    }

    /// Requests without an end.
    #[must_use]
    pub fn under_way(&self) -> u64 {
        self.started - self.ended
    }

    /// The longest that an answer took.
    #[must_use]
    pub fn slowest(&self) -> Duration {
        self.slowest
    }

    pub(super) fn start(&mut self) {
        self.started += 1;
    }

    pub(super) fn end(&mut self, era: usize, at: Duration, took: Duration, outcome: Result<String, String>) {
        self.ended += 1;
        self.slowest = self.slowest.max(took);
        let entry = self.eras.entry(era).or_default();
        match outcome {
            Ok(workload) => *entry.answers.entry(workload).or_default() += 1,
            Err(reason) => {
                entry.failed += 1;
                self.failed += 1;
                if self.failures.len() < KEPT {
                    self.failures.push(FailedRequest { at, took, era, reason });
                }
            }
        }
    }
}

impl std::fmt::Display for Tally {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} answered, {} failed, slowest {:?}", self.answered(), self.failed, self.slowest)?;
        for FailedRequest { at, took, era, reason } in &self.failures {
            write!(f, "\n  at {at:.1?} (era {era}, took {took:.1?}): {reason}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_request_is_in_the_era_of_its_start_and_failures_keep_their_reason() {
        let mut tally = Tally::default();
        for (era, outcome) in [(0, Ok("a")), (0, Ok("b")), (1, Ok("a")), (1, Err("503: no"))] {
            tally.start();
            let outcome = outcome.map(str::to_owned).map_err(str::to_owned);
            tally.end(era, Duration::ZERO, Duration::ZERO, outcome);
        }
        tally.start();
        assert_eq!((tally.answered(), tally.failed(), tally.under_way()), (3, 1, 1));
        assert!((tally.era(0).percent("a") - 50.0).abs() < 1e-9);
        assert_eq!((tally.era(1).answered(), tally.era(1).failed, tally.era(2).ended()), (1, 1, 0));
        assert_eq!(tally.failures()[0].reason, "503: no");
        assert!(tally.to_string().contains("503: no"), "{tally}");
    }
}
