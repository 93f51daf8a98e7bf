//! The content of a message, taken from the front of a buffer.

use bytes::{Bytes, BytesMut};
use http::HeaderMap;

use super::chunked::Chunked;
use super::error::Malformed;
use super::framing::BodyLength;
use super::lines::Limits;

/// A part of a message's content.
#[derive(Debug, PartialEq, Eq)]
pub enum Piece {
    /// Some of it; never empty.
    Data(Bytes),
    /// The fields after it; nothing follows.
    Trailers(HeaderMap),
}

/// Finds the end of one message's content.
#[derive(Debug)]
pub struct Decoder {
    state: State,
}

#[derive(Debug)]
enum State {
    /// So many bytes are left.
    Exact(u64),
    Chunked(Chunked),
    UntilClose,
    Ended,
}

impl Decoder {
    /// Content of this length; trailers within `limits`.
    pub fn new(length: BodyLength, limits: Limits) -> Self {
        let state = match length {
            BodyLength::Exact(0) => State::Ended,
            BodyLength::Exact(length) => State::Exact(length),
            BodyLength::Chunked => State::Chunked(Chunked::new(limits)),
            BodyLength::UntilClose => State::UntilClose,
        };
        Self { state }
    }

    /// Content that is over.
    pub fn ended() -> Self {
        Self { state: State::Ended }
    }

    /// Whether all of it was taken. With the last data this is often known already.
    pub fn is_ended(&self) -> bool {
        matches!(self.state, State::Ended)
    }

    /// How many bytes are still to come, where that is known.
    pub fn remaining(&self) -> Option<u64> {
        match self.state {
            State::Ended => Some(0),
            State::Exact(left) => Some(left),
            State::Chunked(_) | State::UntilClose => None,
        }
    }

    /// The next piece; `None` where more bytes are needed, or where it is over.
    ///
    /// # Errors
    ///
    /// Where the bytes are not framed as they should be. The connection cannot go on then.
    pub fn decode(&mut self, buffer: &mut BytesMut) -> Result<Option<Piece>, Malformed> {
        match &mut self.state {
            State::Ended => Ok(None),
            _ if buffer.is_empty() => Ok(None),
            State::UntilClose => Ok(Some(Piece::Data(buffer.split().freeze()))),
            State::Exact(left) => {
                let take = usize::try_from(*left).unwrap_or(usize::MAX).min(buffer.len());
                *left -= take as u64;
                if *left == 0 {
                    self.state = State::Ended;
                }
                Ok(Some(Piece::Data(buffer.split_to(take).freeze())))
            }
            State::Chunked(chunked) => {
                let piece = chunked.decode(buffer)?;
                if chunked.is_ended() {
                    self.state = State::Ended;
                }
                Ok(piece)
            }
        }
    }

    /// The connection ended; whether the content did so with it.
    pub fn close(&mut self) -> bool {
        if matches!(self.state, State::UntilClose) {
            self.state = State::Ended;
        }
        self.is_ended()
    }
}
