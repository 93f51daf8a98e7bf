//! Header fields: from bytes into a map, and what they say about framing.

use std::ops::Range;

use bytes::Bytes;
use http::header::{
    AUTHORIZATION, CACHE_CONTROL, CONNECTION, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE,
    EXPECT, HOST, HeaderMap, HeaderName, HeaderValue, MAX_FORWARDS, SET_COOKIE, TE, TRAILER,
    TRANSFER_ENCODING, UPGRADE,
};

use super::error::Malformed;
use super::framing::FramingFields;

/// Where a field lies in its head. Heads are smaller than 4 GiB.
#[derive(Debug, Clone, Copy)]
pub(super) struct FieldSpan {
    name: (u32, u32),
    value: (u32, u32),
}

impl FieldSpan {
    /// Where `header`, which was parsed from `head`, lies in it.
    pub(super) fn of(head: &[u8], header: &httparse::Header<'_>) -> Self {
        let narrow = |range: Range<usize>| (range.start as u32, range.end as u32);
        Self { name: narrow(range(head, header.name.as_bytes())), value: narrow(range(head, header.value)) }
    }
}

/// Where a part of `whole` lies in it.
pub(super) fn range(whole: &[u8], part: &[u8]) -> Range<usize> {
    let start = (part.as_ptr() as usize).saturating_sub(whole.as_ptr() as usize);
    start..start + part.len()
}

fn usizes((start, end): (u32, u32)) -> Range<usize> {
    start as usize..end as usize
}

/// Puts fields into `headers`, without a copy of their values, and gathers what they say about framing.
pub(super) fn collect(
    head: &Bytes,
    spans: &[FieldSpan],
    headers: &mut HeaderMap,
) -> Result<FramingFields, Malformed> {
    let mut gathered = FramingFields::default();
    headers.reserve(spans.len());
    for span in spans {
        let name = HeaderName::from_bytes(&head[usizes(span.name)]).map_err(|_| Malformed::Syntax)?;
        let value = head.slice(usizes(span.value));
        if name == CONTENT_LENGTH {
            gathered.content_length(&value)?;
        } else if name == TRANSFER_ENCODING {
            gathered.transfer_encoding(&value)?;
        } else if name == CONNECTION {
            gathered.connection(&value);
        } else if name == HOST {
            gathered.hosts += 1;
        } else if name == EXPECT {
            gathered.expects_continue |= value.eq_ignore_ascii_case(b"100-continue");
        }
        let value = HeaderValue::from_maybe_shared(value).map_err(|_| Malformed::Syntax)?;
        headers.try_append(name, value).map_err(|_| Malformed::TooManyFields)?;
    }
    Ok(gathered)
}

/// The fields of a trailer section, its empty line included. Those that say how a message is framed, routed or
/// authorized come too late to be judged, and are left out (RFC 9110, section 6.5.1).
pub(super) fn trailers(section: &Bytes, most: usize) -> Result<HeaderMap, Malformed> {
    let mut room = vec![httparse::EMPTY_HEADER; most];
    let parsed = httparse::parse_headers(section, &mut room).map_err(|error| match error {
        httparse::Error::TooManyHeaders => Malformed::TooManyFields,
        _ => Malformed::Syntax,
    })?;
    let httparse::Status::Complete((_, parsed)) = parsed else { return Err(Malformed::Syntax) };
    let mut headers = HeaderMap::with_capacity(parsed.len());
    for field in parsed {
        let name = HeaderName::from_bytes(field.name.as_bytes()).map_err(|_| Malformed::Syntax)?;
        let value = HeaderValue::from_bytes(field.value).map_err(|_| Malformed::Syntax)?;
        if may_trail(&name) {
            headers.try_append(name, value).map_err(|_| Malformed::TooManyFields)?;
        }
    }
    Ok(headers)
}

fn may_trail(name: &HeaderName) -> bool {
    let never = [
        AUTHORIZATION,
        CACHE_CONTROL,
        CONNECTION,
        CONTENT_ENCODING,
        CONTENT_LENGTH,
        CONTENT_RANGE,
        CONTENT_TYPE,
        EXPECT,
        HOST,
        MAX_FORWARDS,
        SET_COOKIE,
        TE,
        TRAILER,
        TRANSFER_ENCODING,
        UPGRADE,
    ];
    !never.contains(name)
}
