//! Who is there: the records of those that joined, whether their streams and their health say that they live, and what
//! files say of them.

pub mod clock_offsets;
pub mod grants;
pub mod listening_applications;
pub mod liveness;
pub mod registry;
pub mod workloads;
