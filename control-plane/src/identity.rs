//! Who somebody is: whose a certificate is and whether it counts, tokens of joiners and operators, and the keys that are
//! made here for those that cannot make their own.

pub mod audit;
pub mod holders;
pub mod instances;
pub mod lost_time;
pub mod operator;
pub mod principals;
mod removal;
pub mod revocation;
pub mod secrets;
pub mod sessions;
pub mod tokens;
