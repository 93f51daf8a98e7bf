//! `MetadataMatcher` and `ValueMatcher`.

use envoy_types::pb::envoy::r#type::matcher::v3 as wire;
use wire::double_matcher::MatchPattern as DoublePattern;
use wire::list_matcher::MatchPattern as ListPattern;
use wire::metadata_matcher::path_segment::Segment;
use wire::value_matcher::MatchPattern;

use super::matcher;
use crate::metadata::{MetadataMatch, ValueMatch};
use crate::rejection::{Rejection, Within as _};

/// How deep lists and alternatives may stand in each other.
const DEPTH: usize = 8;

/// Reads a matcher of dynamic metadata.
pub(super) fn metadata(given: &wire::MetadataMatcher) -> Result<MetadataMatch, Rejection> {
    if given.filter.is_empty() {
        return Err(Rejection::new("filter", "is empty"));
    }
    let segment = |segment: &wire::metadata_matcher::PathSegment| match &segment.segment {
        Some(Segment::Key(key)) if !key.is_empty() => Ok(key.as_str().into()),
        Some(Segment::Key(_)) | None => Err(Rejection::new("path", "an element is empty")),
    };
    let path = given.path.iter().map(segment).collect::<Result<Vec<_>, _>>()?;
    if path.is_empty() {
        return Err(Rejection::new("path", "is empty"));
    }
    let wanted = given.value.as_ref().ok_or_else(|| Rejection::new("value", "is missing"))?;
    let value = value(wanted, DEPTH).within(|| "value")?;
    Ok(MetadataMatch { filter: given.filter.as_str().into(), path, value, invert: given.invert })
}

fn value(given: &wire::ValueMatcher, depth: usize) -> Result<ValueMatch, Rejection> {
    let Some(deeper) = depth.checked_sub(1) else {
        return Err(Rejection::new("", format!("has more than {DEPTH} matchers in each other")));
    };
    Ok(match &given.match_pattern {
        Some(MatchPattern::NullMatch(_)) => ValueMatch::Null,
        Some(MatchPattern::BoolMatch(wanted)) => ValueMatch::Bool(*wanted),
        Some(MatchPattern::PresentMatch(wanted)) => ValueMatch::Present(*wanted),
        Some(MatchPattern::StringMatch(text)) => {
            ValueMatch::Text(matcher::string(text).within(|| "string_match")?)
        }
        Some(MatchPattern::DoubleMatch(number)) => match &number.match_pattern {
            Some(DoublePattern::Exact(number)) => ValueMatch::Number(*number),
            Some(DoublePattern::Range(range)) => ValueMatch::Range(range.start..range.end),
            None => return Err(Rejection::new("double_match", "is empty")),
        },
        Some(MatchPattern::ListMatch(list)) => match &list.match_pattern {
            Some(ListPattern::OneOf(wanted)) => {
                ValueMatch::AnyElement(Box::new(value(wanted, deeper).within(|| "list_match.one_of")?))
            }
            None => return Err(Rejection::new("list_match", "is empty")),
        },
        Some(MatchPattern::OrMatch(any)) => {
            let each = any.value_matchers.iter().map(|one| value(one, deeper).within(|| "or_match"));
            ValueMatch::AnyOf(each.collect::<Result<_, _>>()?)
        }
        None => return Err(Rejection::new("match_pattern", "is missing")),
    })
}
