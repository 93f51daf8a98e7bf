//! `x-forwarded-for`, `x-forwarded-proto` and `x-request-id`, as Envoy's connection manager treats them.

use std::net::IpAddr;

use bytes::Bytes;
use http::HeaderMap;
use http::header::{HeaderName, HeaderValue};

use super::http_connection::HttpConnection;
use super::local::Local;
use crate::runtime::HttpManager;

const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
pub(super) const FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
pub(super) const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

const EXTERNAL_ADDRESS: HeaderName = HeaderName::from_static("x-envoy-external-address");
const ENVOY: &str = "x-envoy-";

/// Headers that only a caller whom `internal_address_config` calls internal may set. Envoy calls nobody so unless it
/// is told to, and this proxy takes no such list.
const INTERNAL: [HeaderName; 12] = [
    HeaderName::from_static("x-envoy-internal"),
    HeaderName::from_static("x-envoy-upstream-rq-timeout-ms"),
    HeaderName::from_static("x-envoy-upstream-rq-per-try-timeout-ms"),
    HeaderName::from_static("x-envoy-upstream-alt-stat-name"),
    HeaderName::from_static("x-envoy-retry-on"),
    HeaderName::from_static("x-envoy-retry-grpc-on"),
    HeaderName::from_static("x-envoy-retriable-status-codes"),
    HeaderName::from_static("x-envoy-retriable-header-names"),
    HeaderName::from_static("x-envoy-max-retries"),
    HeaderName::from_static("x-envoy-expected-rq-timeout-ms"),
    HeaderName::from_static("x-envoy-ip-tags"),
    HeaderName::from_static("x-envoy-force-trace"),
];

/// What a caller at the edge may not set either.
const EDGE: [HeaderName; 6] = [
    HeaderName::from_static("x-envoy-decorator-operation"),
    HeaderName::from_static("x-envoy-downstream-service-cluster"),
    HeaderName::from_static("x-envoy-downstream-service-node"),
    HeaderName::from_static("x-envoy-original-path"),
    HeaderName::from_static("x-envoy-original-host"),
    EXTERNAL_ADDRESS,
];

/// Sets the headers; answers the caller's address after trusted hops.
pub(super) fn apply(
    manager: &HttpManager,
    connection: &HttpConnection,
    headers: &mut HeaderMap,
    scheme: &'static str,
) -> IpAddr {
    let direct = connection.downstream.facts.peer.ip();
    if headers.keys().any(|name| name.as_str().starts_with(ENVOY)) {
        INTERNAL.iter().for_each(|name| drop(headers.remove(name)));
    }
    let remote = if manager.forwarding.use_remote_address {
        edge(manager, headers, direct, scheme)
    } else {
        trusted(headers, manager.forwarding.trusted_hops + 1).unwrap_or(direct)
    };
    if !headers.contains_key(&FORWARDED_PROTO) {
        headers.insert(FORWARDED_PROTO, HeaderValue::from_static(scheme));
    }
    remote
}

/// Sees to it that the request has an id, where it is to have one. What comes after may refuse it by that id.
pub(super) fn identify(manager: &HttpManager, worker: &Local, headers: &mut HeaderMap) {
    let ids = manager.request_ids;
    if ids.generate {
        let replace = manager.forwarding.use_remote_address && !ids.preserve_external;
        if replace || !headers.contains_key(&REQUEST_ID) {
            headers.insert(REQUEST_ID, request_id(worker));
        }
    }
}

/// An edge proxy believes its own eyes: it appends the address, and removes what only insiders may say.
fn edge(manager: &HttpManager, headers: &mut HeaderMap, direct: IpAddr, scheme: &'static str) -> IpAddr {
    let hops = manager.forwarding.trusted_hops;
    let remote = if hops > 0 { trusted(headers, hops).unwrap_or(direct) } else { direct };
    if headers.keys().any(|name| name.as_str().starts_with(ENVOY)) {
        EDGE.iter().for_each(|name| drop(headers.remove(name)));
    }
    if let Ok(value) = HeaderValue::from_str(&remote.to_canonical().to_string()) {
        headers.insert(EXTERNAL_ADDRESS, value);
    }
    if !manager.forwarding.skip_append {
        let address = direct.to_canonical().to_string();
        // Several fields are one list: whoever looked at one of them only could be told anything.
        let mut list: Vec<&str> =
            headers.get_all(&FORWARDED_FOR).iter().filter_map(|v| v.to_str().ok()).collect();
        list.retain(|part| !part.is_empty());
        list.push(&address);
        let value = list.join(",");
        if let Ok(value) = HeaderValue::from_str(&value) {
            headers.insert(FORWARDED_FOR, value);
        }
    }
    if hops == 0 {
        headers.insert(FORWARDED_PROTO, HeaderValue::from_static(scheme));
    }
    remote
}

/// The address that is `nth` from the right in `x-forwarded-for`, whose fields are one list.
fn trusted(headers: &HeaderMap, nth: u32) -> Option<IpAddr> {
    let fields = headers.get_all(&FORWARDED_FOR).iter().rev();
    let mut list = fields.flat_map(|field| field.to_str().unwrap_or_default().rsplit(','));
    list.nth(nth.saturating_sub(1) as usize)?.trim().parse().ok()
}

/// A random UUID, version 4.
fn request_id(worker: &Local) -> HeaderValue {
    const HEX: &[u8; 16] = b"0123456789abcdef";
    let random = (u128::from(worker.random()) << 64) | u128::from(worker.random());
    let bits = (random & !(0xf << 76) & !(0x3 << 62)) | (0x4 << 76) | (0x2 << 62);
    let bytes = bits.to_be_bytes();
    let mut text = [b'-'; 36];
    let mut at = 0;
    for (i, byte) in bytes.iter().enumerate() {
        if matches!(i, 4 | 6 | 8 | 10) {
            at += 1;
        }
        text[at] = HEX[usize::from(byte >> 4)];
        text[at + 1] = HEX[usize::from(byte & 0xf)];
        at += 2;
    }
    HeaderValue::from_maybe_shared(Bytes::copy_from_slice(&text))
        .expect("hexadecimal digits are a header value")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn trusts_as_many_hops_as_it_is_told() {
        let mut headers = HeaderMap::new();
        headers.insert("x-forwarded-for", "1.1.1.1, 2.2.2.2,3.3.3.3".parse().unwrap());
        assert_eq!(trusted(&headers, 1), Some([3, 3, 3, 3].into()));
        assert_eq!(trusted(&headers, 3), Some([1, 1, 1, 1].into()));
        assert_eq!(trusted(&headers, 4), None);
        headers.append("x-forwarded-for", "4.4.4.4".parse().unwrap());
        assert_eq!(trusted(&headers, 1), Some([4, 4, 4, 4].into()));
        assert_eq!(trusted(&headers, 2), Some([3, 3, 3, 3].into()), "several fields are one list");
    }
}
