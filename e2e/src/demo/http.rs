//! The HTTP face: the call tree, an echo, a WebSocket echo, a stream, faults and health.

use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::ws::{Message, WebSocket, WebSocketUpgrade};
use axum::extract::{Path, RawQuery, Request, State};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse, Json, Response};
use axum::routing::{any, get};
use bytes::Bytes;
use futures::StreamExt as _;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use serde::{Deserialize, Serialize};

use super::{DemoCaller, Faults, InjectedFault, Instance, peer_of};

/// What a service answers: itself, who it saw calling, and the trees of those it called.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct CallTree {
    /// Name of the service.
    pub service: String,
    /// Its version.
    #[serde(default)]
    pub version: String,
    /// Name of the workload.
    #[serde(default)]
    pub workload: String,
    /// SPIFFE id of the caller; empty without mutual TLS.
    #[serde(default)]
    pub peer: String,
    /// Protocol that the application saw.
    #[serde(default)]
    pub protocol: String,
    /// What it called.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub calls: Vec<CallTree>,
    /// Why the call failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

impl CallTree {
    /// A call that failed.
    #[must_use]
    pub fn failed(url: &str, error: &str) -> Self {
        Self { service: url.to_owned(), error: Some(error.to_owned()), ..Self::default() }
    }
}

#[derive(Clone, Debug)]
struct Face {
    instance: Instance,
    faults: Faults,
    caller: DemoCaller,
    calls: Vec<String>,
}

/// The routes of one instance, which calls `calls` on each `GET /`.
pub fn router(instance: Instance, faults: Faults, caller: DemoCaller, calls: Vec<String>) -> Router {
    let face = Face { instance, faults, caller, calls };
    Router::new()
        .route("/", any(tree))
        .route("/echo", any(echo))
        .route("/ws", any(web_socket))
        .route("/stream/{count}", get(stream))
        .route("/size/{bytes}", get(size))
        .route("/status/{code}", any(status))
        .fallback(any(tree))
        .layer(from_fn_with_state(face.clone(), strike))
        // A sick instance still answers about itself, and can be healed.
        .route("/fault", any(plant))
        .route("/healthz", get(|| async { "ok\n" }))
        .with_state(face)
}

async fn strike(State(face): State<Face>, request: Request, next: Next) -> Response {
    match face.faults.strike().await {
        Some(status) => (status, format!("planted fault: {status}\n")).into_response(),
        None => next.run(request).await,
    }
}

async fn tree(State(face): State<Face>, request: Request) -> Response {
    let calls = face.calls.iter().map(|url| face.caller.tree(url, request.headers()));
    let calls = futures::future::join_all(calls).await;
    let failed = calls.iter().any(|call| call.error.is_some());
    let tree = CallTree {
        service: face.instance.service.to_string(),
        version: face.instance.version.to_string(),
        workload: face.instance.workload.to_string(),
        peer: peer_of(forwarded(request.headers())),
        protocol: format!("{:?}", request.version()),
        calls,
        error: None,
    };
    let status = if failed { StatusCode::BAD_GATEWAY } else { StatusCode::OK };
    (status, Json(tree)).into_response()
}

fn forwarded(headers: &HeaderMap) -> Option<&str> {
    headers.get("x-forwarded-client-cert").and_then(|value| value.to_str().ok())
}

/// The body comes back as it arrives, with its trailers; the request's head travels back in `x-echo-…` headers.
async fn echo(State(face): State<Face>, request: Request) -> Response {
    let (head, body) = request.into_parts();
    let mut response = Response::new(body);
    let peer = peer_of(forwarded(&head.headers));
    let shown = [
        ("x-echo-method", head.method.to_string()),
        ("x-echo-path", head.uri.to_string()),
        ("x-echo-protocol", format!("{:?}", head.version)),
        ("x-echo-peer", peer),
        ("x-echo-workload", face.instance.workload.to_string()),
    ];
    for (name, value) in shown {
        if let Ok(value) = HeaderValue::from_str(&value) {
            response.headers_mut().insert(HeaderName::from_static(name), value);
        }
    }
    for (name, value) in &head.headers {
        if let Ok(name) = HeaderName::try_from(format!("x-echo-header-{name}")) {
            response.headers_mut().append(name, value.clone());
        }
    }
    response
}

async fn web_socket(State(face): State<Face>, headers: HeaderMap, upgrade: WebSocketUpgrade) -> Response {
    let peer = peer_of(forwarded(&headers));
    let greeting = format!("{} {} {peer}", face.instance.service, face.instance.workload);
    upgrade.on_upgrade(move |socket| chat(socket, greeting))
}

async fn chat(mut socket: WebSocket, greeting: String) {
    if socket.send(Message::Text(greeting.into())).await.is_err() {
        return;
    }
    while let Some(Ok(message)) = socket.recv().await {
        let answer = match message {
            Message::Text(text) => Message::Text(text),
            Message::Binary(bytes) => Message::Binary(bytes),
            Message::Ping(_) | Message::Pong(_) => continue,
            Message::Close(_) => return,
        };
        if socket.send(answer).await.is_err() {
            return;
        }
    }
}

/// One line every 10 ms.
async fn stream(Path(count): Path<u32>) -> Response {
    let lines = futures::stream::iter(0..count).then(|line| async move {
        tokio::time::sleep(Duration::from_millis(10)).await;
        Ok::<_, std::convert::Infallible>(Bytes::from(format!("line {line}\n")))
    });
    Body::from_stream(lines).into_response()
}

const LARGEST: usize = 64 << 20;

/// An answer of exactly that many bytes, 64 MiB at most.
async fn size(Path(bytes): Path<usize>) -> Response {
    if bytes > LARGEST {
        return (StatusCode::BAD_REQUEST, "64 MiB at most\n").into_response();
    }
    Bytes::from(vec![b'w'; bytes]).into_response()
}

async fn status(Path(code): Path<u16>) -> Response {
    let status = StatusCode::from_u16(code).unwrap_or(StatusCode::BAD_REQUEST);
    (status, format!("{status}\n")).into_response()
}

async fn plant(State(face): State<Face>, RawQuery(query): RawQuery) -> Response {
    match InjectedFault::parse(&query.unwrap_or_default()) {
        Ok(fault) => {
            face.faults.plant(fault);
            let shown = fault.map_or("no fault".to_owned(), |fault| fault.to_string());
            format!("{}: {shown}\n", face.instance.workload).into_response()
        }
        Err(reason) => (StatusCode::BAD_REQUEST, format!("{reason}\n")).into_response(),
    }
}
