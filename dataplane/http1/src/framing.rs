//! Where a message ends, and whether another may follow it.

use super::error::Malformed;

/// How the end of a message's content is found (RFC 9112, section 6.3).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BodyLength {
    /// So many bytes; none for a message without content.
    Exact(u64),
    /// `transfer-encoding: chunked`.
    Chunked,
    /// The end of the connection; only responses.
    UntilClose,
}

impl BodyLength {
    /// A message without content.
    pub const EMPTY: Self = Self::Exact(0);
}

/// Whether the sender keeps the connection open after the message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Persistence {
    /// Another message may follow.
    KeepAlive,
    /// This one is the last.
    Close,
}

/// What the fields of one head say about framing and the connection, gathered field by field.
#[derive(Debug, Default)]
pub(super) struct FramingFields {
    pub(super) length: Option<u64>,
    pub(super) chunked: bool,
    pub(super) hosts: u32,
    pub(super) expects_continue: bool,
    close: bool,
    keep_alive: bool,
    pub(super) upgrade: bool,
}

impl FramingFields {
    /// A `content-length`: digits only, and once even where two agree.
    pub(super) fn content_length(&mut self, value: &[u8]) -> Result<(), Malformed> {
        if self.length.is_some() || value.is_empty() {
            return Err(Malformed::Length);
        }
        let mut length = 0_u64;
        for digit in value {
            if !digit.is_ascii_digit() {
                return Err(Malformed::Length);
            }
            let shifted = length.checked_mul(10).ok_or(Malformed::Length)?;
            length = shifted.checked_add(u64::from(digit - b'0')).ok_or(Malformed::Length)?;
        }
        self.length = Some(length);
        Ok(())
    }

    /// A `transfer-encoding`: `chunked` alone, once.
    pub(super) fn transfer_encoding(&mut self, value: &[u8]) -> Result<(), Malformed> {
        if self.chunked || !value.eq_ignore_ascii_case(b"chunked") {
            return Err(Malformed::Coding);
        }
        self.chunked = true;
        Ok(())
    }

    /// A `connection`, of which there may be several.
    pub(super) fn connection(&mut self, value: &[u8]) {
        for word in value.split(|byte| *byte == b',') {
            let word = word.trim_ascii();
            if word.eq_ignore_ascii_case(b"close") {
                self.close = true;
            } else if word.eq_ignore_ascii_case(b"keep-alive") {
                self.keep_alive = true;
            } else if word.eq_ignore_ascii_case(b"upgrade") {
                self.upgrade = true;
            }
        }
    }

    /// HTTP/1.1 keeps a connection unless told otherwise, HTTP/1.0 ends it unless told otherwise.
    pub(super) fn persistence(&self, version: http::Version) -> Persistence {
        if self.close || (version < http::Version::HTTP_11 && !self.keep_alive) {
            Persistence::Close
        } else {
            Persistence::KeepAlive
        }
    }

    /// Both framings at once are how one message becomes two, and HTTP/1.0 knows no codings.
    pub(super) fn check(&self, version: http::Version) -> Result<(), Malformed> {
        if self.chunked && self.length.is_some() {
            return Err(Malformed::LengthAndCoding);
        }
        if self.chunked && version < http::Version::HTTP_11 {
            return Err(Malformed::CodingNotAllowed);
        }
        Ok(())
    }
}
