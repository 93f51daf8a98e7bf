//! Bounds of a stream, in time, bytes and names.

use std::time::Duration;

/// How long a listener or route waits for a cluster's ACK, and a type of a delta stream for any ACK (W8).
pub const ACK_TIMEOUT: Duration = Duration::from_secs(20);

/// Responses are split to stay below this (M1); clients stop reading at 4 MiB.
pub const MAX_RESPONSE: usize = 2 << 20;

/// Names of one type on one stream. A name of more than 128 bytes counts as several.
pub const MAX_NAMES: usize = 10_000;
