//! Resources as they are kept: what was accepted, what is on its way, what was refused.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::SystemTime;

use bytes::Bytes;
use tokio::time::Instant;

use crate::decode::{Reference, Source};
use crate::dns::Question;
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

/// What has to be asked for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Wanted {
    /// Names by type.
    pub endpoints: HashSet<ChildKey>,
    /// Names by type.
    pub routes: HashSet<ChildKey>,
    /// Names by type.
    pub secrets: HashSet<ChildKey>,
    /// Names to resolve.
    pub questions: Vec<Question>,
}

pub(super) fn refused_of<T>(held: &Held<T>, rejection: &Rejection, now: Now) -> Refused {
    Refused {
        version: Arc::clone(&held.version),
        body: held.body.clone(),
        rejection: rejection.clone(),
        at: now.wall,
    }
}

pub(super) fn key_of(reference: &Reference) -> ChildKey {
    (reference.source.clone(), Arc::clone(&reference.name))
}
