//! Filters of access logs and of local replies.

use envoy_types::pb::envoy::config::accesslog::v3 as wire;
use http::StatusCode;
use wire::access_log_filter::FilterSpecifier as F;
use wire::comparison_filter::Op;

use super::context::Context;
use super::flags::ResponseFlags;
use crate::matcher::{HeaderMatch, Lean};
use crate::rejection::{Rejection, Within as _};

/// `AccessLogFilter`.
#[derive(Clone, Debug)]
pub enum Filter {
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
    /// All hold.
    And(Vec<Filter>),
    /// Any holds.
    Or(Vec<Filter>),
}

/// A comparison with a number.
#[derive(Clone, Copy, Debug)]
pub struct Comparison {
    op: Op,
    value: u64,
}

impl Comparison {
    fn decode(wire: Option<&wire::ComparisonFilter>) -> Result<Self, Rejection> {
        let missing = || Rejection::new("comparison", "is missing");
        let wire = wire.ok_or_else(missing)?;
        let value = wire.value.as_ref().ok_or_else(missing)?;
        let op = Op::try_from(wire.op).map_err(|_| Rejection::new("comparison.op", "is unknown"))?;
        Ok(Self { op, value: value.default_value.into() })
    }

    fn holds(self, number: u64) -> bool {
        match self.op {
            Op::Eq => number == self.value,
            Op::Ge => number >= self.value,
            Op::Le => number <= self.value,
            Op::Ne => number != self.value,
        }
    }
}

impl Filter {
    /// Decodes Envoy's filter.
    ///
    /// # Errors
    /// A kind of filter that is not supported.
    pub fn decode(filter: &wire::AccessLogFilter) -> Result<Self, Rejection> {
        let all =
            |filters: &[wire::AccessLogFilter]| filters.iter().map(Self::decode).collect::<Result<_, _>>();
        match filter.filter_specifier.as_ref().ok_or_else(|| Rejection::new("filter", "is empty"))? {
            F::StatusCodeFilter(f) => {
                Comparison::decode(f.comparison.as_ref()).within(|| "status_code_filter").map(Self::Status)
            }
            F::DurationFilter(f) => {
                Comparison::decode(f.comparison.as_ref()).within(|| "duration_filter").map(Self::Duration)
            }
            F::NotHealthCheckFilter(_) => Ok(Self::NotHealthCheck),
            F::AndFilter(and) => all(&and.filters).within(|| "and_filter").map(Self::And),
            F::OrFilter(or) => all(&or.filters).within(|| "or_filter").map(Self::Or),
            F::HeaderFilter(f) => {
                let header = f.header.as_ref().ok_or_else(|| Rejection::new("header", "is missing"));
                header.and_then(HeaderMatch::decode).within(|| "header_filter").map(Self::Header)
            }
            F::ResponseFlagFilter(f) if f.flags.is_empty() => Ok(Self::Flags(None)),
            F::ResponseFlagFilter(f) => {
                let mut flags = ResponseFlags::default();
                for short in &f.flags {
                    let unknown =
                        || Rejection::new("response_flag_filter", format!("{short:?} is not a flag"));
                    flags.insert(ResponseFlags::from_short(short).ok_or_else(unknown)?);
                }
                Ok(Self::Flags(Some(flags)))
            }
            F::TraceableFilter(_) => Err(Rejection::unsupported("traceable_filter")),
            F::RuntimeFilter(_) => Err(Rejection::unsupported("runtime_filter")),
            F::GrpcStatusFilter(_) => Err(Rejection::unsupported("grpc_status_filter")),
            F::ExtensionFilter(_) => Err(Rejection::unsupported("extension_filter")),
            F::MetadataFilter(_) => Err(Rejection::unsupported("metadata_filter")),
            F::LogTypeFilter(_) => Err(Rejection::unsupported("log_type_filter")),
        }
    }

    /// Whether it cannot hold once the status is this one. The status must be final.
    pub fn rules_out(&self, status: StatusCode) -> bool {
        match self {
            Self::Status(comparison) => !comparison.holds(status.as_u16().into()),
            Self::And(filters) => filters.iter().any(|filter| filter.rules_out(status)),
            Self::Or(filters) => filters.iter().all(|filter| filter.rules_out(status)),
            Self::Duration(_) | Self::Flags(_) | Self::Header(_) | Self::NotHealthCheck => false,
        }
    }

    /// Whether it holds.
    pub fn accepts(&self, at: &Context<'_>) -> bool {
        match self {
            Self::Status(comparison) => comparison.holds(at.response_code.into()),
            Self::Duration(comparison) => {
                at.timing.total.is_some_and(|total| comparison.holds(total.as_millis() as u64))
            }
            Self::Flags(None) => !at.flags.is_empty(),
            Self::Flags(Some(flags)) => at.flags.contains(*flags),
            Self::Header(header) => at.request.is_some_and(|request| header.matches(&request, Lean::Miss)),
            Self::NotHealthCheck => true,
            Self::And(filters) => filters.iter().all(|filter| filter.accepts(at)),
            Self::Or(filters) => filters.iter().any(|filter| filter.accepts(at)),
        }
    }
}
