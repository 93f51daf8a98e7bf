//! Who is trusted, after a trust bundle, a revocation list or the names that are accepted changed: what both sides of
//! the proxy look at.

pub(super) mod clients;
pub(super) mod servers;

use std::time::Duration;

/// What is under way with a peer that is refused now may take this long: it hears of the end first. No peer is served
/// for more than 10 s after the list that names it has come.
pub(super) const GRACE: Duration = Duration::from_secs(5);
