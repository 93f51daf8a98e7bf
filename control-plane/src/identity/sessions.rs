//! Browsers that were signed in with a token.
//!
//! ```text
//! token ──────────────────────┐
//! token ─▶ one-time code ─────┴─▶ session { cookie, key } ─▶ read ─ switch ─▶ change
//! ```
//!
//! A session has two halves. The cookie goes wherever the browser thinks that it belongs, which on loopback is every port of
//! this machine; the key is known to the page's origin alone. Neither is good without the other, so that who gets hold of
//! cookies has nothing, and a page of another origin cannot write in the holder's name.
//!
//! All of it is in memory: a session ends with this process, and another replica does not know it. Only hashes are kept.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use aws_lc_rs::constant_time::verify_slices_are_equal;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use sha2::{Digest as _, Sha256};
use tokio::time::Instant;
use weft_api::rest::SessionMode;

use super::holders::TokenHolder;

/// How long a session lasts, whatever happens in it.
pub const LIFE: Duration = Duration::from_secs(12 * 3600);
/// How long a one-time code is good.
pub const CODE_LIFE: Duration = Duration::from_secs(60);
/// Sessions at once; one more ends the oldest.
pub const MOST_SESSIONS: usize = 64;
/// Codes that wait to be used; one more is in place of the oldest.
pub const MOST_CODES: usize = 16;

/// What somebody shows, as it is kept and looked up: time tells nothing of what a hash is like.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Print([u8; 32]);

impl Print {
    #[must_use]
    pub fn of(secret: &str) -> Self {
        Self(Sha256::digest(secret).into())
    }
}

impl fmt::Debug for Print {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Print(…)")
    }
}

/// The two halves of a new session, the only time that they are known.
pub struct Started {
    /// What the cookie holds.
    pub cookie: String,
    /// What the page sends along with each call.
    pub key: String,
    /// Whether the oldest session had to end for it.
    pub displaced: bool,
}

impl fmt::Debug for Started {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Started").field("displaced", &self.displaced).finish_non_exhaustive()
    }
}

/// A session that was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    pub cookie: Print,
    /// Whose token began it.
    pub holder: TokenHolder,
    /// What it may do now.
    pub mode: SessionMode,
    /// How long it lasts still.
    pub left: Duration,
}

#[derive(Debug)]
struct SignedIn {
    key: Print,
    holder: TokenHolder,
    mode: SessionMode,
    began: Instant,
}

#[derive(Debug)]
struct PendingLogin {
    holder: TokenHolder,
    made: Instant,
}

#[derive(Debug, Default)]
struct SessionTable {
    sessions: HashMap<Print, SignedIn>,
    codes: HashMap<Print, PendingLogin>,
}

/// The sessions of this replica.
#[derive(Debug, Default)]
pub struct Sessions {
    // A lock because any connection asks; held for a map look-up, never while waiting.
    kept: Mutex<SessionTable>,
}

impl Sessions {
    /// A code that begins one session for whoever shows it first.
    pub fn make_code(&self, holder: TokenHolder) -> String {
        let secret = secret();
        let mut kept = self.lock();
        kept.codes.retain(|_, code| code.made.elapsed() < CODE_LIFE);
        make_room(&mut kept.codes, MOST_CODES, |code| code.made);
        kept.codes.insert(Print::of(&secret), PendingLogin { holder, made: Instant::now() });
        secret
    }

    /// Whose code this is; it is none afterwards.
    pub fn redeem(&self, code: &str) -> Option<TokenHolder> {
        let code = self.lock().codes.remove(&Print::of(code))?;
        (code.made.elapsed() < CODE_LIFE).then_some(code.holder)
    }

    /// Begins a session, which reads only.
    pub fn start(&self, holder: TokenHolder) -> Started {
        let (cookie, key) = (secret(), secret());
        let mut kept = self.lock();
        kept.sessions.retain(|_, session| session.began.elapsed() < LIFE);
        let displaced = make_room(&mut kept.sessions, MOST_SESSIONS, |session| session.began);
        let session =
            SignedIn { key: Print::of(&key), holder, mode: SessionMode::ReadOnly, began: Instant::now() };
        kept.sessions.insert(Print::of(&cookie), session);
        Started { cookie, key, displaced }
    }

    /// The session of both halves.
    pub fn find(&self, cookie: &str, key: &str) -> Option<Found> {
        let cookie = Print::of(cookie);
        let kept = self.lock();
        let session = kept.sessions.get(&cookie)?;
        verify_slices_are_equal(&session.key.0, &Print::of(key).0).ok()?;
        let left = LIFE.checked_sub(session.began.elapsed()).filter(|left| !left.is_zero())?;
        Some(Found { cookie, holder: session.holder.clone(), mode: session.mode, left })
    }

    /// What a session may do from now on; false when it has ended.
    pub fn set_mode(&self, cookie: Print, mode: SessionMode) -> bool {
        self.lock().sessions.get_mut(&cookie).map(|session| session.mode = mode).is_some()
    }

    pub fn end(&self, cookie: Print) {
        self.lock().sessions.remove(&cookie);
    }

    fn lock(&self) -> MutexGuard<'_, SessionTable> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// 256 random bits as text.
fn secret() -> String {
    URL_SAFE_NO_PAD.encode(rand::random::<[u8; 32]>())
}

/// Takes the oldest out when there are as many as may be.
fn make_room<T>(held: &mut HashMap<Print, T>, most: usize, since: impl Fn(&T) -> Instant) -> bool {
    if held.len() < most {
        return false;
    }
    let oldest = held.iter().min_by_key(|(_, one)| since(one)).map(|(print, _)| *print);
    oldest.is_some_and(|print| held.remove(&print).is_some())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::identity::operator::OperatorId;

    fn operator() -> TokenHolder {
        TokenHolder::Operator(OperatorId::of("weftop.test"))
    }

    #[tokio::test(start_paused = true)]
    async fn session_needs_both_halves_and_ends_after_its_life() {
        let sessions = Sessions::default();
        let (one, other) = (sessions.start(operator()), sessions.start(operator()));
        let found = sessions.find(&one.cookie, &one.key).unwrap();
        assert_eq!((found.holder, found.mode, found.left), (operator(), SessionMode::ReadOnly, LIFE));
        assert_eq!(sessions.find(&one.cookie, &other.key), None);
        assert_eq!(sessions.find(&one.cookie, ""), None);
        assert_eq!(sessions.find(&one.key, &one.cookie), None);
        tokio::time::advance(LIFE).await;
        assert_eq!(sessions.find(&one.cookie, &one.key), None);
    }

    #[tokio::test(start_paused = true)]
    async fn code_is_good_once_and_for_a_minute() {
        let sessions = Sessions::default();
        let code = sessions.make_code(operator());
        assert_eq!((sessions.redeem(&code), sessions.redeem(&code)), (Some(operator()), None));
        let late = sessions.make_code(operator());
        tokio::time::advance(CODE_LIFE).await;
        assert_eq!(sessions.redeem(&late), None);
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_kept_is_bounded_and_the_oldest_goes() {
        let sessions = Sessions::default();
        let first = sessions.start(operator());
        for _ in 1..MOST_SESSIONS {
            tokio::time::advance(Duration::from_secs(1)).await;
            assert!(!sessions.start(operator()).displaced);
        }
        assert!(sessions.find(&first.cookie, &first.key).is_some());
        assert!(sessions.start(operator()).displaced);
        assert_eq!(sessions.find(&first.cookie, &first.key), None);
        for _ in 0..2 * MOST_CODES {
            sessions.make_code(operator());
        }
        let kept = sessions.lock();
        assert_eq!((kept.sessions.len(), kept.codes.len()), (MOST_SESSIONS, MOST_CODES));
    }

    #[tokio::test]
    async fn session_changes_its_mode_and_signs_out() {
        let sessions = Sessions::default();
        let Started { cookie, key, .. } = sessions.start(operator());
        let found = sessions.find(&cookie, &key).unwrap();
        assert!(sessions.set_mode(found.cookie, SessionMode::Changes));
        assert_eq!(sessions.find(&cookie, &key).unwrap().mode, SessionMode::Changes);
        sessions.end(found.cookie);
        assert_eq!(sessions.find(&cookie, &key), None);
        assert!(!sessions.set_mode(found.cookie, SessionMode::ReadOnly));
    }

    #[test]
    fn nothing_that_opens_a_session_is_printed() {
        let sessions = Sessions::default();
        let started = sessions.start(operator());
        let printed = format!("{started:?} {sessions:?}");
        assert!(!printed.contains(&started.cookie) && !printed.contains(&started.key), "{printed}");
    }
}
