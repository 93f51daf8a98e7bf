//! The content of a message, taken from the front of a buffer.

use bytes::{Bytes, BytesMut};
use http::HeaderMap;

use super::chunked::Chunked;
use super::error::Malformed;
use super::framing::BodyLength;
use super::lines::HeadLimits;

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
    state: DecoderState,
}

#[derive(Debug)]
enum DecoderState {
    /// So many bytes are left.
    Exact(u64),
    Chunked(Chunked),
    UntilClose,
    Ended,
}

impl Decoder {
    /// Content of this length; trailers within `limits`.
    pub fn new(length: BodyLength, limits: HeadLimits) -> Self {
        let state = match length {
            BodyLength::Exact(0) => DecoderState::Ended,
            BodyLength::Exact(length) => DecoderState::Exact(length),
            BodyLength::Chunked => DecoderState::Chunked(Chunked::new(limits)),
            BodyLength::UntilClose => DecoderState::UntilClose,
        };
        Self { state }
    }

    /// Content that is over.
    pub fn ended() -> Self {
        Self { state: DecoderState::Ended }
    }

    /// Whether all of it was taken. With the last data this is often known already.
    pub fn is_ended(&self) -> bool {
        matches!(self.state, DecoderState::Ended)
    }

    /// How many bytes are still to come, where that is known.
    pub fn remaining(&self) -> Option<u64> {
        match self.state {
            DecoderState::Ended => Some(0),
            DecoderState::Exact(left) => Some(left),
            DecoderState::Chunked(_) | DecoderState::UntilClose => None,
        }
    }

    /// The next piece; `None` where more bytes are needed, or where it is over.
    ///
    /// # Errors
    ///
    /// Where the bytes are not framed as they should be. The connection cannot go on then.
    pub fn decode(&mut self, buffer: &mut BytesMut) -> Result<Option<Piece>, Malformed> {
        match &mut self.state {
            DecoderState::Ended => Ok(None),
            _ if buffer.is_empty() => Ok(None),
            DecoderState::UntilClose => Ok(Some(Piece::Data(buffer.split().freeze()))),
            DecoderState::Exact(left) => {
                let take = usize::try_from(*left).unwrap_or(usize::MAX).min(buffer.len());
                *left -= take as u64;
                if *left == 0 {
                    self.state = DecoderState::Ended;
                }
                Ok(Some(Piece::Data(buffer.split_to(take).freeze())))
            }
            DecoderState::Chunked(chunked) => {
                let piece = chunked.decode(buffer)?;
                if chunked.is_ended() {
                    self.state = DecoderState::Ended;
                }
                Ok(piece)
            }
        }
    }

    /// The connection ended; whether the content did so with it.
    pub fn close(&mut self) -> bool {
        if matches!(self.state, DecoderState::UntilClose) {
            self.state = DecoderState::Ended;
        }
        self.is_ended()
    }
}
