//! Filters of access logs and of local replies.

use std::sync::Arc;

use http::StatusCode;
use weft_routing::matcher::{HeaderMatch, UndecidedAs};

use super::context::FormatContext;
use super::flags::ResponseFlags;
use super::needs::LogNeeds;

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
    /// The gRPC status, or the one that belongs to the HTTP status, is among these, or is not among them.
    GrpcStatus {
        /// A bit for each status.
        among: u32,
        /// Whether it must not be among them.
        exclude: bool,
    },
    /// What is known is this text, or is another one. Of what is not known, neither holds.
    Text {
        attribute: TextAttribute,
        text: Arc<str>,
        /// Whether it must be another one.
        other: bool,
    },
    /// Every request that is no health check: all of them, since no filter here answers health checks.
    NotHealthCheck,
    And(Vec<AccessLogFilter>),
    Or(Vec<AccessLogFilter>),
}

/// Of Envoy's attributes, those that a filter may ask.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TextAttribute {
    /// Why the handshake of the connection failed.
    TransportFailure,
    /// Why the proxy ended the connection.
    TerminationDetails,
    /// Why the answer is what it is.
    ResponseCodeDetails,
}

impl TextAttribute {
    /// All of them, with their names.
    pub const ALL: [(&'static str, Self); 3] = [
        ("connection.transport_failure_reason", Self::TransportFailure),
        ("connection.termination_details", Self::TerminationDetails),
        ("response.code_details", Self::ResponseCodeDetails),
    ];

    fn read<'a>(self, at: &FormatContext<'a>) -> Option<&'a str> {
        match self {
            Self::TransportFailure => at.downstream.transport_failure,
            Self::TerminationDetails => at.connection_termination_details,
            Self::ResponseCodeDetails => at.response_code_details,
        }
    }
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
            Self::Duration(_)
            | Self::Flags(_)
            | Self::Header(_)
            | Self::GrpcStatus { .. }
            | Self::Text { .. }
            | Self::NotHealthCheck => false,
        }
    }

    /// What has to be kept of a request, that it can be asked at its end.
    pub(crate) fn needs(&self) -> LogNeeds {
        match self {
            Self::Header(_) => LogNeeds { request_headers: true, ..LogNeeds::default() },
            Self::And(filters) | Self::Or(filters) => {
                filters.iter().map(Self::needs).fold(LogNeeds::default(), LogNeeds::and)
            }
            Self::Status(_)
            | Self::Duration(_)
            | Self::Flags(_)
            | Self::GrpcStatus { .. }
            | Self::Text { .. }
            | Self::NotHealthCheck => LogNeeds::default(),
        }
    }

    /// Whether a request with these properties is logged, or its local reply mapped.
    pub fn accepts(&self, at: &FormatContext<'_>) -> bool {
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
            Self::GrpcStatus { among, exclude } => {
                let status = at.grpc_status.or_else(|| grpc_status_of(at.response_code));
                status.is_some_and(|status| (1_u32.checked_shl(status).unwrap_or(0) & among != 0) != *exclude)
            }
            Self::Text { attribute, text, other } => {
                attribute.read(at).is_some_and(|known| (known == &**text) != *other)
            }
            Self::NotHealthCheck => true,
            Self::And(filters) => filters.iter().all(|filter| filter.accepts(at)),
            Self::Or(filters) => filters.iter().any(|filter| filter.accepts(at)),
        }
    }
}

/// The gRPC status that belongs to an HTTP status, as gRPC maps them; none before there is one.
fn grpc_status_of(status: u16) -> Option<u32> {
    Some(match status {
        0 => return None,
        400 => 13,
        401 => 16,
        403 => 7,
        404 => 12,
        429 | 502..=504 => 14,
        _ => 2,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn grpc_status_is_that_of_the_response_or_belongs_to_its_http_status() {
        let unavailable = AccessLogFilter::GrpcStatus { among: 1 << 14, exclude: false };
        let at = |grpc_status, response_code| FormatContext {
            grpc_status,
            response_code,
            ..FormatContext::default()
        };
        assert!(unavailable.accepts(&at(Some(14), 200)) && unavailable.accepts(&at(None, 503)));
        assert!(!unavailable.accepts(&at(Some(0), 200)) && !unavailable.accepts(&at(Some(99), 200)));
        assert!(!unavailable.accepts(&at(None, 0)));
        let others = AccessLogFilter::GrpcStatus { among: 1, exclude: true };
        assert!(others.accepts(&at(Some(14), 200)) && !others.accepts(&at(Some(0), 200)));
    }
}
