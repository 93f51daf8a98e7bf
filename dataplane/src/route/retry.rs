//! When a request is tried again, and how long after.

use std::time::Duration;

use http::{HeaderMap, StatusCode};
use weft_routing::matcher::{HeaderMatch, RequestHead, UndecidedAs};

/// `retry_on`: what is tried again.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RetryOn(u32);

macro_rules! conditions {
    ($($(#[$doc:meta])* $name:ident = $bit:literal, $token:literal;)*) => {
        impl RetryOn {
            $($(#[$doc])* pub const $name: Self = Self(1 << $bit);)*

            fn token(token: &str) -> Option<Self> {
                match token {
                    $($token => Some(Self::$name),)*
                    _ => None,
                }
            }
        }
    };
}

conditions! {
    /// `5xx`, with everything that keeps an answer from coming.
    SERVER_ERROR = 0, "5xx";
    /// `gateway-error`: 502, 503, 504.
    GATEWAY_ERROR = 1, "gateway-error";
    /// `reset`: no answer at all.
    RESET = 2, "reset";
    /// `reset-before-request`: the request was not sent yet.
    RESET_BEFORE_REQUEST = 3, "reset-before-request";
    /// `connect-failure`.
    CONNECT_FAILURE = 4, "connect-failure";
    /// `refused-stream`.
    REFUSED_STREAM = 5, "refused-stream";
    /// `retriable-4xx`: 409.
    RETRIABLE_4XX = 6, "retriable-4xx";
    /// `retriable-status-codes`.
    STATUS_CODES = 7, "retriable-status-codes";
    /// `retriable-headers`.
    HEADERS = 8, "retriable-headers";
    /// `envoy-ratelimited`.
    RATE_LIMITED = 9, "envoy-ratelimited";
    /// gRPC `cancelled`.
    GRPC_CANCELLED = 10, "cancelled";
    /// gRPC `deadline-exceeded`.
    GRPC_DEADLINE_EXCEEDED = 11, "deadline-exceeded";
    /// gRPC `internal`.
    GRPC_INTERNAL = 12, "internal";
    /// gRPC `resource-exhausted`.
    GRPC_RESOURCE_EXHAUSTED = 13, "resource-exhausted";
    /// gRPC `unavailable`.
    GRPC_UNAVAILABLE = 14, "unavailable";
    /// `http3-post-connect-failure`: never comes here, there is no HTTP/3.
    HTTP3 = 15, "http3-post-connect-failure";
}

impl RetryOn {
    /// Whether any of `conditions` is in the set.
    pub fn any(self, conditions: Self) -> bool {
        self.0 & conditions.0 != 0
    }

    #[must_use]
    pub const fn with(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// Parses Envoy's list, as in `x-envoy-retry-on`; unknown words are answered too.
    pub fn parse(list: &str) -> (Self, Vec<&str>) {
        let (mut set, mut unknown) = (Self::default(), Vec::new());
        for token in list.split(',').map(str::trim).filter(|token| !token.is_empty()) {
            match Self::token(token) {
                Some(condition) => set = set.with(condition),
                None => unknown.push(token),
            }
        }
        (set, unknown)
    }
}

/// Why no answer came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failure {
    Connect,
    /// The stream was refused by the peer, who promises that it did nothing.
    RefusedStream,
    /// The connection broke before the request was sent.
    BeforeRequest,
    /// The connection or stream broke after that.
    Reset,
    /// The try took longer than `per_try_timeout`.
    PerTryTimeout,
}

/// `RetryPolicy`, meant.
#[derive(Clone, Debug)]
pub struct RetryPolicy {
    /// What is tried again.
    pub on: RetryOn,
    /// How often at most; 1 by default.
    pub num_retries: u32,
    /// Limit of one try.
    pub per_try_timeout: Option<Duration>,
    /// Limit of silence in one try.
    pub per_try_idle_timeout: Option<Duration>,
    /// The longest wait before the first retry, 25 ms; it doubles with each.
    pub base_interval: Duration,
    /// The longest wait, ten times the base.
    pub max_interval: Duration,
    /// Whether a retry avoids endpoints that were tried (`previous_hosts`).
    pub avoid_previous_hosts: bool,
    /// How many picks are made to avoid them, 1 by default.
    pub host_attempts: u32,
    /// `retriable_status_codes`.
    pub(crate) status_codes: Vec<u16>,
    /// `retriable_headers`, of the response.
    pub(crate) headers: Vec<HeaderMatch>,
    /// `retriable_request_headers`.
    pub(crate) request_headers: Vec<HeaderMatch>,
}

impl Default for RetryPolicy {
    fn default() -> Self {
        Self {
            on: RetryOn::default(),
            num_retries: 1,
            per_try_timeout: None,
            per_try_idle_timeout: None,
            base_interval: Duration::from_millis(25),
            max_interval: Duration::from_millis(250),
            avoid_previous_hosts: false,
            host_attempts: 1,
            status_codes: Vec::new(),
            headers: Vec::new(),
            request_headers: Vec::new(),
        }
    }
}

impl RetryPolicy {
    /// Whether requests of this kind are tried again at all (`retriable_request_headers`).
    pub fn applies(&self, head: &RequestHead<'_>) -> bool {
        self.num_retries > 0
            && (self.request_headers.is_empty()
                || self.request_headers.iter().any(|header| header.matches(head, UndecidedAs::Miss)))
    }

    /// Whether a request is tried again after it got no answer.
    pub fn retries_failure(&self, failure: Failure) -> bool {
        let always = RetryOn::SERVER_ERROR.with(RetryOn::GATEWAY_ERROR).with(RetryOn::RESET);
        self.on.any(match failure {
            Failure::Connect => always.with(RetryOn::CONNECT_FAILURE).with(RetryOn::RESET_BEFORE_REQUEST),
            Failure::RefusedStream => always.with(RetryOn::REFUSED_STREAM),
            Failure::BeforeRequest => always.with(RetryOn::RESET_BEFORE_REQUEST),
            Failure::Reset | Failure::PerTryTimeout => always,
        })
    }

    /// Whether a request is tried again after this answer. For gRPC answers that are only trailers, `headers` has
    /// the `grpc-status`.
    pub fn retries_response(&self, status: StatusCode, headers: &HeaderMap) -> bool {
        if headers.contains_key("x-envoy-ratelimited") {
            return self.on.any(RetryOn::RATE_LIMITED);
        }
        let code = status.as_u16();
        let overloaded = headers.contains_key("x-envoy-overloaded");
        (code >= 500 && self.on.any(RetryOn::SERVER_ERROR) && !overloaded)
            || (matches!(code, 502..=504) && self.on.any(RetryOn::GATEWAY_ERROR) && !overloaded)
            || (code == 409 && self.on.any(RetryOn::RETRIABLE_4XX))
            || (self.on.any(RetryOn::STATUS_CODES) && self.status_codes.contains(&code))
            || (self.on.any(RetryOn::HEADERS)
                && self.headers.iter().any(|h| h.matches_headers(headers, UndecidedAs::Miss)))
            || grpc_condition(headers).is_some_and(|condition| self.on.any(condition))
    }

    /// How long to wait before retry number `retry` (the first is 1): a random part of an interval that doubles.
    pub fn back_off(&self, retry: u32, random: u64) -> Duration {
        let doubled = self.base_interval.saturating_mul(1 << retry.saturating_sub(1).min(20));
        let interval = doubled.min(self.max_interval).as_micros() as u64;
        Duration::from_micros(if interval == 0 { 0 } else { random % interval })
    }
}

fn grpc_condition(headers: &HeaderMap) -> Option<RetryOn> {
    Some(match headers.get("grpc-status")?.as_bytes() {
        b"1" => RetryOn::GRPC_CANCELLED,
        b"4" => RetryOn::GRPC_DEADLINE_EXCEEDED,
        b"8" => RetryOn::GRPC_RESOURCE_EXHAUSTED,
        b"13" => RetryOn::GRPC_INTERNAL,
        b"14" => RetryOn::GRPC_UNAVAILABLE,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn policy(on: &str) -> RetryPolicy {
        RetryPolicy { on: RetryOn::parse(on).0, ..RetryPolicy::default() }
    }

    #[test]
    fn each_condition_retries_what_its_name_says() {
        let none = HeaderMap::new();
        assert!(policy("5xx").retries_response(StatusCode::INTERNAL_SERVER_ERROR, &none));
        assert!(!policy("gateway-error").retries_response(StatusCode::INTERNAL_SERVER_ERROR, &none));
        assert!(policy("gateway-error").retries_response(StatusCode::BAD_GATEWAY, &none));
        assert!(policy("retriable-4xx").retries_response(StatusCode::CONFLICT, &none));
        assert!(policy("connect-failure").retries_failure(Failure::Connect));
        assert!(!policy("connect-failure").retries_failure(Failure::Reset));
        assert!(policy("5xx").retries_failure(Failure::RefusedStream));
        assert!(policy("reset-before-request").retries_failure(Failure::BeforeRequest));
        assert!(!policy("reset-before-request").retries_failure(Failure::Reset));
    }

    #[test]
    fn a_grpc_status_is_retried_when_it_is_listed() {
        let mut headers = HeaderMap::new();
        headers.insert("grpc-status", "14".parse().unwrap());
        assert!(policy("unavailable,cancelled").retries_response(StatusCode::OK, &headers));
        assert!(!policy("internal").retries_response(StatusCode::OK, &headers));
    }

    #[test]
    fn a_rate_limited_answer_is_retried_only_on_request() {
        let mut headers = HeaderMap::new();
        headers.insert("x-envoy-ratelimited", "true".parse().unwrap());
        assert!(!policy("5xx").retries_response(StatusCode::SERVICE_UNAVAILABLE, &headers));
        assert!(policy("envoy-ratelimited").retries_response(StatusCode::TOO_MANY_REQUESTS, &headers));
    }

    #[test]
    fn waits_double_and_stop_at_the_maximum() {
        let policy = RetryPolicy::default();
        let longest = |retry| (0..3000).map(|i| policy.back_off(retry, i * 97)).max().unwrap().as_millis();
        assert_eq!((longest(1), longest(2), longest(9)), (24, 49, 249));
    }
}
