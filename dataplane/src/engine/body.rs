//! Request bodies on their way to a server: streamed, counted, watched for silence, kept for a retry.

mod codec_body;
mod error;
mod progress;
mod read_ahead;
mod replay;
mod request_content;
mod transform;

use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Frame, SizeHint};

pub(crate) use codec_body::{CodecBody, Incoming};
pub(crate) use error::BodyError;
pub(crate) use progress::{Progress, RequestInterrupted};
pub(crate) use replay::{Replay, Replayed};
pub(crate) use request_content::RequestContent;
pub(crate) use transform::{Transform, Transformed, Transforms};

#[derive(Debug)]
pub(crate) enum RequestBody {
    Empty,
    /// What is sent once.
    Once(Box<OnceBody>),
    /// What may have to be sent again.
    Replayed(Replayed),
}

impl RequestBody {
    /// Of a request that this proxy makes itself.
    pub(crate) fn whole(content: Bytes) -> Self {
        if content.is_empty() {
            return Self::Empty;
        }
        Self::Once(Box::new(OnceBody::new(content.into(), Progress::new())))
    }
}

impl http_body::Body for RequestBody {
    type Data = Bytes;
    type Error = BodyError;

    #[inline]
    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        match self.get_mut() {
            Self::Empty => Poll::Ready(None),
            Self::Once(once) => once.poll(cx),
            Self::Replayed(replayed) => replayed.poll(cx),
        }
    }

    #[inline]
    fn is_end_stream(&self) -> bool {
        match self {
            Self::Empty => true,
            Self::Once(once) => once.is_end_stream(),
            Self::Replayed(replayed) => replayed.is_end_stream(),
        }
    }

    #[inline]
    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Empty => SizeHint::with_exact(0),
            Self::Once(once) => once.content.size_hint(),
            Self::Replayed(replayed) => replayed.size_hint(),
        }
    }
}

/// A request's body that is sent once.
#[derive(Debug)]
pub(crate) struct OnceBody {
    content: RequestContent,
    progress: Rc<Progress>,
}

impl OnceBody {
    pub(crate) fn new(content: RequestContent, progress: Rc<Progress>) -> Self {
        Self { content, progress }
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let polled = self.content.poll(cx, &self.progress);
        if polled.is_ready() {
            self.is_end_stream();
        }
        polled
    }

    /// Who is told that it is over does not poll it again.
    fn is_end_stream(&self) -> bool {
        let ended = self.content.is_end_stream();
        if ended {
            self.progress.end();
        }
        ended
    }
}
