//! Answers that are more than a JSON document.

use std::convert::Infallible;
use std::marker::PhantomData;

use axum::Json;
use axum::body::Body;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use futures::Stream;
use serde::Serialize;

use super::rights::AuditDetail;

/// A document that holds a secret: no cache may keep it.
#[derive(Debug)]
pub struct NoStore<T> {
    document: T,
    cookie: Option<String>,
    detail: Option<AuditDetail>,
}

impl<T> NoStore<T> {
    pub fn new(document: T) -> Self {
        Self { document, cookie: None, detail: None }
    }

    /// Sets this cookie in the browser.
    pub fn with_cookie(self, cookie: String) -> Self {
        Self { cookie: Some(cookie), ..self }
    }

    /// With what is recorded of the call.
    pub fn about(self, about: String) -> Self {
        Self { detail: Some(AuditDetail { about, revision: None }), ..self }
    }
}

impl<T: Serialize> IntoResponse for NoStore<T> {
    fn into_response(self) -> Response {
        let mut response = ([(header::CACHE_CONTROL, "no-store")], Json(self.document)).into_response();
        if let Some(cookie) = self.cookie {
            set_cookie(&mut response, cookie);
        }
        if let Some(detail) = self.detail {
            response.extensions_mut().insert(detail);
        }
        response
    }
}

fn set_cookie(response: &mut Response, cookie: String) {
    if let Ok(mut value) = HeaderValue::try_from(cookie) {
        value.set_sensitive(true);
        response.headers_mut().insert(header::SET_COOKIE, value);
    }
}

/// Nothing, and the browser's cookie is gone.
#[derive(Debug)]
pub struct SignedOut {
    /// What takes the cookie away.
    pub cookie: String,
}

impl IntoResponse for SignedOut {
    fn into_response(self) -> Response {
        let mut response = StatusCode::NO_CONTENT.into_response();
        set_cookie(&mut response, self.cookie);
        response
    }
}

/// A document, and the tag that it is known by until it changes.
#[derive(Debug)]
pub struct Tagged<T> {
    pub tag: String,
    pub document: T,
}

impl<T: Serialize> IntoResponse for Tagged<T> {
    fn into_response(self) -> Response {
        let mut response = Json(self.document).into_response();
        if let Ok(tag) = HeaderValue::try_from(self.tag) {
            response.headers_mut().insert(header::ETAG, tag);
        }
        response
    }
}

/// Server-sent events, whose data are documents of these types (a tuple of them).
#[derive(Debug)]
pub struct EventStream<T>(Response, PhantomData<fn() -> T>);

impl<T> EventStream<T> {
    pub fn new(
        events: impl Stream<Item = Result<Event, Infallible>> + Send + 'static,
        keep_alive: KeepAlive,
    ) -> Self {
        Self(Sse::new(events).keep_alive(keep_alive).into_response(), PhantomData)
    }
}

impl<T> IntoResponse for EventStream<T> {
    fn into_response(self) -> Response {
        self.0
    }
}

/// Bytes that are no text.
#[derive(Debug)]
pub struct Octets(pub Body);

impl IntoResponse for Octets {
    fn into_response(self) -> Response {
        ([(header::CONTENT_TYPE, "application/octet-stream")], self.0).into_response()
    }
}
