//! Which host a browser believes to talk to. A web page's owner can point a name of theirs to this address; then the
//! browser takes what is here for theirs, and the name is what tells.

use std::net::IpAddr;

use axum::extract::Request;
use axum::http::header;
use axum::http::uri::Authority;

use crate::ca::ServerName;

/// Whom a request is for, as far as it says so in a way that can be read.
pub fn authority(request: &Request) -> Option<Authority> {
    let named = || request.headers().get(header::HOST)?.to_str().ok()?.parse().ok();
    request.uri().authority().cloned().or_else(named)
}

/// Whether it is for one of this control plane's names, any address, or this machine.
pub fn is_ours(host: &str, names: &[ServerName]) -> bool {
    let is_address = host.trim_matches(['[', ']']).parse::<IpAddr>().is_ok();
    let is_named =
        |name: &ServerName| matches!(name, ServerName::Dns(name) if name.eq_ignore_ascii_case(host));
    is_address || host.eq_ignore_ascii_case("localhost") || names.iter().any(is_named)
}
