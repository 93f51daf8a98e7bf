//! What may happen thousands of times is logged once a minute, with how often it was kept quiet about.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// The same thing is said again after this long.
const QUIET: Duration = Duration::from_secs(60);
/// Different things remembered at once. What comes beyond is said of all of them together, so that nobody who makes up
/// names fills the memory or the log.
const REMEMBERED: usize = 512;
/// More of a reason than this is not kept: a peer can choose how long it is.
const LONGEST_REASON: usize = 256;

/// What all workers have logged of late, so that a failure that repeats is one line a minute.
#[derive(Debug, Default)]
pub(crate) struct LogThrottle {
    /// A lock, since a worker must not repeat what another has said. It is taken where something failed and never on the
    /// path of a request that goes well; nothing but the table is touched under it.
    said: Mutex<HashMap<FailureKey, LastLogged>>,
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct FailureKey {
    who: Box<str>,
    why: Box<str>,
}

#[derive(Debug)]
struct LastLogged {
    at: Instant,
    unsaid: u64,
}

/// Whether to write a line.
#[derive(Debug, PartialEq, Eq)]
enum LogDecision {
    Silent,
    Log {
        unsaid: u64,
    },
    /// Too many different things: one line for all that find no place.
    Others {
        unsaid: u64,
    },
}

impl LogThrottle {
    /// Calls `say` where this was not said within the last minute, with how often it happened unsaid since.
    pub(crate) fn note(&self, who: &str, why: &str, say: impl FnOnce(u64)) {
        match self.decide(who, why, super::clock::now()) {
            LogDecision::Silent => {}
            LogDecision::Log { unsaid } => say(unsaid),
            LogDecision::Others { unsaid } => {
                tracing::warn!(
                    event = "failures_unsaid",
                    unsaid,
                    "more failures of other kinds or peers than are told apart"
                );
            }
        }
    }

    fn decide(&self, who: &str, why: &str, now: Instant) -> LogDecision {
        let why = why.char_indices().nth(LONGEST_REASON).map_or(why, |(at, _)| &why[..at]);
        let thing = FailureKey { who: who.into(), why: why.into() };
        let mut said = self.said.lock().unwrap_or_else(PoisonError::into_inner);
        if !said.contains_key(&thing) && said.len() >= REMEMBERED {
            said.retain(|_, said| now.duration_since(said.at) < QUIET);
        }
        let (thing, others) = if said.contains_key(&thing) || said.len() < REMEMBERED {
            (thing, false)
        } else {
            (FailureKey { who: "".into(), why: "".into() }, true)
        };
        let log = |unsaid| if others { LogDecision::Others { unsaid } } else { LogDecision::Log { unsaid } };
        match said.get_mut(&thing) {
            Some(said) if now.duration_since(said.at) < QUIET => {
                said.unsaid += 1;
                LogDecision::Silent
            }
            Some(said) => {
                said.at = now;
                log(std::mem::take(&mut said.unsaid))
            }
            None => {
                said.insert(thing, LastLogged { at: now, unsaid: 0 });
                log(0)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn says_a_thing_once_a_minute_and_how_often_it_was_silent() {
        let (throttle, start) = (LogThrottle::default(), Instant::now());
        let at = |seconds| start + Duration::from_secs(seconds);
        assert_eq!(throttle.decide("a", "x", at(0)), LogDecision::Log { unsaid: 0 });
        assert_eq!(throttle.decide("a", "x", at(1)), LogDecision::Silent);
        assert_eq!(throttle.decide("a", "x", at(59)), LogDecision::Silent);
        assert_eq!(throttle.decide("a", "y", at(59)), LogDecision::Log { unsaid: 0 }, "another reason");
        assert_eq!(throttle.decide("b", "x", at(59)), LogDecision::Log { unsaid: 0 }, "another peer");
        assert_eq!(throttle.decide("a", "x", at(60)), LogDecision::Log { unsaid: 2 });
    }

    #[test]
    fn made_up_names_fill_neither_memory_nor_log() {
        let (throttle, start) = (LogThrottle::default(), Instant::now());
        let long = "x".repeat(100_000);
        let turns: Vec<LogDecision> =
            (0..10_000).map(|n| throttle.decide(&n.to_string(), &long, start)).collect();
        assert_eq!(turns.iter().filter(|turn| **turn != LogDecision::Silent).count(), REMEMBERED + 1);
        let said = throttle.said.lock().unwrap();
        assert_eq!(said.len(), REMEMBERED + 1);
        assert!(said.keys().all(|thing| thing.why.len() <= LONGEST_REASON));
        drop(said);
        let later = start + QUIET;
        assert_eq!(throttle.decide("new", "y", later), LogDecision::Log { unsaid: 0 }, "old ones make room");
    }
}
