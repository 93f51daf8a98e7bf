//! A worker's end of taps: one look at a value of its own while there is none.

use std::cell::{Cell, RefCell};
use std::sync::Arc;

use tokio::sync::mpsc;

use crate::access_log_service::entry::LogEntry;
use crate::format::{FormatContext, LogNeeds};
use crate::runtime::TrafficDirection;
use crate::tap::set::TapSet;

/// A request that ended and that somebody wants to see.
#[derive(Debug)]
pub(crate) struct EndedRequest {
    pub(crate) direction: TrafficDirection,
    pub(crate) entry: LogEntry,
}

/// What a worker knows of taps.
#[derive(Debug)]
pub(crate) struct TapPoint {
    is_on: Cell<bool>,
    set: RefCell<Arc<TapSet>>,
    ended: mpsc::Sender<EndedRequest>,
}

impl TapPoint {
    pub(super) fn new(ended: mpsc::Sender<EndedRequest>) -> Self {
        Self { is_on: Cell::new(false), set: RefCell::default(), ended }
    }

    pub(super) fn set(&self, set: Arc<TapSet>) {
        self.is_on.set(!set.is_empty());
        self.set.replace(set);
    }

    /// Whether there is a tap.
    pub(super) fn is_on(&self) -> bool {
        self.is_on.get()
    }

    /// What has to be kept of a request that begins now.
    pub(super) fn needs(&self) -> LogNeeds {
        if self.is_on() { self.set.borrow().needs() } else { LogNeeds::default() }
    }

    /// A request ended; so much was kept of it.
    pub(super) fn tell(&self, direction: TrafficDirection, kept: LogNeeds, at: &FormatContext<'_>) {
        let set = self.set.borrow();
        if set.take(direction, kept, at) {
            let entry = LogEntry::shown(set.headers(), at);
            if self.ended.try_send(EndedRequest { direction, entry }).is_err() {
                set.lost(direction, 1);
            }
        }
    }
}
