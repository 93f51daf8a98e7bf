//! `traceparent`, by W3C Trace Context.

use bytes::Bytes;
use data_encoding::HEXLOWER_PERMISSIVE;
use http::{HeaderMap, HeaderName, HeaderValue};

/// Which trace a request belongs to, and which span of it is the caller's.
pub(crate) const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");
/// What vendors keep of a trace, passed on as it came.
pub(crate) const TRACESTATE: HeaderName = HeaderName::from_static("tracestate");

/// `00-`, 32 digits, `-`, 16 digits, `-`, two digits.
const LENGTH: usize = 55;
/// The flag that a trace is recorded.
const SAMPLED: u8 = 1;

/// A place in a trace.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct TraceContext {
    /// Never 0.
    pub(crate) trace_id: u128,
    /// Never 0.
    pub(crate) span_id: u64,
    pub(crate) sampled: bool,
}

/// What a request says of the trace that it belongs to.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum IncomingTrace {
    /// Nothing: one may begin here.
    Nothing,
    /// It cannot be read. As in Envoy it is left alone, and there is no span.
    Malformed,
    Parent(TraceContext),
}

impl IncomingTrace {
    pub(crate) fn of(headers: &HeaderMap) -> Self {
        match headers.get(&TRACEPARENT) {
            None => Self::Nothing,
            Some(value) => TraceContext::parse(value.as_bytes()).map_or(Self::Malformed, Self::Parent),
        }
    }
}

impl TraceContext {
    fn parse(text: &[u8]) -> Option<Self> {
        if text.len() != LENGTH || [2, 35, 52].iter().any(|at| text[*at] != b'-') {
            return None;
        }
        let _version: [u8; 1] = digits(&text[..2])?;
        let trace_id = u128::from_be_bytes(digits(&text[3..35])?);
        let span_id = u64::from_be_bytes(digits(&text[36..52])?);
        let [flags] = digits(&text[53..])?;
        let sampled = flags & SAMPLED != 0;
        (trace_id != 0 && span_id != 0).then_some(Self { trace_id, span_id, sampled })
    }

    /// What the server is told.
    pub(crate) fn header(self) -> HeaderValue {
        let flags = if self.sampled { SAMPLED } else { 0 };
        let text = format!("00-{:032x}-{:016x}-{flags:02x}", self.trace_id, self.span_id);
        HeaderValue::from_maybe_shared(Bytes::from(text)).expect("digits and hyphens are a header value")
    }
}

fn digits<const N: usize>(text: &[u8]) -> Option<[u8; N]> {
    let mut bytes = [0; N];
    HEXLOWER_PERMISSIVE.decode_mut(text, &mut bytes).ok()?;
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(text: &'static str) -> IncomingTrace {
        IncomingTrace::of(&HeaderMap::from_iter([(TRACEPARENT, HeaderValue::from_static(text))]))
    }

    #[test]
    fn what_is_written_is_read() {
        for sampled in [true, false] {
            let context = TraceContext { trace_id: 0xabc, span_id: u64::MAX, sampled };
            let headers = HeaderMap::from_iter([(TRACEPARENT, context.header())]);
            assert_eq!(IncomingTrace::of(&headers), IncomingTrace::Parent(context));
        }
        assert_eq!(IncomingTrace::of(&HeaderMap::new()), IncomingTrace::Nothing);
        let unknown_flags = of("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-fe");
        assert!(matches!(unknown_flags, IncomingTrace::Parent(TraceContext { sampled: false, .. })));
    }

    #[test]
    fn what_is_no_trace_context_is_malformed() {
        for text in [
            "",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331",
            "00-00000000000000000000000000000000-b7ad6b7169203331-01",
            "00-0af7651916cd43dd8448eb211c80319c-0000000000000000-01",
            "zz-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
            "00-0af7651916cd43dd8448eb211c80319c_b7ad6b7169203331-01",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01-more",
        ] {
            assert_eq!(of(text), IncomingTrace::Malformed, "{text}");
        }
    }
}
