//! Asks about a request, and does what the verdict says.

use std::rc::Rc;
use std::sync::Arc;

use bytes::BytesMut;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};

use super::super::Override;
use super::super::request::{Flow, Request, Response};
use super::super::state::FilterState;
use super::told::CheckBody;
use super::{
    AuthzService, BodySettings, CheckStatus, Denial, ExtAuthz, HeadChanges, OnError, RequestChange,
    WhenDisabled, WithBody,
};
use crate::engine::cluster_info::ClusterInfo;
use crate::engine::reply::Reply;
use crate::engine::request_head::set_path;
use crate::format::ResponseFlags;
use crate::route::Evaluated;
use crate::stats::{CounterId, ExtAuthzClusterStats};

const FAILURE_MODE_ALLOWED: HeaderName = HeaderName::from_static("x-envoy-auth-failure-mode-allowed");

impl ExtAuthz {
    /// As in Envoy a request without a route is not checked: it goes nowhere.
    pub(in super::super) async fn on_request(
        &self,
        name: &str,
        request: &mut Request<'_>,
        special: Option<&Override>,
    ) -> Flow {
        if request.stream.found.is_none() {
            return Flow::Continue;
        }
        let worker = request.stream.connection.worker.clone();
        if !self.enabled.holds(worker.random()) {
            worker.shard.inc(self.stats.disabled);
            return match self.when_disabled {
                WhenDisabled::Allow => Flow::Continue,
                WhenDisabled::Deny => Flow::Reply(unauthorized(self.status_on_error, "ext_authz_error")),
            };
        }
        match self.check(name, request, special).await {
            Ok(CheckStatus::Ok(changes)) => self.let_on(request, changes),
            Ok(CheckStatus::Denied(denial)) => {
                self.count(request, self.stats.denied, |stats| stats.denied);
                self.deny(request, denial)
            }
            Ok(CheckStatus::Error(answer)) => {
                self.count(request, self.stats.error, |stats| stats.error);
                self.without_verdict(request, answer)
            }
            Ok(CheckStatus::Invalid) => self.invalid(request),
            Err(reply) => Flow::Reply(reply),
        }
    }

    /// # Errors
    /// The answer where a limit of the request is reached, or it has too much content.
    async fn check(
        &self,
        name: &str,
        request: &mut Request<'_>,
        special: Option<&Override>,
    ) -> Result<CheckStatus, Box<Reply>> {
        let body = match self.body_settings(special).filter(|_| request.has_body()) {
            Some(settings) => read(request, settings).await?,
            None => CheckBody::default(),
        };
        let call = match &self.service {
            AuthzService::Http(service) => service.call(self, request, body),
            AuthzService::Grpc(service) => Some(service.call(self, name, request, &body)),
        };
        let Some(call) = call else { return Ok(CheckStatus::Error(None)) };
        let cluster = self.service.cluster();
        Ok(match (request.call(cluster, call).await?, &self.service) {
            (Ok(answer), AuthzService::Http(service)) => service.verdict(answer),
            (Ok(answer), AuthzService::Grpc(service)) => service.verdict(&answer, self.status_on_error),
            (Err(error), _) => {
                tracing::debug!(%cluster, %error, "no verdict on a request");
                CheckStatus::Error(None)
            }
        })
    }

    fn body_settings(&self, special: Option<&Override>) -> Option<WithBody> {
        match special.and_then(Override::ext_authz).map_or(BodySettings::Inherited, |settings| settings.body)
        {
            BodySettings::Inherited => self.with_body,
            BodySettings::None => None,
            BodySettings::With(body) => Some(body),
        }
    }

    fn let_on(&self, request: &mut Request<'_>, changes: HeadChanges) -> Flow {
        let HeadChanges { request: all, remove, query, response } = changes;
        let changed = !(all.is_empty() && remove.is_empty() && query.is_empty());
        if !query.is_empty() {
            let path = query.applied(request.head().path);
            if !set_path(request.parts, &path) {
                return self.invalid(request);
            }
        }
        let headers = &mut request.parts.headers;
        all.into_iter().for_each(|change| change.apply(headers));
        remove.iter().for_each(|name| drop(headers.remove(name)));
        if !response.is_empty() {
            request.remember(FilterState::ExtAuthz(Arc::new(response)));
        }
        self.count(request, self.stats.ok, |stats| stats.ok);
        if self.clear_route_cache && changed { Flow::RouteAgain } else { Flow::Continue }
    }

    /// What the server wants cannot be done: nobody knows whether the request may go on without.
    fn invalid(&self, request: &Request<'_>) -> Flow {
        request.stream.connection.worker.shard.inc(self.stats.invalid);
        Flow::Reply(unauthorized(StatusCode::INTERNAL_SERVER_ERROR, "ext_authz_invalid"))
    }

    fn deny(&self, request: &Request<'_>, mut denial: Denial) -> Flow {
        if self.charges_cluster
            && let Some(cluster) = cluster(request)
        {
            let (shard, stats) = (&request.stream.connection.worker.shard, &cluster.stats);
            shard.inc(stats.upstream_rq_completed);
            shard.response_code(stats.upstream_rq, denial.status.as_u16());
        }
        denial.body.truncate(self.max_denied_body.unwrap_or(usize::MAX));
        Flow::Reply(answered(denial, "ext_authz_denied"))
    }

    fn without_verdict(&self, request: &mut Request<'_>, answer: Option<Denial>) -> Flow {
        match self.on_error {
            OnError::Deny => {
                let answer = answer.unwrap_or_else(|| Denial::of(self.status_on_error));
                return Flow::Reply(answered(answer, "ext_authz_error"));
            }
            OnError::Allow => {}
            OnError::AllowAndSay => {
                request.parts.headers.append(FAILURE_MODE_ALLOWED, HeaderValue::from_static("true"));
            }
        }
        self.count(request, self.stats.failure_mode_allowed, |stats| stats.failure_mode_allowed);
        Flow::Continue
    }

    fn count(
        &self,
        request: &Request<'_>,
        own: CounterId,
        of_cluster: impl FnOnce(&ExtAuthzClusterStats) -> CounterId,
    ) {
        let shard = &request.stream.connection.worker.shard;
        shard.inc(own);
        if self.counts_by_cluster
            && let Some(cluster) = cluster(request)
        {
            shard.inc(of_cluster(&cluster.stats.ext_authz));
        }
    }
}

impl RequestChange {
    fn apply(self, headers: &mut HeaderMap) {
        match self {
            Self::Set(name, value) => {
                headers.insert(name, value);
            }
            Self::Append(name, value) => {
                headers.append(name, value);
            }
            Self::JoinIfExists(name, value) => {
                if let Some(known) = headers.get_mut(name) {
                    let joined = [known.as_bytes(), b",", value.as_bytes()].concat();
                    // Both were values, and so are they together.
                    if let Ok(joined) = HeaderValue::from_bytes(&joined) {
                        *known = joined;
                    }
                }
            }
        }
    }
}

/// Changes the response to a request that went on.
pub(in super::super) fn on_response(response: &mut Response<'_>) {
    let changes: Vec<_> = response
        .remembered()
        .filter_map(|state| if let FilterState::ExtAuthz(ops) = state { Some(ops.clone()) } else { None })
        .collect();
    changes.iter().for_each(|ops| ops.apply(response.headers, Evaluated::default()));
}

fn unauthorized(status: StatusCode, details: &'static str) -> Box<Reply> {
    Box::new(Reply::new(status, details).flag(ResponseFlags::UNAUTHORIZED_EXTERNAL))
}

fn answered(answer: Denial, details: &'static str) -> Box<Reply> {
    let mut reply = unauthorized(answer.status, details);
    reply.headers = answer.headers;
    reply.bytes = Some(answer.body);
    reply
}

/// The cluster that the request's route leads to.
fn cluster(request: &Request<'_>) -> Option<Rc<ClusterInfo>> {
    let cluster = request.snapshot.cluster(request.cluster_name()?)?;
    Some(cluster.view().config.clone())
}

async fn read(request: &mut Request<'_>, settings: WithBody) -> Result<CheckBody, Box<Reply>> {
    let most = settings.most;
    let enough = if settings.partial { most } else { most.saturating_add(1) };
    let size = request.read_body(enough).await?;
    if size > most && !settings.partial {
        return Err(request.too_large());
    }
    let mut content = BytesMut::with_capacity(size.min(most));
    for piece in request.pieces_read() {
        let left = most - content.len();
        content.extend_from_slice(&piece[..piece.len().min(left)]);
    }
    let partial = (!content.is_empty()).then_some(size > most);
    Ok(CheckBody { content: content.freeze(), partial, as_bytes: settings.as_bytes })
}
