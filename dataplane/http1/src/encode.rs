//! Heads and content as bytes.

use bytes::Bytes;
use http::header::{CONTENT_LENGTH, HeaderMap, TRANSFER_ENCODING};
use http::{Method, StatusCode, Uri, Version};

use super::error::Error;
use super::framing::BodyLength;

/// How names of fields are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum FieldCase {
    /// `content-length`, as Envoy does.
    #[default]
    Lower,
    /// `Content-Length`, for peers that compare names as they are.
    Title,
}

/// Writes a request's head.
pub(super) fn request_head(
    out: &mut Vec<u8>,
    method: &Method,
    uri: &Uri,
    headers: &HeaderMap,
    case: FieldCase,
) {
    out.extend_from_slice(method.as_str().as_bytes());
    out.push(b' ');
    match uri.path_and_query() {
        _ if *method == Method::CONNECT => {
            out.extend_from_slice(uri.authority().map_or("", |authority| authority.as_str()).as_bytes());
        }
        Some(path) => out.extend_from_slice(path.as_str().as_bytes()),
        None => out.push(b'/'),
    }
    out.extend_from_slice(b" HTTP/1.1\r\n");
    fields(out, headers, case);
}

/// Writes a response's status line and fields.
pub(super) fn response_head(
    out: &mut Vec<u8>,
    version: Version,
    status: StatusCode,
    headers: &HeaderMap,
    case: FieldCase,
) {
    if version == Version::HTTP_11 && status == StatusCode::OK {
        out.extend_from_slice(b"HTTP/1.1 200 OK\r\n");
    } else {
        let version: &[u8] = if version == Version::HTTP_10 { b"HTTP/1.0 " } else { b"HTTP/1.1 " };
        out.extend_from_slice(version);
        out.extend_from_slice(status.as_str().as_bytes());
        out.push(b' ');
        out.extend_from_slice(status.canonical_reason().unwrap_or("Unknown").as_bytes());
        out.extend_from_slice(b"\r\n");
    }
    fields(out, headers, case);
}

/// Writes fields, without the empty line behind them.
pub(super) fn fields(out: &mut Vec<u8>, headers: &HeaderMap, case: FieldCase) {
    for (name, value) in headers {
        let name = name.as_str().as_bytes();
        match case {
            FieldCase::Lower => field(out, name, value.as_bytes()),
            FieldCase::Title => field(out, &title(name), value.as_bytes()),
        }
    }
}

/// Writes one field of a head, with its line end.
pub(super) fn field(out: &mut Vec<u8>, name: &[u8], value: &[u8]) {
    // Once for the whole line, so that the parts need not look each.
    out.reserve(name.len() + value.len() + 4);
    out.extend_from_slice(name);
    out.extend_from_slice(b": ");
    out.extend_from_slice(value);
    out.extend_from_slice(b"\r\n");
}

fn title(name: &[u8]) -> Vec<u8> {
    let mut begins = true;
    let letters = name.iter().map(|byte| {
        let written = if begins { byte.to_ascii_uppercase() } else { *byte };
        begins = *byte == b'-';
        written
    });
    letters.collect()
}

/// Writes the content of one message, and holds it to what its head says.
#[derive(Debug)]
pub struct Encoder {
    length: BodyLength,
}

/// Whether more content follows a piece.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ChunkPosition {
    /// More content may come behind it.
    Middle,
    /// No content comes behind it: the empty chunk follows.
    Last,
}

/// A piece of content with what frames it.
pub(super) struct Framed {
    pub(super) data: Bytes,
    /// What comes behind it.
    pub(super) tail: &'static [u8],
}

impl Encoder {
    /// For a message without content.
    pub(super) fn empty() -> Self {
        Self { length: BodyLength::EMPTY }
    }

    /// Decides the framing of content and writes the field for it, where `headers` has none. `exact` is how long the
    /// content will be, where that is known.
    pub(super) fn frame(
        out: &mut Vec<u8>,
        headers: &HeaderMap,
        exact: Option<u64>,
        otherwise: BodyLength,
        case: FieldCase,
    ) -> Self {
        let given = headers.get(CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse().ok());
        let length = match (given, exact, otherwise) {
            (Some(given), _, _) => BodyLength::Exact(given),
            (None, Some(exact), _) => {
                let mut digits = [0; 20];
                write(out, CONTENT_LENGTH.as_str(), decimal(exact, &mut digits), case);
                BodyLength::Exact(exact)
            }
            (None, None, BodyLength::Chunked) => {
                if !headers.contains_key(TRANSFER_ENCODING) {
                    write(out, TRANSFER_ENCODING.as_str(), b"chunked", case);
                }
                BodyLength::Chunked
            }
            (None, None, otherwise @ (BodyLength::Exact(_) | BodyLength::UntilClose)) => otherwise,
        };
        Self { length }
    }

    /// Whether all that the head promised was written.
    pub(super) fn is_satisfied(&self) -> bool {
        !matches!(self.length, BodyLength::Exact(1..))
    }

    /// Whether the connection's end is the content's.
    pub(super) fn ends_connection(&self) -> bool {
        self.length == BodyLength::UntilClose
    }

    /// Frames a piece; what comes before it is written to `out`.
    pub(super) fn data(
        &mut self,
        out: &mut Vec<u8>,
        data: Bytes,
        place: ChunkPosition,
    ) -> Result<Framed, Error> {
        let tail: &'static [u8] = match &mut self.length {
            BodyLength::Exact(left) => {
                *left = left.checked_sub(data.len() as u64).ok_or(Error::Body)?;
                b""
            }
            BodyLength::UntilClose => b"",
            // An empty chunk would end the content.
            BodyLength::Chunked if data.is_empty() => b"",
            BodyLength::Chunked => {
                chunk_size(out, data.len());
                match place {
                    ChunkPosition::Middle => b"\r\n",
                    ChunkPosition::Last => {
                        self.length = BodyLength::EMPTY;
                        b"\r\n0\r\n\r\n"
                    }
                }
            }
        };
        Ok(Framed { data, tail })
    }

    /// Writes the end of the content.
    pub(super) fn end(&mut self, out: &mut Vec<u8>, trailers: Option<&HeaderMap>, case: FieldCase) {
        if self.length != BodyLength::Chunked {
            return;
        }
        self.length = BodyLength::EMPTY;
        out.extend_from_slice(b"0\r\n");
        if let Some(trailers) = trailers {
            fields(out, trailers, case);
        }
        out.extend_from_slice(b"\r\n");
    }
}

pub(super) fn write(out: &mut Vec<u8>, name: &str, value: &[u8], case: FieldCase) {
    match case {
        FieldCase::Lower => field(out, name.as_bytes(), value),
        FieldCase::Title => field(out, &title(name.as_bytes()), value),
    }
}

fn decimal(mut number: u64, digits: &mut [u8; 20]) -> &[u8] {
    let mut at = digits.len();
    loop {
        at -= 1;
        digits[at] = b'0' + (number % 10) as u8;
        number /= 10;
        if number == 0 {
            return &digits[at..];
        }
    }
}

fn chunk_size(out: &mut Vec<u8>, size: usize) {
    let digits = (usize::BITS - size.leading_zeros()).div_ceil(4).max(1);
    for at in (0..digits).rev() {
        out.push(b"0123456789abcdef"[size >> (4 * at) & 0xf]);
    }
    out.extend_from_slice(b"\r\n");
}
