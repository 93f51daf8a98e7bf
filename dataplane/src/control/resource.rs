//! One resource as it is kept: the accepted version, the one that warms, and the one that was refused last.

use std::sync::Arc;
use std::time::SystemTime;

use bytes::Bytes;
use tokio::time::Instant;
use weft_routing::rejection::Rejection;

use crate::decode::ConfigSource;

/// Which child resource: where it comes from, and its name.
pub type ChildKey = (ConfigSource, Arc<str>);

/// Who configured a resource.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ConfigOrigin {
    Static,
    /// A stream or a watched file.
    Dynamic,
}

/// A version of a resource that was decoded and accepted.
#[derive(Debug, Clone)]
pub struct Accepted<T> {
    pub value: T,
    /// The version that its source gave it.
    pub version: Arc<str>,
    /// Its bytes, for dumps and the snapshot.
    pub body: Bytes,
    /// Fields that have no effect.
    pub ignored: Vec<String>,
    /// When it was accepted.
    pub updated: SystemTime,
    pub origin: ConfigOrigin,
}

impl Accepted<()> {
    /// The same resource with what it means.
    pub(super) fn with<T>(self, value: T) -> Accepted<T> {
        let Self { value: (), version, body, ignored, updated, origin } = self;
        Accepted { value, version, body, ignored, updated, origin }
    }
}

/// A version of a resource that was refused, as `/config_dump` shows it.
#[derive(Debug, Clone)]
pub struct Refused {
    pub version: Arc<str>,
    pub body: Bytes,
    pub rejection: Rejection,
    pub at: SystemTime,
}

/// A resource that warms before it is used.
#[derive(Debug)]
pub struct WarmingResource<T> {
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
pub struct ReceivedResource {
    pub name: Arc<str>,
    pub version: Arc<str>,
    pub body: Bytes,
}

/// A refused resource: its name and why.
pub type RefusedName = (Arc<str>, Rejection);

/// The time of an event, on both clocks.
#[derive(Debug, Clone, Copy)]
pub struct Now {
    /// What waits are measured by.
    pub instant: Instant,
    /// What people are shown.
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
