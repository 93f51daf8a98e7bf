//! `transfer-encoding: chunked` (RFC 9112, section 7.1).

use bytes::{Buf as _, BytesMut};

use super::decoder::Piece;
use super::error::Malformed;
use super::fields;
use super::lines::HeadLimits;

/// Bytes of chunk extensions that a message may have beyond the data that it carries. They mean nothing to anyone,
/// so a peer that sends more of them than of data only wants them to be read.
const EXTENSIONS: usize = 16 * 1024;
/// The end of a last chunk that is followed by no trailers.
const PLAIN_END: &[u8] = b"\r\n0\r\n\r\n";

/// A decoder of chunks.
#[derive(Debug)]
pub(super) struct Chunked {
    state: ChunkedState,
    /// Bytes of extensions that were not made up for by data.
    extensions: usize,
    /// Bytes of the trailers in which no end was found.
    seen: usize,
    limits: HeadLimits,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum ChunkedState {
    /// The digits of a chunk's size, of which some have come.
    Size {
        size: u64,
        digits: u8,
    },
    /// Blanks behind the size, which some servers fill its line with.
    Padding {
        size: u64,
    },
    /// From a semicolon to the end of the line.
    Extension {
        size: u64,
    },
    /// The line feed after a chunk's size.
    SizeEnd {
        size: u64,
    },
    /// A chunk's bytes that are left.
    Data(u64),
    /// The line end behind them.
    DataEnd,
    DataLineFeed,
    /// The fields after the last chunk, and an empty line.
    Trailers,
    Ended,
}

impl Chunked {
    pub(super) fn new(limits: HeadLimits) -> Self {
        Self { state: ChunkedState::Size { size: 0, digits: 0 }, extensions: 0, seen: 0, limits }
    }

    pub(super) fn is_ended(&self) -> bool {
        self.state == ChunkedState::Ended
    }

    pub(super) fn decode(&mut self, buffer: &mut BytesMut) -> Result<Option<Piece>, Malformed> {
        loop {
            match self.state {
                ChunkedState::Ended => return Ok(None),
                ChunkedState::Data(left) if !buffer.is_empty() => return Ok(Some(self.data(left, buffer))),
                ChunkedState::Trailers => return self.trailers(buffer),
                ChunkedState::Size { .. }
                | ChunkedState::Padding { .. }
                | ChunkedState::Extension { .. }
                | ChunkedState::SizeEnd { .. }
                | ChunkedState::Data(_)
                | ChunkedState::DataEnd
                | ChunkedState::DataLineFeed => {
                    let Some(byte) = buffer.first().copied() else { return Ok(None) };
                    buffer.advance(1);
                    self.state = self.step(byte)?;
                }
            }
        }
    }

    /// Takes what there is of a chunk's bytes. Where nothing but the end of the message follows, it is taken too: who
    /// knows that a piece was the last one need not ask for another.
    fn data(&mut self, left: u64, buffer: &mut BytesMut) -> Piece {
        let take = usize::try_from(left).unwrap_or(usize::MAX).min(buffer.len());
        self.extensions = self.extensions.saturating_sub(take);
        let data = buffer.split_to(take).freeze();
        let left = left - take as u64;
        self.state = if left > 0 {
            ChunkedState::Data(left)
        } else if buffer.starts_with(PLAIN_END) {
            buffer.advance(PLAIN_END.len());
            ChunkedState::Ended
        } else {
            ChunkedState::DataEnd
        };
        Piece::Data(data)
    }

    /// One byte between the data.
    fn step(&mut self, byte: u8) -> Result<ChunkedState, Malformed> {
        match (self.state, byte) {
            (ChunkedState::Size { size, digits }, b'0'..=b'9' | b'a'..=b'f' | b'A'..=b'F') if digits < 16 => {
                let digit = (byte as char).to_digit(16).map_or(0, u64::from);
                Ok(ChunkedState::Size { size: size << 4 | digit, digits: digits + 1 })
            }
            (
                ChunkedState::Size { size, digits: 1.. }
                | ChunkedState::Padding { size }
                | ChunkedState::Extension { size },
                b'\r',
            ) => Ok(ChunkedState::SizeEnd { size }),
            (ChunkedState::Size { size, digits: 1.. } | ChunkedState::Padding { size }, b' ' | b'\t') => {
                self.passed_over(ChunkedState::Padding { size })
            }
            (ChunkedState::Size { size, digits: 1.. } | ChunkedState::Padding { size }, b';') => {
                self.passed_over(ChunkedState::Extension { size })
            }
            (ChunkedState::Extension { size }, b'\t' | b' '..=b'~' | 0x80..) => {
                self.passed_over(ChunkedState::Extension { size })
            }
            (ChunkedState::SizeEnd { size: 0 }, b'\n') => Ok(ChunkedState::Trailers),
            (ChunkedState::SizeEnd { size }, b'\n') => Ok(ChunkedState::Data(size)),
            (ChunkedState::DataEnd, b'\r') => Ok(ChunkedState::DataLineFeed),
            (ChunkedState::DataLineFeed, b'\n') => Ok(ChunkedState::Size { size: 0, digits: 0 }),
            (
                ChunkedState::Size { .. }
                | ChunkedState::Padding { .. }
                | ChunkedState::Extension { .. }
                | ChunkedState::SizeEnd { .. }
                | ChunkedState::DataEnd
                | ChunkedState::DataLineFeed
                | ChunkedState::Data(_)
                | ChunkedState::Trailers
                | ChunkedState::Ended,
                _,
            ) => Err(Malformed::Chunk),
        }
    }

    /// One more byte that means nothing.
    fn passed_over(&mut self, next: ChunkedState) -> Result<ChunkedState, Malformed> {
        self.extensions += 1;
        if self.extensions > EXTENSIONS { Err(Malformed::Chunk) } else { Ok(next) }
    }

    fn trailers(&mut self, buffer: &mut BytesMut) -> Result<Option<Piece>, Malformed> {
        if buffer.starts_with(b"\r\n") {
            buffer.advance(2);
            self.state = ChunkedState::Ended;
            return Ok(None);
        }
        let section = &buffer[..buffer.len().min(self.limits.bytes)];
        // Looked at when it is whole: a field in drops is not parsed for each of them.
        let from = self.seen.saturating_sub(3).min(section.len());
        let Some(at) = section[from..].windows(4).position(|bytes| bytes == b"\r\n\r\n") else {
            self.seen = section.len();
            return if buffer.len() >= self.limits.bytes { Err(Malformed::TooLarge) } else { Ok(None) };
        };
        let section = buffer.split_to(from + at + 4).freeze();
        if has_bare_line_feed(&section) {
            return Err(Malformed::Syntax);
        }
        let headers = fields::trailers(&section, self.limits.fields)?;
        self.state = ChunkedState::Ended;
        Ok(Some(Piece::Trailers(headers)))
    }
}

/// Whether a line ends in a line feed alone, which `httparse` lets through.
fn has_bare_line_feed(section: &[u8]) -> bool {
    section.starts_with(b"\n") || section.windows(2).any(|pair| pair[1] == b'\n' && pair[0] != b'\r')
}
