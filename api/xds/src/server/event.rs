//! What a session reports: for status, metrics, and what is remembered beyond the stream.

use std::sync::Arc;

use weft_api::resource::{ResourceKind, Version};

/// What happened on the stream, for status and metrics. Never carries a body.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum SessionEvent {
    /// A response was handed to the transport.
    Sent {
        /// The resource type of the response.
        kind: ResourceKind,
        /// How many resources it carries.
        resources: usize,
        /// Names removed by it.
        removed: usize,
        /// Its size in bytes, an upper bound within a few bytes a resource.
        bytes: usize,
    },
    /// The client accepted these; a removed name has no version.
    Acked {
        /// The resource type that this is about.
        kind: ResourceKind,
        /// Names, and the versions the client now runs.
        resources: Vec<(Arc<str>, Option<Version>)>,
    },
    /// The client has these since an earlier stream (R1), named one by one or by the version of the whole set.
    Resumed {
        /// The resource type that this is about.
        kind: ResourceKind,
        /// Names of the resources, each once.
        names: Vec<Arc<str>>,
    },
    /// The client refused a response (S11).
    Nacked {
        /// The resource type that this is about.
        kind: ResourceKind,
        /// What was new in the response.
        resources: Vec<(Arc<str>, Version)>,
        /// The message of the NACK's `error_detail`, cut and without control characters.
        message: Arc<str>,
        /// whether the resource stands alone and is quarantined, or the parts are still to be tried.
        blame: Blame,
    },
    /// The client refuses this resource, or this set, for certain: it is not sent again until it changes (S9).
    Quarantined {
        /// The resource type that this is about.
        kind: ResourceKind,
        /// What it refuses: to be remembered beyond the stream.
        rejected: Rejected,
    },
    /// A listener or route no longer waits for this cluster (W8).
    GateTimedOut {
        /// The cluster that was not accepted in time.
        cluster: Arc<str>,
    },
    /// A type of a delta stream no longer waits for an ACK before it sends more (W8).
    AckOverdue {
        /// The resource type that this is about.
        kind: ResourceKind,
    },
    /// The client has answered for everything at this revision.
    Synced {
        /// Revision of the view that was answered for.
        revision: u64,
        /// How many resources it refuses.
        rejected: usize,
    },
    /// A request for a type that Weft does not serve; the stream stays open (S3).
    UnknownType {
        /// The type URL of the request, cut to a label.
        type_url: String,
    },
}

/// How sure a NACK is about its culprit (S10).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Blame {
    /// The resource was sent alone: it is bad, and will not be sent again until it changes.
    Certain,
    /// One or more of several. Smaller parts follow, or, where a part would delete the rest, the set is blocked.
    Shared,
}

/// A resource that the client refuses, in quarantine until it changes (S9).
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Rejected {
    /// Its name; `*` for a whole set of which the client named nothing.
    pub name: Arc<str>,
    /// The version that was refused; another one is tried.
    pub version: Version,
    /// The message of the NACK's `error_detail`, cut and without control characters.
    pub message: Arc<str>,
}

/// Stands for the whole set where the client refused it and named nothing of it.
pub(super) const COMPLETE_SET: &str = "*";
