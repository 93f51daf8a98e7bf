//! Updates that are applied and not yet answered: the ACK follows the swap, and that follows the warm-up.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;
use weft_api::ResourceKind;
use weft_xds::client::{ResponseId, Verdict};

use super::resource::RefusedName;
use super::world::World;

/// An update is acknowledged after this long even when something in it still waits for what it names: it was
/// taken, and the server must not wait for ever.
const LONGEST: Duration = Duration::from_secs(15);

/// A discovery response that is applied and not yet acknowledged.
#[derive(Debug)]
pub(super) struct PendingUpdate {
    pub(super) kind: ResourceKind,
    pub(super) response_id: ResponseId,
    names: Vec<(Arc<str>, Arc<str>)>,
    refusals: Vec<RefusedName>,
    deadline: Instant,
}

impl PendingUpdate {
    pub(super) fn new(
        kind: ResourceKind,
        response_id: ResponseId,
        names: Vec<(Arc<str>, Arc<str>)>,
        refusals: Vec<RefusedName>,
        now: Instant,
    ) -> Self {
        Self { kind, response_id, names, refusals, deadline: now + LONGEST }
    }

    /// A refusal that showed only later.
    pub(super) fn refuse(&mut self, kind: ResourceKind, refusal: &RefusedName) {
        if kind == self.kind && self.names.iter().any(|(name, _)| *name == refusal.0) {
            self.refusals.push(refusal.clone());
        }
    }

    /// Whether everything in it is in use, refused or replaced.
    pub(super) fn is_settled(&self, world: &World, now: Instant) -> bool {
        now >= self.deadline
            || self.names.iter().all(|(name, version)| world.is_settled(self.kind, name, version))
    }

    pub(super) fn deadline(&self) -> Instant {
        self.deadline
    }

    /// ACK, or NACK with the name, field and reason of each refused resource.
    pub(super) fn verdict(&self) -> Verdict {
        if self.refusals.is_empty() {
            return Verdict::Ack;
        }
        let words: Vec<String> =
            self.refusals.iter().map(|(name, rejection)| format!("{name}: {rejection}")).collect();
        Verdict::Nack(words.join("; "))
    }
}
