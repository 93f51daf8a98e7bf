//! Resources as they are kept: what was accepted, what is on its way, what was refused.

use std::sync::Arc;
use std::time::SystemTime;

use bytes::Bytes;
use tokio::time::Instant;

use crate::decode::ConfigSource;
use crate::rejection::Rejection;

/// Names a resource that others refer to.
pub type ChildKey = (ConfigSource, Arc<str>);

/// Who configured a resource.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ConfigOrigin {
    /// The bootstrap file.
    Static,
    /// A stream or a watched file.
    Dynamic,
}

/// A resource that was accepted.
#[derive(Debug, Clone)]
pub struct Accepted<T> {
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
    pub origin: ConfigOrigin,
}

impl Accepted<()> {
    /// The same resource with what it means.
    pub(super) fn with<T>(self, value: T) -> Accepted<T> {
        let Self { value: (), version, body, ignored, updated, origin } = self;
        Accepted { value, version, body, ignored, updated, origin }
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
pub struct WarmingResource<T> {
    /// In use.
    pub active: Option<Accepted<Arc<T>>>,
    /// On its way, since when.
    pub warming: Option<(Accepted<Arc<T>>, Instant)>,
    /// Refused last, until something is accepted.
    pub refused: Option<Refused>,
}

impl<T> Default for WarmingResource<T> {
    fn default() -> Self {
        Self { active: None, warming: None, refused: None }
    }
}

impl<T> WarmingResource<T> {
    /// What is in use, then what is on its way.
    pub(super) fn both(&self) -> impl Iterator<Item = &Accepted<Arc<T>>> {
        self.active.iter().chain(self.warming.as_ref().map(|(accepted, _)| accepted))
    }

    /// What came last: on its way, else in use.
    pub(super) fn newest(&self) -> Option<&Accepted<Arc<T>>> {
        self.both().last()
    }
}

/// A resource that arrives for others; used at once.
#[derive(Debug)]
pub struct ChildResource<T> {
    /// In use.
    pub accepted: Option<Accepted<T>>,
    /// Refused last, until something is accepted.
    pub refused: Option<Refused>,
}

impl<T> Default for ChildResource<T> {
    fn default() -> Self {
        Self { accepted: None, refused: None }
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
pub type RefusedName = (Arc<str>, Rejection);

/// The time of an event, on both clocks.
#[derive(Debug, Clone, Copy)]
pub struct Now {
    /// For waiting.
    pub instant: Instant,
    /// For people.
    pub wall: SystemTime,
}

pub(super) fn refused_version<T>(accepted: &Accepted<T>, rejection: &Rejection, now: Now) -> Refused {
    Refused {
        version: Arc::clone(&accepted.version),
        body: accepted.body.clone(),
        rejection: rejection.clone(),
        at: now.wall,
    }
}
