//! The lines of a head: where what lies, before it is judged.

use std::mem::MaybeUninit;

use bytes::Bytes;
use http::HeaderMap;
use httparse::{Error as SyntaxError, Header, ParserConfig, Status};

use super::error::Malformed;
use super::fields::{self, FieldSpan};
use super::framing::FramingFields;

/// Fields for which there is room on the stack: Envoy's default limit.
const ON_STACK: usize = 100;

/// What a head may be at most.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HeadLimits {
    /// Most fields of one head.
    pub fields: usize,
    /// Bytes, from the first line to the empty one.
    pub bytes: usize,
}

/// A head that was cut off the buffer: its bytes, and what lies where.
pub(super) struct Cut<'a> {
    pub(super) bytes: Bytes,
    pub(super) spans: &'a [FieldSpan],
    pub(super) headers: HeaderMap,
}

impl Cut<'_> {
    /// The fields as a map, and what they say about framing.
    pub(super) fn fields(&mut self) -> Result<FramingFields, Malformed> {
        fields::collect(&self.bytes, self.spans, &mut self.headers)
    }
}

/// Parses the lines of a head with so many fields at most, and leaves where they lie; `None` while it is incomplete.
pub(super) type Lines<L> =
    fn(&[u8], usize, &mut Vec<FieldSpan>) -> Result<Option<ParsedHead<L>>, SyntaxError>;

/// A first line and how long the head is.
pub(super) struct ParsedHead<L> {
    pub(super) line: L,
    pub(super) length: usize,
}

/// Where a request's first line has what.
pub(super) struct RequestLine {
    pub(super) method: std::ops::Range<usize>,
    pub(super) target: std::ops::Range<usize>,
    pub(super) minor: u8,
}

/// What a response's first line says; the reason is nobody's business.
#[derive(Clone, Copy)]
pub(super) struct StatusLine {
    pub(super) code: u16,
    pub(super) minor: u8,
}

pub(super) fn request_lines(
    head: &[u8],
    fields: usize,
    spans: &mut Vec<FieldSpan>,
) -> Result<Option<ParsedHead<RequestLine>>, SyntaxError> {
    let mut stack = [const { MaybeUninit::uninit() }; ON_STACK];
    let mut heap = Vec::new();
    let room = room(&mut stack, &mut heap, fields);
    let mut parsed = httparse::Request::new(&mut []);
    let status = ParserConfig::default().parse_request_with_uninit_headers(&mut parsed, head, room)?;
    let Status::Complete(length) = status else { return Ok(None) };
    spans.clear();
    spans.extend(parsed.headers.iter().map(|header| FieldSpan::of(head, header)));
    let line = RequestLine {
        method: fields::range(head, parsed.method.unwrap_or_default().as_bytes()),
        target: fields::range(head, parsed.path.unwrap_or_default().as_bytes()),
        minor: parsed.version.unwrap_or_default(),
    };
    Ok(Some(ParsedHead { line, length }))
}

pub(super) fn response_lines(
    head: &[u8],
    fields: usize,
    spans: &mut Vec<FieldSpan>,
) -> Result<Option<ParsedHead<StatusLine>>, SyntaxError> {
    let mut stack = [const { MaybeUninit::uninit() }; ON_STACK];
    let mut heap = Vec::new();
    let room = room(&mut stack, &mut heap, fields);
    // Empty lines are passed over before a request only (RFC 9112, section 2.2).
    if matches!(head.first(), Some(b'\r' | b'\n')) {
        return Err(SyntaxError::Token);
    }
    let mut parsed = httparse::Response::new(&mut []);
    let status = ParserConfig::default().parse_response_with_uninit_headers(&mut parsed, head, room)?;
    let Status::Complete(length) = status else { return Ok(None) };
    spans.clear();
    spans.extend(parsed.headers.iter().map(|header| FieldSpan::of(head, header)));
    let line =
        StatusLine { code: parsed.code.unwrap_or_default(), minor: parsed.version.unwrap_or_default() };
    Ok(Some(ParsedHead { line, length }))
}

/// Room for so many fields: on the stack where that suffices, since clearing it would cost more than parsing does.
fn room<'a, 'b>(
    stack: &'a mut [MaybeUninit<Header<'b>>; ON_STACK],
    heap: &'a mut Vec<MaybeUninit<Header<'b>>>,
    fields: usize,
) -> &'a mut [MaybeUninit<Header<'b>>] {
    if fields <= ON_STACK {
        return &mut stack[..fields];
    }
    heap.resize_with(fields, MaybeUninit::uninit);
    heap
}

pub(super) fn refusal(error: SyntaxError) -> Malformed {
    match error {
        SyntaxError::TooManyHeaders => Malformed::TooManyFields,
        SyntaxError::Version => Malformed::Version,
        SyntaxError::HeaderName
        | SyntaxError::HeaderValue
        | SyntaxError::NewLine
        | SyntaxError::Status
        | SyntaxError::Token => Malformed::Syntax,
    }
}
