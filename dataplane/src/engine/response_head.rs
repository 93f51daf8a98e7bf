//! What every response's head gets, of a server or of our own.

use http::HeaderMap;
use http::header::{HeaderName, HeaderValue};

use super::local::Local;
use crate::runtime::{HttpManager, ServerHeader};

/// `x-envoy-upstream-service-time`.
pub(super) const SERVICE_TIME: HeaderName = HeaderName::from_static("x-envoy-upstream-service-time");

/// Says when the response was made, where its server has not.
pub(super) fn date_header(headers: &mut HeaderMap, worker: &Local) {
    headers.entry(http::header::DATE).or_insert_with(|| worker.date.value());
}

/// The `server` header as the connection manager wants it.
pub(super) fn server_header(headers: &mut HeaderMap, manager: &HttpManager) {
    let ours = || HeaderValue::from_str(&manager.server_name).unwrap_or(HeaderValue::from_static("envoy"));
    let name = http::header::SERVER;
    match manager.server_header {
        ServerHeader::Overwrite => {
            let value =
                if &*manager.server_name == "envoy" { HeaderValue::from_static("envoy") } else { ours() };
            headers.insert(name, value);
        }
        ServerHeader::AppendIfAbsent => {
            headers.entry(name).or_insert_with(ours);
        }
        ServerHeader::PassThrough => {}
    }
}
