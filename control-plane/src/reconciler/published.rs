//! What the reconciler publishes.

use std::collections::VecDeque;
use std::sync::Arc;

use weft_api::WorkloadId;
use weft_policies::set::PolicySet;

/// By which publication a revision of the policies went out, and to whom.
#[derive(Clone, Debug)]
pub struct Publication {
    /// Revision of the policies.
    pub policies: u64,
    /// Number of the publication.
    pub number: u64,
    /// Workloads with streams that it gave something else to.
    pub targets: Arc<[WorkloadId]>,
}

/// What is published: how far, and the policies that readers may look at.
#[derive(Clone, Debug, Default)]
pub struct Published {
    /// True once policies and workloads were read at known revisions (rule S14).
    pub ready: bool,
    /// Counts publications; the revision of views. It means something in this process only.
    pub revision: u64,
    /// Revision of the policies.
    pub policy_revision: u64,
    /// How the newest revisions of the policies went out, oldest first.
    pub publications: Arc<VecDeque<Publication>>,
    pub set: Arc<PolicySet>,
    /// Workloads held back from draining because too many were lost at once.
    pub held_back: usize,
}
