//! Takes a token for a request, or refuses it.

use std::sync::Arc;
use std::time::Duration;

use http::header::{HeaderName, HeaderValue, RETRY_AFTER};
use http::{HeaderMap, StatusCode};

use super::super::Override;
use super::super::request::{Flow, Request, Response};
use super::super::state::FilterState;
use super::bucket::TokenResult;
use super::{Announcement, LocalRateLimit};
use crate::engine::clock::now;
use crate::engine::reply::Reply;
use crate::engine::stream_info::context;
use crate::format::ResponseFlags;

const LIMIT: HeaderName = HeaderName::from_static("x-ratelimit-limit");
const REMAINING: HeaderName = HeaderName::from_static("x-ratelimit-remaining");
const RESET: HeaderName = HeaderName::from_static("x-ratelimit-reset");

/// Counts a request by the route's limit, else by the filter's.
pub(in super::super) fn on_request(
    filter: &Arc<LocalRateLimit>,
    request: &mut Request<'_>,
    special: Option<&Override>,
) -> Flow {
    let limit = special.and_then(Override::local_rate_limit).unwrap_or(filter);
    let worker = request.stream.connection.worker.clone();
    if !limit.enabled.holds(worker.random()) {
        return Flow::Continue;
    }
    limit.count(&worker.shard, |stats| stats.enabled);
    if limit.announces == Announcement::Draft03 {
        request.remember(FilterState::RateLimit(limit.clone()));
    }
    let next = match limit.bucket.as_ref().map_or(TokenResult::Token, |bucket| bucket.take(now())) {
        TokenResult::Token => {
            limit.count(&worker.shard, |stats| stats.ok);
            return Flow::Continue;
        }
        TokenResult::Nothing(next) => next,
    };
    limit.count(&worker.shard, |stats| stats.rate_limited);
    if !limit.enforced.holds(worker.random()) {
        let values = limit.request_headers.evaluate(&context(request.stream, Some(request.head()), None));
        limit.request_headers.apply(&mut request.parts.headers, values);
        return Flow::Continue;
    }
    limit.count(&worker.shard, |stats| stats.enforced);
    let values = limit.response_headers.evaluate(&context(request.stream, Some(request.head()), None));
    let mut headers = HeaderMap::new();
    limit.response_headers.apply(&mut headers, values);
    if limit.retry_after && limit.status == StatusCode::TOO_MANY_REQUESTS {
        headers.entry(RETRY_AFTER).or_insert(HeaderValue::from(seconds(next).max(1)));
    }
    let mut reply = Reply::new(limit.status, "local_rate_limited")
        .body("local_rate_limited")
        .grpc_status(limit.grpc_status)
        .flag(ResponseFlags::RATE_LIMITED);
    reply.headers.extend(headers.iter().map(|(name, value)| (name.clone(), value.clone())));
    Flow::Reply(Box::new(reply))
}

/// Says how many requests are left, where that is asked for.
pub(in super::super) fn on_response(response: &mut Response<'_>) {
    let limit = response
        .remembered()
        .find_map(|state| if let FilterState::RateLimit(limit) = state { Some(limit.clone()) } else { None });
    if let Some(limit) = limit {
        limit.announce(response.headers);
    }
}

impl LocalRateLimit {
    fn announce(&self, headers: &mut HeaderMap) {
        let Some(bucket) = &self.bucket else { return };
        let at = now();
        headers.append(LIMIT, HeaderValue::from(bucket.most()));
        headers.append(REMAINING, HeaderValue::from(bucket.left(at)));
        headers.append(RESET, HeaderValue::from(seconds(bucket.next(at))));
    }
}

/// Whole seconds, rounded up.
fn seconds(span: Duration) -> u64 {
    span.as_secs() + u64::from(span.subsec_nanos() > 0)
}
