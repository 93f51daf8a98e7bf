//! Filters of access logs and of local replies.

use http::StatusCode;

use super::context::Context;
use super::flags::ResponseFlags;
use crate::matcher::{HeaderMatch, UndecidedAs};

/// `AccessLogFilter`.
#[derive(Clone, Debug)]
pub enum AccessLogFilter {
    /// The status compares so.
    Status(Comparison),
    /// The duration in milliseconds compares so.
    Duration(Comparison),
    /// Any of the flags, or any flag at all where none is named.
    Flags(Option<ResponseFlags>),
    /// A header of the request matches.
    Header(HeaderMatch),
    /// Every request that is no health check: all of them, since no filter here answers health checks.
    NotHealthCheck,
    And(Vec<AccessLogFilter>),
    Or(Vec<AccessLogFilter>),
}

/// A comparison with a number.
#[derive(Clone, Copy, Debug)]
pub enum Comparison {
    /// `EQ`.
    Equal(u64),
    /// `GE`.
    AtLeast(u64),
    /// `LE`.
    AtMost(u64),
    /// `NE`.
    Not(u64),
}

impl Comparison {
    fn holds(self, number: u64) -> bool {
        match self {
            Self::Equal(value) => number == value,
            Self::AtLeast(value) => number >= value,
            Self::AtMost(value) => number <= value,
            Self::Not(value) => number != value,
        }
    }
}

impl AccessLogFilter {
    /// Whether it cannot hold once the status is this one. The status must be final.
    pub fn rules_out(&self, status: StatusCode) -> bool {
        match self {
            Self::Status(comparison) => !comparison.holds(status.as_u16().into()),
            Self::And(filters) => filters.iter().any(|filter| filter.rules_out(status)),
            Self::Or(filters) => filters.iter().all(|filter| filter.rules_out(status)),
            Self::Duration(_) | Self::Flags(_) | Self::Header(_) | Self::NotHealthCheck => false,
        }
    }

    /// Whether a request with these properties is logged, or its local reply mapped.
    pub fn accepts(&self, at: &Context<'_>) -> bool {
        match self {
            Self::Status(comparison) => comparison.holds(at.response_code.into()),
            Self::Duration(comparison) => {
                at.timing.total.is_some_and(|total| comparison.holds(total.as_millis() as u64))
            }
            Self::Flags(None) => !at.flags.is_empty(),
            Self::Flags(Some(flags)) => at.flags.contains(*flags),
            Self::Header(header) => {
                at.request.is_some_and(|request| header.matches(&request, UndecidedAs::Miss))
            }
            Self::NotHealthCheck => true,
            Self::And(filters) => filters.iter().all(|filter| filter.accepts(at)),
            Self::Or(filters) => filters.iter().any(|filter| filter.accepts(at)),
        }
    }
}
