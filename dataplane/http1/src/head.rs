//! Heads, taken from the front of a buffer and judged.

use bytes::BytesMut;
use http::HeaderMap;

use super::error::Malformed;
use super::fields::FieldSpan;
use super::lines::{Cut, HeadLimits, Lines, ParsedHead, refusal, request_lines, response_lines};
use super::request::ParsedRequest;
use super::response::{Asked, ResponseHead};

/// Takes heads from the front of a buffer. The same bytes give the same heads and errors, however they were cut on
/// their way here.
#[derive(Debug)]
pub struct HeadParser {
    limits: HeadLimits,
    /// How much of the buffer belongs to a head that was looked at and found incomplete.
    seen: usize,
    /// Where the fields of the head lie; kept for its memory.
    spans: Vec<FieldSpan>,
    /// An empty map; kept for its memory.
    spare: HeaderMap,
}

impl HeadParser {
    /// Heads within `limits`.
    pub fn new(limits: HeadLimits) -> Self {
        Self { limits, seen: 0, spans: Vec::new(), spare: HeaderMap::new() }
    }

    /// Gives back a map that is not used any more, for the next head.
    pub fn recycle(&mut self, mut headers: HeaderMap) {
        if headers.capacity() > self.spare.capacity() {
            headers.clear();
            self.spare = headers;
        }
    }

    /// The next request's head; `None` while it is incomplete.
    ///
    /// # Errors
    ///
    /// Where the bytes are no request, or one that is refused. The connection cannot go on then.
    pub fn request(&mut self, buffer: &mut BytesMut) -> Result<Option<ParsedRequest>, Malformed> {
        // What begins as no method does is not waited for: it may be another protocol, and have no lines.
        let first = buffer.iter().find(|byte| !matches!(byte, b'\r' | b'\n'));
        if first.is_some_and(|byte| !byte.is_ascii_graphic()) {
            return Err(Malformed::Syntax);
        }
        let Some(found) = self.find(buffer, request_lines)? else { return Ok(None) };
        ParsedRequest::judge(self.cut(buffer, found.length), found.line).map(Some)
    }

    /// The next response's head; `None` while it is incomplete. `asked` is what the request was.
    ///
    /// # Errors
    ///
    /// Where the bytes are no response, or one that is refused. The connection cannot go on then.
    pub fn response(
        &mut self,
        buffer: &mut BytesMut,
        asked: Asked,
    ) -> Result<Option<ResponseHead>, Malformed> {
        let Some(found) = self.find(buffer, response_lines)? else { return Ok(None) };
        ResponseHead::judge(self.cut(buffer, found.length), found.line, asked).map(Some)
    }

    fn cut(&mut self, buffer: &mut BytesMut, length: usize) -> Cut<'_> {
        self.seen = 0;
        let bytes = buffer.split_to(length).freeze();
        Cut { bytes, spans: &self.spans, headers: std::mem::take(&mut self.spare) }
    }

    fn find<L>(&mut self, buffer: &[u8], lines: Lines<L>) -> Result<Option<ParsedHead<L>>, Malformed> {
        if buffer.is_empty() {
            return Ok(None);
        }
        // Nothing is judged by bytes that may not belong to the head any more.
        let head = &buffer[..buffer.len().min(self.limits.bytes)];
        let news = &head[self.seen.min(head.len())..];
        // A head that comes in drops is not parsed again for each of them.
        if self.seen > 0 && !news.contains(&b'\n') {
            return self.incomplete(buffer.len());
        }
        match lines(head, self.limits.fields, &mut self.spans) {
            Ok(Some(found)) => Ok(Some(found)),
            Ok(None) => self.incomplete(buffer.len()),
            Err(_) => {
                // Judged by whole lines, as if each had come alone: what is wrong in the last one may be put right, or
                // not be looked at, when the rest of it comes.
                let whole = head.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
                match lines(&head[..whole], self.limits.fields, &mut self.spans) {
                    Err(error) => Err(refusal(error)),
                    Ok(_) => self.incomplete(buffer.len()),
                }
            }
        }
    }

    fn incomplete<T>(&mut self, length: usize) -> Result<Option<T>, Malformed> {
        if length >= self.limits.bytes {
            return Err(Malformed::TooLarge);
        }
        self.seen = length;
        Ok(None)
    }
}
