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
}

impl LbPolicy {
    /// Least request as Envoy has it by default.
    pub const LEAST_REQUEST: Self = Self::LeastRequest { choices: 2, bias: 1.0 };
}

/// What a cluster says about balancing.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct BalanceOptions {
    pub policy: LbPolicy,
    /// `healthy_panic_threshold` in percent, 50 by default.
    pub panic_threshold: u8,
}

impl Default for BalanceOptions {
    fn default() -> Self {
        Self { policy: LbPolicy::RoundRobin, panic_threshold: 50 }
    }
}
