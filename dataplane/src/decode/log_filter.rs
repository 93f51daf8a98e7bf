//! `AccessLogFilter`, of access logs and of local replies.

use envoy_types::pb::envoy::config::accesslog::v3 as wire;
use wire::access_log_filter::FilterSpecifier;
use wire::comparison_filter::Op;

use envoy_types::pb::envoy::extensions::access_loggers::filters::cel::v3::ExpressionFilter;
use weft_routing::decode::matcher;
use weft_routing::rejection::{Rejection, Within as _};
use wire::extension_filter::ConfigType;

use super::fields;
use crate::format::{AccessLogFilter, Comparison, ResponseFlags, TextAttribute};

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
        FilterSpecifier::GrpcStatusFilter(f) => {
            let known = f.statuses.iter().map(|status| u32::try_from(*status).ok().filter(|s| *s < 32));
            let mut bits = known.map(|status| status.map(|status| 1_u32 << status));
            let among = bits.try_fold(0, |all, bit| bit.map(|bit| all | bit));
            let unknown = || Rejection::new("grpc_status_filter", "has a status that is unknown");
            Ok(AccessLogFilter::GrpcStatus { among: among.ok_or_else(unknown)?, exclude: f.exclude })
        }
        FilterSpecifier::ExtensionFilter(f) => extension(f).within(|| "extension_filter"),
        FilterSpecifier::MetadataFilter(_) => Err(Rejection::unsupported("metadata_filter")),
        FilterSpecifier::LogTypeFilter(_) => Err(Rejection::unsupported("log_type_filter")),
    }
}

fn extension(given: &wire::ExtensionFilter) -> Result<AccessLogFilter, Rejection> {
    let config = given.config_type.as_ref().map(|ConfigType::TypedConfig(config)| config);
    let Some(config) = config.filter(|config| fields::holds::<ExpressionFilter>(config)) else {
        return Err(fields::unknown_extension(&given.name, config, ""));
    };
    let expression: ExpressionFilter = fields::unpack(config, "typed_config")?;
    compared(&expression.expression).ok_or_else(|| {
        let names = TextAttribute::ALL.map(|(name, _)| name).join(", ");
        let reason =
            format!("this proxy compares only {names} with texts, by == and !=, joined by && within ||");
        Rejection::new("typed_config.expression", reason)
    })
}

/// CEL is not evaluated here: of it, comparisons of some attributes with texts are understood.
fn compared(expression: &str) -> Option<AccessLogFilter> {
    let all = |parts: &str| {
        let parts: Option<Vec<_>> = parts.split("&&").map(comparison_of_text).collect();
        parts.map(AccessLogFilter::And)
    };
    let any: Option<Vec<_>> = expression.split("||").map(all).collect();
    any.map(AccessLogFilter::Or)
}

fn comparison_of_text(part: &str) -> Option<AccessLogFilter> {
    let split = |operator| part.split_once(operator);
    let ((name, value), other) =
        split("!=").map(|sides| (sides, true)).or_else(|| split("==").map(|sides| (sides, false)))?;
    let attribute = TextAttribute::ALL.into_iter().find(|(known, _)| *known == name.trim())?.1;
    let quoted = |quote| value.trim().strip_prefix(quote)?.strip_suffix(quote);
    let text = quoted('\'').or_else(|| quoted('"'))?;
    // What would have to be unescaped is not understood.
    let is_plain = !text.contains(['\'', '"', '\\']);
    is_plain.then(|| AccessLogFilter::Text { attribute, text: text.into(), other })
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
    use envoy_types::pb::google::protobuf::Any;
    use prost::{Message as _, Name as _};

    use super::*;
    use crate::format::FormatContext;

    #[test]
    fn a_filter_that_is_unknown_refuses_the_configuration() {
        let unknown = FilterSpecifier::MetadataFilter(Default::default());
        let given = wire::AccessLogFilter { filter_specifier: Some(unknown) };
        assert_eq!(filter(&given).unwrap_err().field, "metadata_filter");
    }

    #[test]
    fn comparisons_of_texts_are_understood_and_other_expressions_refused() {
        let given = |expression: &str| {
            let config = ExpressionFilter { expression: expression.to_owned(), ..Default::default() };
            let any = Any { type_url: ExpressionFilter::type_url(), value: config.encode_to_vec() };
            let config_type = Some(ConfigType::TypedConfig(any));
            let filter = wire::ExtensionFilter { name: "cel".to_owned(), config_type };
            wire::AccessLogFilter { filter_specifier: Some(FilterSpecifier::ExtensionFilter(filter)) }
        };
        let both = "connection.transport_failure_reason != '' || connection.termination_details != \"\"";
        let both = filter(&given(both)).unwrap();
        let told = FormatContext { connection_termination_details: Some("x"), ..FormatContext::default() };
        assert!(both.accepts(&told) && !both.accepts(&FormatContext::default()));
        let own = "response.code_details != 'via_upstream' && response.code_details != 'direct_response'";
        let own = filter(&given(own)).unwrap();
        let detailed = |details| FormatContext { response_code_details: details, ..FormatContext::default() };
        assert!(own.accepts(&detailed(Some("path_normalization_failed"))));
        assert!(!own.accepts(&detailed(Some("via_upstream"))) && !own.accepts(&detailed(None)));
        let bad = filter(&given("response.code_details == 'x'")).unwrap();
        assert!(bad.accepts(&detailed(Some("x"))) && !bad.accepts(&detailed(Some("y"))));
        for other in [
            "response.code >= 400",
            "connection.termination_details",
            "connection.id == ''",
            "response.code_details != 'a\\'b'",
            "response.code_details == 'x' || true",
            "",
        ] {
            let refused = filter(&given(other)).unwrap_err();
            assert_eq!(refused.field, "extension_filter.typed_config.expression", "{other}");
        }
    }
}
