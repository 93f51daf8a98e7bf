//! The content of one message on its way out.

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::Body;

use super::buffer::Outbox;
use super::encode::{ChunkPosition, Encoder, FieldCase};
use super::error::Error;

/// A body and how it is framed.
#[derive(Debug)]
pub(super) struct Outgoing<B> {
    pub(super) body: B,
    pub(super) encoder: Encoder,
    pub(super) case: FieldCase,
}

/// How far a message has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Gathered {
    /// All of it is in the outbox, or written.
    Whole,
    /// There is more, which has to wait for room.
    Full,
    /// Nothing more has come yet.
    Waiting,
}

impl<B: Body<Data = Bytes> + Unpin> Outgoing<B> {
    /// Puts what there is into the outbox, as far as there is room.
    pub(super) fn gather(&mut self, outbox: &mut Outbox, cx: &mut Context<'_>) -> Result<Gathered, Error> {
        while outbox.has_room() {
            if self.body.is_end_stream() {
                return self.end(outbox, None);
            }
            let frame = match Pin::new(&mut self.body).poll_frame(cx) {
                Poll::Pending => return Ok(Gathered::Waiting),
                Poll::Ready(None) => return self.end(outbox, None),
                Poll::Ready(Some(Err(_))) => return Err(Error::Body),
                Poll::Ready(Some(Ok(frame))) => frame,
            };
            match frame.into_data() {
                // It frames nothing; where it is the last, the end is still to be said.
                Ok(data) if data.is_empty() => {}
                Ok(data) => {
                    let last = self.body.is_end_stream();
                    let place = if last { ChunkPosition::Last } else { ChunkPosition::Middle };
                    let framed = self.encoder.data(&mut outbox.head, data, place)?;
                    outbox.push(framed);
                    if last {
                        return self.finished();
                    }
                }
                Err(frame) => {
                    if let Ok(trailers) = frame.into_trailers() {
                        return self.end(outbox, Some(&trailers));
                    }
                }
            }
        }
        Ok(Gathered::Full)
    }

    fn end(&mut self, outbox: &mut Outbox, trailers: Option<&http::HeaderMap>) -> Result<Gathered, Error> {
        self.encoder.end(&mut outbox.head, trailers, self.case);
        self.finished()
    }

    fn finished(&self) -> Result<Gathered, Error> {
        if self.encoder.is_satisfied() { Ok(Gathered::Whole) } else { Err(Error::Body) }
    }
}
