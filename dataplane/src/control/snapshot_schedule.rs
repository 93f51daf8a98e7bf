//! Where the last good configuration is kept, and when it is written.

use std::time::Duration;

use tokio::time::Instant;

use crate::identity::IdentityDir;

/// Changes that come together are saved together.
const SAVE_AFTER: Duration = Duration::from_secs(1);

/// When the configuration in use is written next, and to which directory.
#[derive(Debug)]
pub(super) struct SnapshotSchedule {
    directory: Option<IdentityDir>,
    at: Option<Instant>,
}

impl SnapshotSchedule {
    /// `None` keeps nothing.
    pub(super) fn to(directory: Option<IdentityDir>) -> Self {
        Self { directory, at: None }
    }

    /// Where it is kept.
    pub(super) fn directory(&self) -> Option<&IdentityDir> {
        self.directory.as_ref()
    }

    /// Something changed that has to be written.
    pub(super) fn changed(&mut self, now: Instant) {
        if self.directory.is_some() {
            self.at.get_or_insert(now + SAVE_AFTER);
        }
    }

    /// Whether it is time to write.
    pub(super) fn is_due(&self, now: Instant) -> bool {
        self.at.is_some_and(|at| at <= now)
    }

    /// Where to write, if anything changed since the last time.
    pub(super) fn take(&mut self) -> Option<IdentityDir> {
        self.at.take()?;
        self.directory.clone()
    }

    /// When it is time to write.
    pub(super) fn next_deadline(&self) -> Option<Instant> {
        self.at
    }
}
