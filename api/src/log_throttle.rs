//! What may happen thousands of times is logged once a minute, with how often it was kept quiet about.

use std::collections::HashMap;
use std::fmt::Debug;
use std::hash::Hash;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// The same thing is said again after this long.
const QUIET: Duration = Duration::from_secs(60);
/// Different things remembered at once. What comes beyond is said of all of them together, so that nobody who makes up
/// names fills the memory or the log.
const REMEMBERED: usize = 512;

/// What was logged of late, by key: who and why, for example.
#[derive(Debug)]
pub struct LogThrottle<K> {
    /// By key, and under `None` all that find no place. A lock, because any thread may have something to say; nothing but
    /// the table is touched under it.
    said: Mutex<HashMap<Option<K>, LastLogged>>,
}

#[derive(Debug)]
struct LastLogged {
    at: Instant,
    unsaid: u64,
}

impl<K> Default for LogThrottle<K> {
    fn default() -> Self {
        Self { said: Mutex::new(HashMap::new()) }
    }
}

impl<K: Eq + Hash> LogThrottle<K> {
    /// Whether this is to be said now; with how often it happened unsaid since the last time.
    pub fn speaks(&self, key: K) -> Option<u64> {
        self.speaks_at(key, Instant::now())
    }

    /// The same, for who has the time already.
    pub fn speaks_at(&self, key: K, now: Instant) -> Option<u64> {
        let (is_told_apart, unsaid) = self.note(key, now)?;
        if is_told_apart {
            return Some(unsaid);
        }
        tracing::warn!(
            event = "failures_unsaid",
            unsaid,
            "more happens than is told apart; what is over the bound has this line alone"
        );
        None
    }

    /// What to say, if anything: of this key, or of all that find no place.
    fn note(&self, key: K, now: Instant) -> Option<(bool, u64)> {
        let mut said = self.said.lock().unwrap_or_else(PoisonError::into_inner);
        let mut key = Some(key);
        if !said.contains_key(&key) && said.len() >= REMEMBERED {
            said.retain(|_, said| now.duration_since(said.at) < QUIET);
            if said.len() >= REMEMBERED {
                key = None;
            }
        }
        let is_told_apart = key.is_some();
        match said.get_mut(&key) {
            Some(said) if now.duration_since(said.at) < QUIET => {
                said.unsaid += 1;
                None
            }
            Some(said) => {
                said.at = now;
                Some((is_told_apart, std::mem::take(&mut said.unsaid)))
            }
            None => {
                said.insert(key, LastLogged { at: now, unsaid: 0 });
                Some((is_told_apart, 0))
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
        assert_eq!(throttle.speaks_at(("a", "x"), at(0)), Some(0));
        assert_eq!(throttle.speaks_at(("a", "x"), at(1)), None);
        assert_eq!(throttle.speaks_at(("a", "x"), at(59)), None);
        assert_eq!(throttle.speaks_at(("a", "y"), at(59)), Some(0), "another reason");
        assert_eq!(throttle.speaks_at(("b", "x"), at(59)), Some(0), "another peer");
        assert_eq!(throttle.speaks_at(("a", "x"), at(60)), Some(2));
        assert_eq!(throttle.speaks_at(("a", "x"), at(120)), Some(0), "what was said is not said again");
    }

    #[test]
    fn made_up_keys_fill_neither_memory_nor_log() {
        let (throttle, start) = (LogThrottle::default(), Instant::now());
        let turns = (0..10_000).filter_map(|key| throttle.note(key, start));
        assert_eq!(turns.count(), REMEMBERED + 1);
        assert_eq!(throttle.said.lock().unwrap().len(), REMEMBERED + 1);
        let later = start + QUIET;
        assert_eq!(throttle.speaks_at(10_000, later), Some(0), "old ones make room");
        assert_eq!(throttle.said.lock().unwrap().len(), 1);
    }
}
