//! `x-forwarded-client-cert`: who the caller is, for the application behind.

use http::HeaderMap;
use http::header::{HeaderName, HeaderValue};

use super::connection::{Facts, TlsFacts};
use crate::peer::PeerCertificate;
use crate::runtime::{ForwardClientCert, HttpManager};

const XFCC: HeaderName = HeaderName::from_static("x-forwarded-client-cert");

/// Brings the header in order. Whatever came over a connection without a client certificate is removed, except
/// with `ALWAYS_FORWARD_ONLY`.
pub(super) fn apply(manager: &HttpManager, facts: &Facts, headers: &mut HeaderMap) {
    let mutual = facts.tls.as_ref().and_then(|tls| Some((tls, tls.peer.as_deref()?)));
    match (manager.forward_client_cert, mutual) {
        (ForwardClientCert::AlwaysForwardOnly, _) | (ForwardClientCert::ForwardOnly, Some(_)) => {}
        (ForwardClientCert::Sanitize, _) | (_, None) => {
            headers.remove(&XFCC);
        }
        (ForwardClientCert::SanitizeSet, Some((tls, peer))) => {
            if let Ok(value) = HeaderValue::from_str(&element(manager, tls, peer)) {
                headers.insert(XFCC, value);
            }
        }
        (ForwardClientCert::AppendForward, Some((tls, peer))) => {
            let before: Vec<&str> =
                headers.get_all(&XFCC).iter().filter_map(|value| value.to_str().ok()).collect();
            let mut value = before.join(",");
            if !value.is_empty() {
                value.push(',');
            }
            value.push_str(&element(manager, tls, peer));
            if let Ok(value) = HeaderValue::from_str(&value) {
                headers.insert(XFCC, value);
            }
        }
    }
}

/// `By=…;Hash=…` and what else is asked for, in Envoy's order.
fn element(manager: &HttpManager, tls: &TlsFacts, peer: &PeerCertificate) -> String {
    let details = manager.client_cert_details;
    let mut text = String::with_capacity(256);
    for uri in &tls.own.names.uri_sans {
        push(&mut text, "By=", uri);
    }
    push(&mut text, "Hash=", &peer.fingerprint);
    if details.cert {
        push(&mut text, "Cert=", &format!("\"{}\"", peer.url_encoded_pem()));
    }
    if details.chain {
        push(&mut text, "Chain=", &format!("\"{}\"", peer.url_encoded_chain()));
    }
    if details.subject {
        push(&mut text, "Subject=", &format!("\"{}\"", peer.names.subject.replace('"', "\\\"")));
    }
    if details.uri {
        for uri in &peer.names.uri_sans {
            push(&mut text, "URI=", uri);
        }
    }
    if details.dns {
        for dns in &peer.names.dns_sans {
            push(&mut text, "DNS=", dns);
        }
    }
    text
}

fn push(text: &mut String, key: &str, value: &str) {
    if !text.is_empty() {
        text.push(';');
    }
    text.push_str(key);
    text.push_str(value);
}
