//! What the replicas of one mesh tell each other through the store, and which of them leads.

pub mod addresses;
pub mod leader;
pub mod shards;
pub mod sign_of_life;
