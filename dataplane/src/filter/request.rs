//! A request and its response as filters see them, and what filters may want.

use std::net::IpAddr;

use http::HeaderMap;
use http::request::Parts;

use super::Override;
use super::state::{FilterState, Remembered};
use crate::engine::active_stream::ActiveStream;
use crate::engine::chain::HttpView;
use crate::engine::clusters::ClusterSnapshot;
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
    pub(crate) stream: &'a mut ActiveStream,
    pub(crate) view: &'a HttpView,
    pub(crate) snapshot: &'a ClusterSnapshot,
    pub(crate) scheme: &'static str,
    /// The caller's address after trusted hops.
    pub(crate) remote: IpAddr,
    /// The place of the filter that sees it now.
    pub(crate) place: usize,
}

impl<'a> Request<'a> {
    /// The head as matchers see it.
    pub(crate) fn head(&self) -> RequestHead<'_> {
        head(self.parts, self.scheme)
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
