//! `AccessLogFilter`, of access logs and of local replies.

use envoy_types::pb::envoy::config::accesslog::v3 as wire;
use wire::access_log_filter::FilterSpecifier;
use wire::comparison_filter::Op;

use super::matcher;
use crate::format::{AccessLogFilter, Comparison, ResponseFlags};
use crate::rejection::{Rejection, Within as _};

/// Reads which requests or connections are logged, or which local replies are changed.
///
/// # Errors
/// A kind of filter that is not supported.
pub(super) fn filter(given: &wire::AccessLogFilter) -> Result<AccessLogFilter, Rejection> {
    let all = |filters: &[wire::AccessLogFilter]| filters.iter().map(filter).collect::<Result<_, _>>();
    match given.filter_specifier.as_ref().ok_or_else(|| Rejection::new("filter", "is empty"))? {
        FilterSpecifier::StatusCodeFilter(f) => {
            comparison(f.comparison.as_ref()).within(|| "status_code_filter").map(AccessLogFilter::Status)
        }
        FilterSpecifier::DurationFilter(f) => {
            comparison(f.comparison.as_ref()).within(|| "duration_filter").map(AccessLogFilter::Duration)
        }
        FilterSpecifier::NotHealthCheckFilter(_) => Ok(AccessLogFilter::NotHealthCheck),
        FilterSpecifier::AndFilter(and) => {
            all(&and.filters).within(|| "and_filter").map(AccessLogFilter::And)
        }
        FilterSpecifier::OrFilter(or) => all(&or.filters).within(|| "or_filter").map(AccessLogFilter::Or),
        FilterSpecifier::HeaderFilter(f) => {
            let header = f.header.as_ref().ok_or_else(|| Rejection::new("header", "is missing"));
            header.and_then(matcher::header).within(|| "header_filter").map(AccessLogFilter::Header)
        }
        FilterSpecifier::ResponseFlagFilter(f) if f.flags.is_empty() => Ok(AccessLogFilter::Flags(None)),
        FilterSpecifier::ResponseFlagFilter(f) => {
            let mut flags = ResponseFlags::default();
            for short in &f.flags {
                let unknown = || Rejection::new("response_flag_filter", format!("{short:?} is not a flag"));
                flags.insert(ResponseFlags::from_short(short).ok_or_else(unknown)?);
            }
            Ok(AccessLogFilter::Flags(Some(flags)))
        }
        FilterSpecifier::TraceableFilter(_) => Err(Rejection::unsupported("traceable_filter")),
        FilterSpecifier::RuntimeFilter(_) => Err(Rejection::unsupported("runtime_filter")),
        FilterSpecifier::GrpcStatusFilter(_) => Err(Rejection::unsupported("grpc_status_filter")),
        FilterSpecifier::ExtensionFilter(_) => Err(Rejection::unsupported("extension_filter")),
        FilterSpecifier::MetadataFilter(_) => Err(Rejection::unsupported("metadata_filter")),
        FilterSpecifier::LogTypeFilter(_) => Err(Rejection::unsupported("log_type_filter")),
    }
}

fn comparison(given: Option<&wire::ComparisonFilter>) -> Result<Comparison, Rejection> {
    let missing = || Rejection::new("comparison", "is missing");
    let given = given.ok_or_else(missing)?;
    let value = given.value.as_ref().ok_or_else(missing)?.default_value.into();
    match Op::try_from(given.op) {
        Ok(Op::Eq) => Ok(Comparison::Equal(value)),
        Ok(Op::Ge) => Ok(Comparison::AtLeast(value)),
        Ok(Op::Le) => Ok(Comparison::AtMost(value)),
        Ok(Op::Ne) => Ok(Comparison::Not(value)),
        Err(_) => Err(Rejection::new("comparison.op", "is unknown")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_filter_that_is_unknown_refuses_the_configuration() {
        let unknown = FilterSpecifier::MetadataFilter(Default::default());
        let given = wire::AccessLogFilter { filter_specifier: Some(unknown) };
        assert_eq!(filter(&given).unwrap_err().field, "metadata_filter");
    }
}
