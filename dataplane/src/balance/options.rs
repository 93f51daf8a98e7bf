//! What a cluster says about balancing.

/// `lb_policy`.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub enum LbPolicy {
    /// In turn, by weight.
    #[default]
    RoundRobin,
    /// The one with fewest active requests of `choices` random ones; by weight over active requests where weights
    /// differ.
    LeastRequest {
        /// `choice_count`, 2 by default.
        choices: u32,
        /// `active_request_bias`, 1.0 by default: how much active requests lower a weight.
        bias: f32,
    },
    Random,
    /// By the request's hash, on a ring (Ketama).
    RingHash {
        /// `minimum_ring_size`, 1024 by default.
        min: u64,
        /// `maximum_ring_size`, 8 Mi by default.
        max: u64,
    },
    /// By the request's hash, in a table.
    Maglev {
        /// `table_size`, a prime, 65537 by default.
        size: u64,
    },
}

impl LbPolicy {
    /// Least request as Envoy has it by default.
    pub const LEAST_REQUEST: Self = Self::LeastRequest { choices: 2, bias: 1.0 };

    /// Whether the request's hash decides.
    pub fn hashes(self) -> bool {
        match self {
            Self::RingHash { .. } | Self::Maglev { .. } => true,
            Self::RoundRobin | Self::LeastRequest { .. } | Self::Random => false,
        }
    }
}

/// What a cluster says about balancing.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct BalanceOptions {
    pub policy: LbPolicy,
    /// `healthy_panic_threshold` in percent, 50 by default.
    pub panic_threshold: u8,
    /// `locality_weighted_lb_config`: requests are spread over localities by their weights and health first.
    pub locality_weighted: bool,
}

impl Default for BalanceOptions {
    fn default() -> Self {
        Self { policy: LbPolicy::RoundRobin, panic_threshold: 50, locality_weighted: false }
    }
}
