//! Keys that a worker has fetched, by where they are from: they outlive the configuration that named them, so that a change of
//! something else does not have them fetched again.
//!
//! ```text
//!   none -- fetched --> fresh -- soon old --> fresh, being fetched again (nobody waits)
//!                         |                        |
//!                         +-- cache_duration --> old (requests wait for the next fetch)
//!   a fetch failed --> not asked again for a while; old keys go on where `async_fetch` says so
//! ```

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use http::uri::{Authority, PathAndQuery};
use tokio::sync::Notify;

use super::keys::KeySet;

/// Requests of a worker that wait for the same keys; more are refused at once.
const MOST_WAITING: usize = 1024;
/// Sources that a worker knows. The one that was asked for longest ago makes place.
const MOST_SOURCES: usize = 256;
/// So long before their end, keys are fetched again.
const BEFORE_END: Duration = Duration::from_secs(5);

/// `remote_jwks`: where keys are, and how they are fetched.
#[derive(Debug, PartialEq, Eq, Hash)]
pub(crate) struct KeySource {
    pub(crate) cluster: Arc<str>,
    pub(super) authority: Authority,
    pub(super) path: PathAndQuery,
    pub(super) timeout: Option<Duration>,
    pub(super) cache_duration: Duration,
    pub(super) retries: u32,
    pub(super) backoff: Duration,
    pub(super) longest_backoff: Duration,
    /// How long nobody asks after a failure.
    pub(super) after_failure: Duration,
    /// Whether keys are used beyond their end while none can be fetched.
    pub(super) keeps_old: bool,
}

/// What a worker has of one source.
#[derive(Debug, Default)]
pub(super) struct FetchedKeys {
    keys: RefCell<Option<(Rc<KeySet>, Instant)>>,
    asked: Cell<Option<Instant>>,
    not_before: Cell<Option<Instant>>,
    fetching: Cell<bool>,
    waiting: Cell<usize>,
    fetched: Notify,
}

/// What there is for a request at a moment.
#[derive(Debug)]
pub(super) enum KeysNow {
    Fresh(Rc<KeySet>),
    /// They do, and shall be fetched again meanwhile.
    Aging(Rc<KeySet>),
    /// They have to be fetched.
    Fetch,
    /// They are being fetched.
    Wait,
    /// They could not be fetched, or too many wait.
    Unavailable,
}

impl FetchedKeys {
    pub(super) fn now(&self, source: &KeySource, now: Instant) -> KeysNow {
        let may_fetch = !self.fetching.get() && self.not_before.get().is_none_or(|moment| now >= moment);
        if let Some((keys, since)) = &*self.keys.borrow() {
            let age = now.saturating_duration_since(*since);
            if age < source.cache_duration {
                let soon_old = age + BEFORE_END.min(source.cache_duration / 2) >= source.cache_duration;
                let keys = Rc::clone(keys);
                return if soon_old && may_fetch { KeysNow::Aging(keys) } else { KeysNow::Fresh(keys) };
            }
            if source.keeps_old && !may_fetch && !self.fetching.get() {
                return KeysNow::Fresh(Rc::clone(keys));
            }
        }
        if may_fetch {
            KeysNow::Fetch
        } else if self.fetching.get() && self.waiting.get() < MOST_WAITING {
            KeysNow::Wait
        } else {
            KeysNow::Unavailable
        }
    }

    pub(super) fn begin_fetch(&self) {
        self.fetching.set(true);
    }

    pub(super) fn end_fetch(&self, source: &KeySource, fetched: Option<KeySet>, now: Instant) {
        self.fetching.set(false);
        match fetched {
            Some(keys) => {
                *self.keys.borrow_mut() = Some((Rc::new(keys), now));
                self.not_before.set(None);
            }
            None => self.not_before.set(Some(now + source.after_failure)),
        }
        self.fetched.notify_waiters();
    }

    /// Waits for the end of a fetch that is under way.
    pub(super) async fn wait(&self) {
        let _place = WaitingPlace::take(&self.waiting);
        self.fetched.notified().await;
    }
}

struct WaitingPlace<'a>(&'a Cell<usize>);

impl<'a> WaitingPlace<'a> {
    fn take(waiting: &'a Cell<usize>) -> Self {
        waiting.set(waiting.get() + 1);
        Self(waiting)
    }
}

impl Drop for WaitingPlace<'_> {
    fn drop(&mut self) {
        self.0.set(self.0.get() - 1);
    }
}

/// The keys of all sources, of one worker.
#[derive(Debug, Default)]
pub(crate) struct KeyCache(RefCell<HashMap<Arc<KeySource>, Rc<FetchedKeys>>>);

impl KeyCache {
    pub(super) fn of(&self, source: &Arc<KeySource>, now: Instant) -> Rc<FetchedKeys> {
        let mut sources = self.0.borrow_mut();
        if !sources.contains_key(source) && sources.len() >= MOST_SOURCES {
            let oldest =
                sources.iter().min_by_key(|(_, keys)| keys.asked.get()).map(|(source, _)| source.clone());
            oldest.and_then(|oldest| sources.remove(&oldest));
        }
        let keys = Rc::clone(sources.entry(Arc::clone(source)).or_default());
        keys.asked.set(Some(now));
        keys
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEYS: &[u8] = br#"{"keys":[{"kty":"oct","k":"AAAA"}]}"#;

    fn source(path: &'static str, keeps_old: bool) -> Arc<KeySource> {
        Arc::new(KeySource {
            cluster: "keys".into(),
            authority: Authority::from_static("keys.test"),
            path: PathAndQuery::from_static(path),
            timeout: None,
            cache_duration: Duration::from_secs(60),
            retries: 0,
            backoff: Duration::from_secs(1),
            longest_backoff: Duration::from_secs(1),
            after_failure: Duration::from_secs(1),
            keeps_old,
        })
    }

    #[test]
    fn keys_are_fetched_once_before_they_are_old_and_again_when_they_are() {
        let (source, keys, start) = (source("/", false), FetchedKeys::default(), Instant::now());
        let at = |seconds| start + Duration::from_secs(seconds);
        assert!(matches!(keys.now(&source, start), KeysNow::Fetch));
        keys.begin_fetch();
        assert!(matches!(keys.now(&source, start), KeysNow::Wait));
        keys.end_fetch(&source, KeySet::parse(KEYS).ok(), start);
        assert!(matches!(keys.now(&source, at(54)), KeysNow::Fresh(_)));
        assert!(matches!(keys.now(&source, at(56)), KeysNow::Aging(_)));
        keys.begin_fetch();
        assert!(matches!(keys.now(&source, at(56)), KeysNow::Fresh(_)), "nobody waits, one fetches");
        assert!(matches!(keys.now(&source, at(61)), KeysNow::Wait));
        keys.end_fetch(&source, None, at(61));
        assert!(
            matches!(keys.now(&source, at(61)), KeysNow::Unavailable),
            "the failure is not repeated at once"
        );
        assert!(matches!(keys.now(&source, at(62)), KeysNow::Fetch));
    }

    #[test]
    fn old_keys_go_on_where_that_is_said() {
        let (source, keys, start) = (source("/", true), FetchedKeys::default(), Instant::now());
        keys.end_fetch(&source, KeySet::parse(KEYS).ok(), start);
        let later = start + Duration::from_secs(100);
        assert!(matches!(keys.now(&source, later), KeysNow::Fetch), "new ones are wanted first");
        keys.begin_fetch();
        keys.end_fetch(&source, None, later);
        assert!(matches!(keys.now(&source, later), KeysNow::Fresh(_)));
    }

    #[test]
    fn who_waits_and_what_is_known_is_bounded() {
        let (one, keys, now) = (source("/", false), FetchedKeys::default(), Instant::now());
        keys.begin_fetch();
        let places: Vec<_> = (0..MOST_WAITING).map(|_| WaitingPlace::take(&keys.waiting)).collect();
        assert!(matches!(keys.now(&one, now), KeysNow::Unavailable));
        drop(places);
        assert!(matches!(keys.now(&one, now), KeysNow::Wait));
        let cache = KeyCache::default();
        for index in 0..=MOST_SOURCES {
            let path = PathAndQuery::try_from(format!("/{index}")).unwrap();
            let one = Arc::into_inner(source("/", false)).unwrap();
            let one = Arc::new(KeySource { path, ..one });
            cache.of(&one, now + Duration::from_secs(index as u64));
        }
        assert_eq!(cache.0.borrow().len(), MOST_SOURCES);
    }
}
