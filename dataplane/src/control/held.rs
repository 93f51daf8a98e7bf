//! Resources as they are kept: what was accepted, what is on its way, what was refused.

use std::sync::Arc;
use std::time::SystemTime;

use bytes::Bytes;
use tokio::time::Instant;

use crate::decode::Source;
use crate::rejection::Rejection;

/// Names a resource that others refer to.
pub type ChildKey = (Source, Arc<str>);

/// Who configured a resource.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    /// The bootstrap file.
    Static,
    /// A stream or a watched file.
    Dynamic,
}

/// A resource that was accepted.
#[derive(Debug, Clone)]
pub struct Held<T> {
    /// What it means.
    pub value: T,
    /// The version that its source gave it.
    pub version: Arc<str>,
    /// Its bytes, for dumps and the snapshot.
    pub body: Bytes,
    /// Fields that have no effect.
    pub ignored: Vec<String>,
    /// When it was taken.
    pub updated: SystemTime,
    /// Who configured it.
    pub origin: Origin,
}

impl Held<()> {
    /// The same resource with what it means.
    pub(super) fn with<T>(self, value: T) -> Held<T> {
        let Self { value: (), version, body, ignored, updated, origin } = self;
        Held { value, version, body, ignored, updated, origin }
    }
}

/// The last version that was refused.
#[derive(Debug, Clone)]
pub struct Refused {
    /// Its version.
    pub version: Arc<str>,
    /// Its bytes.
    pub body: Bytes,
    /// Why.
    pub rejection: Rejection,
    /// When.
    pub at: SystemTime,
}

/// A resource that warms before it is used.
#[derive(Debug)]
pub struct Slot<T> {
    /// In use.
    pub active: Option<Held<Arc<T>>>,
    /// On its way, since when.
    pub warming: Option<(Held<Arc<T>>, Instant)>,
    /// Refused last, until something is accepted.
    pub refused: Option<Refused>,
}

impl<T> Default for Slot<T> {
    fn default() -> Self {
        Self { active: None, warming: None, refused: None }
    }
}

impl<T> Slot<T> {
    /// What is in use, then what is on its way.
    pub(super) fn both(&self) -> impl Iterator<Item = &Held<Arc<T>>> {
        self.active.iter().chain(self.warming.as_ref().map(|(held, _)| held))
    }

    /// What came last: on its way, else in use.
    pub(super) fn newest(&self) -> Option<&Held<Arc<T>>> {
        self.both().last()
    }
}

/// A resource that arrives for others; used at once.
#[derive(Debug)]
pub struct Leaf<T> {
    /// In use.
    pub held: Option<Held<T>>,
    /// Refused last, until something is accepted.
    pub refused: Option<Refused>,
}

impl<T> Default for Leaf<T> {
    fn default() -> Self {
        Self { held: None, refused: None }
    }
}

/// One resource of an update.
#[derive(Debug, Clone)]
pub struct Incoming {
    /// Its name.
    pub name: Arc<str>,
    /// Its version.
    pub version: Arc<str>,
    /// Its bytes.
    pub body: Bytes,
}

/// A refused resource: its name and why.
pub type Refusal = (Arc<str>, Rejection);

/// The time of an event, on both clocks.
#[derive(Debug, Clone, Copy)]
pub struct Now {
    /// For waiting.
    pub instant: Instant,
    /// For people.
    pub wall: SystemTime,
}

pub(super) fn refused_of<T>(held: &Held<T>, rejection: &Rejection, now: Now) -> Refused {
    Refused {
        version: Arc::clone(&held.version),
        body: held.body.clone(),
        rejection: rejection.clone(),
        at: now.wall,
    }
}
