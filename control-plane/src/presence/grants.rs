//! Who may have the name of a workload that an operator's file describes.
//!
//! A file's Workload is an operator's word: it may make a member of any service of its namespace. A joiner that took its
//! name would inherit that word, so the name is free only to a token of a service that the file itself grants, whichever
//! of the two came first. The join asks here, and so does everything that looks at a record later.

use weft_api::{ServiceId, WorkloadId};
use weft_policies::set::PolicySet;

/// The name is in a file that does not grant the service.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "the name {workload} is held by a Workload in a file, which grants it to {} and not to {service}; use another --name, \
     or list {service} in that Workload's spec.services",
    list(.granted)
)]
pub struct NotGranted {
    pub workload: WorkloadId,
    /// The service of the token.
    pub service: ServiceId,
    /// The services that the file grants.
    pub granted: Vec<ServiceId>,
}

/// Whether a member of `service` may have the name `workload`.
///
/// # Errors
/// When a file holds the name and grants other services only, or none.
pub fn check(workload: &WorkloadId, service: &ServiceId, set: &PolicySet) -> Result<(), NotGranted> {
    let Some(file) = set.workload(workload) else { return Ok(()) };
    let listed = file.spec.services.iter().map(|listed| listed.resolve(&workload.namespace));
    let selecting = set.services().filter(|object| {
        object.metadata.namespace == workload.namespace
            && object.spec.selector.as_ref().is_some_and(|selector| selector.matches(&file.metadata.labels))
    });
    let granted: Vec<ServiceId> = listed.chain(selecting.map(|object| object.id())).collect();
    if granted.contains(service) {
        return Ok(());
    }
    Err(NotGranted { workload: workload.clone(), service: service.clone(), granted })
}

fn list(granted: &[ServiceId]) -> String {
    match granted {
        [] => "no service".to_owned(),
        _ => granted.iter().map(ToString::to_string).collect::<Vec<_>>().join(", "),
    }
}
