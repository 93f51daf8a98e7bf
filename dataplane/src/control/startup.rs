//! What the first configuration waits for: the control plane's word before a snapshot serves, and quiet after it.

use std::time::Duration;

use tokio::time::Instant;

/// How long a snapshot waits for the control plane's word before it is served.
const SNAPSHOT_HOLD: Duration = Duration::from_secs(2);
/// The first configuration may come in several responses, each waiting for the one before to be accepted: it counts as
/// complete when nothing more has come for this long.
const QUIET: Duration = Duration::from_millis(100);
/// Where something comes all the time, it counts as complete after this long.
const QUIET_LIMIT: Duration = Duration::from_secs(2);

/// How far the start is: whether a snapshot is held back, and whether the first configuration is complete.
#[derive(Debug, Default)]
pub(super) struct Startup {
    /// Until when a restored snapshot is held back; `None` where nothing is.
    hold_until: Option<Instant>,
    /// When something came by the stream last.
    last_update: Option<Instant>,
    /// Since when the first configuration is complete, if it stays so.
    complete_since: Option<Instant>,
}

impl Startup {
    /// Holds a restored snapshot back until the control plane had its time.
    pub(super) fn hold(&mut self, now: Instant) {
        self.hold_until = Some(now + SNAPSHOT_HOLD);
    }

    /// Something came by the stream.
    pub(super) fn update_received(&mut self, now: Instant) {
        self.hold_until = None;
        self.last_update = Some(now);
    }

    /// The control plane is away; true where a snapshot was held back for it.
    pub(super) fn give_up(&mut self) -> bool {
        self.hold_until.take().is_some()
    }

    /// Ends the hold when its time is over; true where it ends now.
    pub(super) fn end_hold(&mut self, now: Instant) -> bool {
        let over = self.hold_until.is_some_and(|until| until <= now);
        if over {
            self.hold_until = None;
        }
        over
    }

    /// Whether a snapshot is held back.
    pub(super) fn holds(&self) -> bool {
        self.hold_until.is_some()
    }

    /// The first configuration is complete, as far as can be told.
    pub(super) fn complete(&mut self, now: Instant) {
        self.complete_since.get_or_insert(now);
    }

    /// Something of the first configuration is still missing: the quiet time starts anew.
    pub(super) fn incomplete(&mut self) {
        self.complete_since = None;
    }

    /// When the first configuration counts as complete; `None` where nothing comes by a stream.
    pub(super) fn quiet_at(&self) -> Option<Instant> {
        Some((self.last_update? + QUIET).min(self.complete_since? + QUIET_LIMIT))
    }

    /// When it has to be looked at again.
    pub(super) fn next_deadline(&self) -> Option<Instant> {
        self.hold_until.into_iter().chain(self.quiet_at()).min()
    }
}
