//! A request and its response as filters see them, and what filters may want.

use std::net::IpAddr;

use http::request::Parts;
use http::{HeaderMap, StatusCode};

use super::Override;
use super::state::{FilterState, Remembered};
use crate::engine::active_stream::ActiveStream;
use crate::engine::body::{BodyError, RequestContent, RequestInterrupted};
use crate::engine::chain::HttpView;
use crate::engine::clusters::ClusterSnapshot;
use crate::engine::limits::{TimedOut, limited};
use crate::engine::reply::Reply;
use crate::engine::request_head::head;
use crate::matcher::RequestHead;
use crate::route::{Action, RouteRef, WeightedCluster};

/// What becomes of a request after a filter.
#[derive(Debug)]
pub(crate) enum Flow {
    /// It goes on to the next filter.
    Continue,
    /// It is answered, and goes no further.
    Reply(Box<Reply>),
}

/// A request on its way through the filters.
pub(crate) struct Request<'a> {
    /// The head, which a filter may change.
    pub(crate) parts: &'a mut Parts,
    /// The content; `None` where what follows the head is a tunnel's.
    pub(crate) content: Option<&'a mut RequestContent>,
    pub(crate) stream: &'a mut ActiveStream,
    pub(crate) view: &'a HttpView,
    pub(crate) snapshot: &'a ClusterSnapshot,
    pub(crate) scheme: &'static str,
    /// The caller's address after trusted hops.
    pub(crate) remote: IpAddr,
    /// The place of the filter that sees it now.
    pub(crate) place: usize,
}

/// How much of a request's content has been read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct BodyRead {
    /// Bytes.
    pub(super) size: usize,
    /// Nothing is still to come.
    pub(super) is_whole: bool,
}

impl Request<'_> {
    /// The head as matchers see it.
    pub(crate) fn head(&self) -> RequestHead<'_> {
        head(self.parts, self.scheme)
    }

    /// Whether content follows the head.
    pub(super) fn has_body(&self) -> bool {
        self.content.as_ref().is_some_and(|content| !content.is_end_stream())
    }

    /// Reads the content until `enough` bytes of it are there, or all of it. What was read goes on with the rest, behind the
    /// filters; there may be a frame more of it than asked for.
    ///
    /// # Errors
    /// The answer where a limit of the request is reached meanwhile, or where what the caller sent is no HTTP.
    pub(super) async fn read_body(&mut self, enough: usize) -> Result<BodyRead, Box<Reply>> {
        let Some(content) = &mut self.content else { return Ok(BodyRead { size: 0, is_whole: true }) };
        let progress = self.stream.follow();
        self.stream.limits.watch();
        let mut ahead = std::mem::take(*content).into_read_ahead();
        let reading = async {
            while !ahead.is_whole() && ahead.size() < enough {
                std::future::poll_fn(|cx| ahead.poll_more(cx, &progress)).await?;
            }
            Ok::<_, BodyError>(BodyRead { size: ahead.size(), is_whole: ahead.is_whole() })
        };
        let read = limited(&self.stream.limits, reading).await;
        **content = RequestContent::ReadAhead(ahead);
        match read {
            Ok(Ok(read)) => Ok(read),
            // The connection sees it too, and drops this request.
            Ok(Err(_)) if progress.interrupted.get() == Some(RequestInterrupted::Gone) => std::future::pending().await,
            Ok(Err(_)) => Err(Box::new(Reply::malformed_request())),
            Err(reached) => Err(self.timed_out(reached)),
        }
    }

    /// The answer where a limit of the request was reached while a filter waited.
    pub(super) fn timed_out(&self, reached: TimedOut) -> Box<Reply> {
        self.stream.count_timeout(reached);
        Box::new(reached.reply(self.stream.limits.request_ended()))
    }

    /// The answer to a request with more content than a filter reads.
    pub(super) fn too_large(&self) -> Box<Reply> {
        self.stream.connection.worker.shard.inc(self.view.manager.stats.downstream_rq_too_large);
        let reply = Reply::new(StatusCode::PAYLOAD_TOO_LARGE, "request_payload_too_large");
        Box::new(reply.body("Payload Too Large"))
    }

    /// Keeps something for the filter that sees the request now, until the stream ends.
    pub(super) fn remember(&mut self, state: FilterState) {
        self.stream.filters.push(Remembered { place: self.place, state });
    }

    /// Chooses among the clusters that the route weighs, which may have filters of their own.
    pub(super) fn choose_member(&mut self) {
        let Some(found) = self.stream.found else { return };
        match &self.view.routes.route(found).action {
            Action::Forward(forward) => {
                self.stream.member = forward.cluster.choose_member(self.stream.connection.worker.random());
            }
            Action::Redirect(_) | Action::Direct(_) | Action::NonForwarding => {}
        }
    }
}

/// The head of a response on its way back through the filters.
pub(crate) struct Response<'a> {
    pub(crate) headers: &'a mut HeaderMap,
    /// The head of the request, as it is now.
    pub(crate) request: &'a RequestHead<'a>,
    pub(crate) stream: &'a mut ActiveStream,
    pub(crate) view: &'a HttpView,
    /// The place of the filter that sees it now.
    pub(super) place: usize,
}

impl Response<'_> {
    /// What the filter that sees it now keeps.
    pub(super) fn remembered(&self) -> impl Iterator<Item = &FilterState> {
        let own = self.stream.filters.iter().filter(|one| one.place == self.place);
        own.map(|one| &one.state)
    }

    /// Keeps something for the filter that sees it now, until the stream ends.
    pub(super) fn remember(&mut self, state: FilterState) {
        self.stream.filters.push(Remembered { place: self.place, state });
    }
}

/// The route of a stream with the member that was chosen of the clusters that it weighs.
pub(super) fn levels<'a>(
    view: &'a HttpView,
    stream: &ActiveStream,
) -> Option<(RouteRef, Option<&'a WeightedCluster>)> {
    let found = stream.found?;
    let weighted = match &view.routes.route(found).action {
        Action::Forward(forward) => stream.member.and_then(|member| forward.cluster.member(member)),
        Action::Redirect(_) | Action::Direct(_) | Action::NonForwarding => None,
    };
    Some((found, weighted))
}

/// What the most specific level says of the filter of this name.
pub(super) fn override_of<'a>(view: &'a HttpView, stream: &ActiveStream, name: &str) -> Option<&'a Override> {
    let (found, weighted) = levels(view, stream)?;
    view.routes.filter_override(found, weighted, name)
}
