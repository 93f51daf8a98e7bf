//! What the replicas of one mesh tell each other, through the store and where that is too slow directly, and which of them
//! leads.

pub mod acknowledgements;
pub mod addresses;
pub mod directory;
pub mod instance_probes;
pub mod leader;
pub mod presence_reports;
pub mod root_rotation;
pub mod seal_keys;
pub mod shown_roots;
pub mod taps;
mod telling;
pub mod traffic;
