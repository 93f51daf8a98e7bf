//! The admin endpoints, with Envoy's names and shapes. What changes something wants POST; private keys are redacted.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderValue, Method, Request, Response, StatusCode, header};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::control::ControlHandle;

mod certs;
mod clusters;
mod endpoints;
mod query;
mod response;
mod stats;
#[cfg(test)]
mod tests;

use query::QueryParameters;
use response::AdminResponse;

/// Reading a request's head takes at most this long.
const HEAD_LIMIT: Duration = Duration::from_secs(10);

/// Binds the admin listener.
///
/// # Errors
/// When the address is taken.
pub async fn bind(address: SocketAddr) -> std::io::Result<TcpListener> {
    TcpListener::bind(address).await
}

/// Serves until `stop` is cancelled.
pub async fn serve(listener: TcpListener, handle: ControlHandle, stop: CancellationToken) {
    while let Some(accepted) = stop.run_until_cancelled(listener.accept()).await {
        let stream = match accepted {
            Ok((stream, _)) => stream,
            Err(error) => {
                tracing::warn!(event = "connection_not_accepted", %error, "the admin listener cannot accept");
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        let handle = handle.clone();
        let stop = stop.clone();
        tokio::spawn(async move {
            let service = hyper::service::service_fn(|request| answer(request, handle.clone()));
            let connection = hyper::server::conn::http1::Builder::new()
                .timer(TokioTimer::new())
                .header_read_timeout(HEAD_LIMIT)
                .serve_connection(TokioIo::new(stream), service);
            tokio::pin!(connection);
            tokio::select! {
                done = connection.as_mut() => {
                    if let Err(error) = done {
                        tracing::debug!(%error, "admin connection");
                    }
                }
                () = stop.cancelled() => {
                    connection.as_mut().graceful_shutdown();
                    // An answer under way gets a moment.
                    let _ = tokio::time::timeout(Duration::from_secs(1), connection).await;
                }
            }
        });
    }
}

async fn answer(
    request: Request<Incoming>,
    handle: ControlHandle,
) -> Result<Response<Full<Bytes>>, Infallible> {
    let query = QueryParameters::parse(request.uri().query().unwrap_or_default());
    let page = route(request.method(), request.uri().path(), &query, &handle).await;
    let mut response = Response::new(Full::new(Bytes::from(page.body)));
    *response.status_mut() = page.status;
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(page.content_type));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache, max-age=0"));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    Ok(response)
}

pub(crate) async fn route(
    method: &Method,
    path: &str,
    query: &QueryParameters,
    handle: &ControlHandle,
) -> AdminResponse {
    let changes = ["/logging", "/drain_listeners", "/quitquitquit", "/healthcheck/fail", "/healthcheck/ok"];
    if changes.contains(&path) && method != Method::POST {
        return AdminResponse::text(format!("{path} changes something: use POST\n"))
            .with_status(StatusCode::METHOD_NOT_ALLOWED);
    }
    match path {
        "/" | "/help" => endpoints::help(),
        "/ready" => endpoints::ready(handle),
        "/server_info" => endpoints::server_info(handle).await,
        "/config_dump" => endpoints::config_dump(query, handle).await,
        "/listeners" => endpoints::listeners(query, handle).await,
        "/clusters" => clusters::render(query, handle).await,
        "/certs" => certs::render(handle).await,
        "/stats" => stats::render(query, handle).await,
        "/stats/prometheus" => stats::prometheus(query, handle).await,
        "/logging" => endpoints::logging(query, handle),
        "/drain_listeners" => endpoints::drain(query, handle).await,
        "/healthcheck/fail" => endpoints::health(handle, false),
        "/healthcheck/ok" => endpoints::health(handle, true),
        "/quitquitquit" => endpoints::quit(handle),
        _ => {
            let text = format!("{path} is not an admin endpoint; / lists them\n");
            AdminResponse::text(text).with_status(StatusCode::NOT_FOUND)
        }
    }
}
