//! What every response's head gets, of a server or of our own.

use http::HeaderMap;
use http::header::{HeaderName, HeaderValue};

use crate::runtime::{HttpManager, ServerHeader};

/// `x-envoy-upstream-service-time`.
pub(super) const SERVICE_TIME: HeaderName = HeaderName::from_static("x-envoy-upstream-service-time");

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
