//! Open files: as many as the machine permits, and how the listeners share them.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::listener::ConnectionLimits;

// What nobody ever needs; memory would be the next bound.
const MOST: u64 = 131_072;
// With fewer than this nothing useful can be served.
const LEAST: u64 = 256;

/// Raises the process's soft limit of open files to its hard one, and says what it is now.
///
/// A soft limit is low for the sake of programs that use `select`, which this one does not.
pub fn raise_limit() -> u64 {
    let before = getrlimit(Resource::Nofile);
    if before.current != before.maximum {
        let raised = Rlimit { current: before.maximum, maximum: before.maximum };
        if let Err(error) = setrlimit(Resource::Nofile, raised) {
            tracing::warn!(event = "open_files_not_raised", %error, "the limit of open files stays as it is");
        }
    }
    let now = limit();
    let was = before.current.unwrap_or(u64::MAX);
    tracing::info!(event = "open_files_limited", limit = now, was, "open files");
    if now < 1024 {
        tracing::warn!(
            event = "open_files_few",
            limit = now,
            "so few open files are enough for a small mesh only; raise the limit (ulimit -n)"
        );
    }
    now
}

/// The process's limit of open files.
#[must_use]
pub fn limit() -> u64 {
    getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX)
}

/// How many connections each listener may hold. The sum leaves a reserve for the store, the log and what else is open,
/// so that no listener can take the descriptors of another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DescriptorShares {
    pub xds: ConnectionLimits,
    pub api: ConnectionLimits,
    /// The admin endpoints, and as much again for metrics alone.
    pub admin: ConnectionLimits,
}

impl DescriptorShares {
    /// Divides so many open files.
    #[must_use]
    pub fn of(limit: u64) -> Self {
        let all = usize::try_from(limit.clamp(LEAST, MOST)).unwrap_or(usize::MAX);
        let reserve = (all / 8).clamp(64, 1024);
        let admin = (all / 32).clamp(16, 128);
        let api = (all / 8).clamp(32, 1024);
        let xds = all - reserve - 2 * admin - api;
        let (greeting, strangers) = ((xds / 4).min(1024), (xds / 4).min(4096));
        Self {
            xds: ConnectionLimits { greeting, strangers, members: xds - greeting - strangers },
            api: ConnectionLimits { greeting: api / 4, strangers: api - api / 4, members: 0 },
            admin: ConnectionLimits { greeting: 0, strangers: admin, members: 0 },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn listeners_together_leave_a_reserve() {
        let sum = |size: ConnectionLimits| size.greeting + size.strangers + size.members;
        for limit in [256, 1024, 4096, 65_536, 1 << 20, u64::MAX] {
            let shares = DescriptorShares::of(limit);
            let used = sum(shares.xds) + sum(shares.api) + 2 * sum(shares.admin);
            assert!(used as u64 <= limit.min(MOST) - 64, "{limit}: {shares:?}");
            assert!(shares.xds.members >= shares.xds.strangers, "{limit}: {shares:?}");
        }
        let small = DescriptorShares::of(1024);
        assert_eq!(small.xds, ConnectionLimits { greeting: 176, strangers: 176, members: 352 });
        assert_eq!((sum(small.api), sum(small.admin)), (128, 32));
    }
}
