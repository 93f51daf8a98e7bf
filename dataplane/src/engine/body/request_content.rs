//! A request's content on its way from the caller to a server.

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Body as _, Frame, SizeHint};

use super::codec_body::Incoming;
use super::error::BodyError;
use super::progress::Progress;
use super::read_ahead::ReadAhead;
use super::transform::{Transform, Transformed};

#[derive(Debug)]
pub(crate) enum RequestContent {
    /// As it comes from the caller.
    Incoming(Incoming),
    /// What a filter has read of it goes before the rest.
    ReadAhead(Box<ReadAhead>),
    /// As a filter changes it.
    Transformed(Box<Transformed<Self>>),
}

impl From<Bytes> for RequestContent {
    fn from(content: Bytes) -> Self {
        Self::ReadAhead(Box::new(ReadAhead::whole(content)))
    }
}

impl Default for RequestContent {
    fn default() -> Self {
        Self::ReadAhead(Box::default())
    }
}

impl RequestContent {
    /// The next frame. What is read from the caller for it counts as progress of the request.
    #[inline]
    pub(super) fn poll(
        &mut self,
        cx: &mut Context<'_>,
        progress: &Progress,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        match self {
            Self::Incoming(incoming) => {
                let polled = Pin::new(incoming).poll_frame(cx);
                if let Poll::Ready(frame) = &polled {
                    progress.note(frame);
                }
                polled
            }
            Self::ReadAhead(ahead) => ahead.poll(cx, progress),
            Self::Transformed(changed) => changed.poll(cx, |content, cx| content.poll(cx, progress)),
        }
    }

    /// The same, so that more may be read of it.
    pub(crate) fn into_read_ahead(self) -> Box<ReadAhead> {
        match self {
            Self::Incoming(_) | Self::Transformed(_) => Box::new(ReadAhead::new(self)),
            Self::ReadAhead(ahead) => ahead,
        }
    }

    /// Has it changed on its way, behind all that changes it already.
    pub(crate) fn transform(&mut self, transform: Box<dyn Transform>) {
        let content = std::mem::take(self);
        *self = Self::Transformed(Box::new(Transformed::new(content, transform)));
    }

    /// What filters have read of it, in pieces.
    pub(crate) fn pieces_read(&self) -> impl Iterator<Item = &[u8]> {
        let ahead = match self {
            Self::Incoming(_) | Self::Transformed(_) => None,
            Self::ReadAhead(ahead) => Some(ahead),
        };
        ahead.into_iter().flat_map(|ahead| ahead.pieces())
    }

    #[inline]
    pub(crate) fn is_end_stream(&self) -> bool {
        match self {
            Self::Incoming(incoming) => incoming.is_end_stream(),
            Self::ReadAhead(ahead) => ahead.is_end_stream(),
            Self::Transformed(changed) => changed.is_end_stream(),
        }
    }

    /// How many bytes follow, as far as that is known.
    #[inline]
    pub(super) fn size_hint(&self) -> SizeHint {
        match self {
            Self::Incoming(incoming) => incoming.size_hint(),
            Self::ReadAhead(ahead) => ahead.size_hint(),
            Self::Transformed(changed) => changed.size_hint(),
        }
    }
}
