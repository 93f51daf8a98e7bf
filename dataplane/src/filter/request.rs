//! A request and its response as filters see them, and what filters may want.

use std::net::IpAddr;

use http::request::Parts;
use http::{HeaderMap, StatusCode};
use weft_routing::matcher::RequestHead;
use weft_routing::route::RouteRef;

use super::Override;
use super::state::{FilterState, Remembered};
use crate::engine::active_stream::ActiveStream;
use crate::engine::async_client::{self, Call, CallError, CallResponse};
use crate::engine::body::{BodyError, RequestContent, RequestInterrupted, Transform, Transforms};
use crate::engine::chain::HttpView;
use crate::engine::clusters::ClusterSnapshot;
use crate::engine::limits::{TimedOut, limited};
use crate::engine::reply::Reply;
use crate::engine::request_head::head;
use crate::route::{RouteAction, WeightedCluster};

/// What becomes of a request after a filter.
#[derive(Debug)]
pub(crate) enum Flow {
    /// It goes on to the next filter.
    Continue,
    /// It goes on to the next filter by a route that is chosen anew, since its head has changed.
    RouteAgain,
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

impl Request<'_> {
    /// The head as matchers see it.
    pub(crate) fn head(&self) -> RequestHead<'_> {
        head(self.parts, self.scheme)
    }

    /// Whether content follows the head.
    pub(super) fn has_body(&self) -> bool {
        self.content.as_ref().is_some_and(|content| !content.is_end_stream())
    }

    /// Reads the content until `enough` bytes of it are there, or all of it; answers how many are there. What was read goes on with the rest, behind the
    /// filters; there may be a frame more of it than asked for.
    ///
    /// # Errors
    /// The answer where a limit of the request is reached meanwhile, or where what the caller sent is no HTTP.
    pub(super) async fn read_body(&mut self, enough: usize) -> Result<usize, Box<Reply>> {
        let Some(content) = &mut self.content else { return Ok(0) };
        let progress = self.stream.follow();
        self.stream.limits.watch();
        let mut ahead = std::mem::take(*content).into_read_ahead();
        let reading = async {
            while !ahead.is_whole() && ahead.size() < enough {
                std::future::poll_fn(|cx| ahead.poll_more(cx, &progress)).await?;
            }
            Ok::<_, BodyError>(ahead.size())
        };
        let read = limited(&self.stream.limits, reading).await;
        **content = RequestContent::ReadAhead(ahead);
        match read {
            Ok(Ok(size)) => Ok(size),
            // The connection sees it too, and drops this request.
            Ok(Err(_)) if progress.interrupted.get() == Some(RequestInterrupted::Gone) => {
                std::future::pending().await
            }
            Ok(Err(_)) => Err(Box::new(Reply::malformed_request())),
            Err(reached) => Err(self.timed_out(reached)),
        }
    }

    /// Has the content changed on its way, a piece at a time, before filters behind this one and the server see it.
    pub(super) fn transform(&mut self, transform: Box<dyn Transform>) {
        if let Some(content) = &mut self.content {
            content.transform(transform);
        }
    }

    /// What has been read of the content, in pieces.
    pub(super) fn pieces_read(&self) -> impl Iterator<Item = &[u8]> {
        self.content.iter().flat_map(|content| content.pieces_read())
    }

    /// Calls a cluster, within the limits of the request too.
    ///
    /// # Errors
    /// The answer where one of these is reached meanwhile.
    pub(super) async fn call(
        &mut self,
        cluster: &str,
        call: Call,
    ) -> Result<Result<CallResponse, CallError>, Box<Reply>> {
        let Some(cluster) = self.snapshot.cluster(cluster) else { return Ok(Err(CallError::NoCluster)) };
        let limits = &self.stream.limits;
        limits.watch();
        let calling = async_client::call(&self.stream.connection.worker, cluster, call);
        limited(limits, calling).await.map_err(|reached| self.timed_out(reached))
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

    /// Chooses the route by the head as it is now.
    pub(super) fn choose_route(&mut self) {
        let random = self.stream.connection.worker.random();
        self.stream.found = self.view.routes.find(&self.head(), random);
        self.stream.member = None;
        self.choose_member();
    }

    /// The cluster that the route leads to, as far as that can be told before the router.
    pub(super) fn cluster_name(&self) -> Option<&str> {
        let (found, weighted) = levels(self.view, self.stream)?;
        if let Some(member) = weighted {
            return Some(&member.name);
        }
        match &self.view.routes.route(found).effect.action {
            RouteAction::Forward(forward) => {
                forward.cluster.choose(&self.head(), 0).map(|chosen| chosen.name)
            }
            RouteAction::Redirect(_) | RouteAction::Direct(_) | RouteAction::NonForwarding => None,
        }
    }

    /// Chooses among the clusters that the route weighs, which may have filters of their own.
    pub(super) fn choose_member(&mut self) {
        let Some(found) = self.stream.found else { return };
        match &self.view.routes.route(found).effect.action {
            RouteAction::Forward(forward) => {
                self.stream.member = forward.cluster.choose_member(self.stream.connection.worker.random());
            }
            RouteAction::Redirect(_) | RouteAction::Direct(_) | RouteAction::NonForwarding => {}
        }
    }
}

/// The head of a response on its way back through the filters.
pub(crate) struct Response<'a> {
    pub(crate) headers: &'a mut HeaderMap,
    /// The head of the request, as it is now.
    pub(crate) request: &'a RequestHead<'a>,
    /// Whether content follows the head. None does where the request was a HEAD.
    pub(super) has_content: bool,
    /// What filters do with the content.
    pub(super) transforms: &'a mut Transforms,
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
    let weighted = match &view.routes.route(found).effect.action {
        RouteAction::Forward(forward) => stream.member.and_then(|member| forward.cluster.member(member)),
        RouteAction::Redirect(_) | RouteAction::Direct(_) | RouteAction::NonForwarding => None,
    };
    Some((found, weighted))
}

/// What the most specific level says of the filter of this name.
pub(super) fn override_of<'a>(view: &'a HttpView, stream: &ActiveStream, name: &str) -> Option<&'a Override> {
    let (found, weighted) = levels(view, stream)?;
    view.routes.filter_override(found, weighted, name)
}
