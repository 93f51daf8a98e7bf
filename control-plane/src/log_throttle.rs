//! Says a thing once a minute, however often it happens: what strangers do must not fill the log.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

const PAUSE: Duration = Duration::from_secs(60);
// Above this, nothing new is said within the minute; counters still count.
const MOST: usize = 1024;

/// Remembers what was said, by key: who and why, for example.
#[derive(Debug)]
pub struct LogThrottle<K> {
    // A lock because any connection asks; held for a map look-up.
    said: Mutex<HashMap<K, LastLogged>>,
}

#[derive(Debug)]
struct LastLogged {
    at: Instant,
    more: u64,
}

impl<K> Default for LogThrottle<K> {
    fn default() -> Self {
        Self { said: Mutex::new(HashMap::new()) }
    }
}

impl<K: Eq + Hash> LogThrottle<K> {
    /// Whether this is to be said now; with how many of its kind went unsaid since the last time.
    pub fn speaks(&self, key: K) -> Option<u64> {
        let now = Instant::now();
        let mut said = self.said.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(before) = said.get_mut(&key) {
            if now.duration_since(before.at) < PAUSE {
                before.more += 1;
                return None;
            }
            before.at = now;
            return Some(std::mem::take(&mut before.more));
        }
        if said.len() >= MOST {
            // Those that were not heard of for a minute make room; what they left unsaid is lost.
            said.retain(|_, said| now.duration_since(said.at) < PAUSE);
        }
        if said.len() >= MOST {
            return None;
        }
        said.insert(key, LastLogged { at: now, more: 0 });
        Some(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn each_thing_is_said_once_a_minute_with_the_number_of_those_unsaid() {
        let throttle = LogThrottle::default();
        assert_eq!((throttle.speaks("a"), throttle.speaks("b")), (Some(0), Some(0)));
        assert_eq!((throttle.speaks("a"), throttle.speaks("a")), (None, None));
        tokio::time::advance(PAUSE).await;
        assert_eq!(
            (throttle.speaks("a"), throttle.speaks("a"), throttle.speaks("b")),
            (Some(2), None, Some(0))
        );
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_remembered_is_bounded() {
        let throttle = LogThrottle::default();
        assert_eq!((0..2 * MOST).filter(|key| throttle.speaks(*key).is_some()).count(), MOST);
        tokio::time::advance(PAUSE).await;
        assert_eq!(throttle.speaks(2 * MOST), Some(0));
        assert_eq!(throttle.said.lock().unwrap().len(), 1);
    }
}
