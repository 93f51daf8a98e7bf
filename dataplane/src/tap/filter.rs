//! Which requests a tap wants, as a proxy can tell it. The control plane looks again, and knows more.

use weft_api::tapping::Tap;

use crate::format::{FormatContext, ResponseFlags};
use crate::runtime::TrafficDirection;

/// Statuses by which a request failed or was refused.
const FAILED: [u16; 2] = [401, 403];

/// Whether a tap wants a request that ended so.
pub(crate) fn wants(tap: &Tap, direction: TrafficDirection, at: &FormatContext<'_>) -> bool {
    let side = if is_inbound(direction) { tap.inbound && is_from(tap, at) } else { tap.outbound };
    side && is_to(tap, direction, at)
        && is_answered_so(tap, at)
        && at.request.as_ref().is_none_or(|head| {
            (tap.method.is_empty() || tap.method == head.method) && head.path.starts_with(&*tap.path_prefix)
        })
}

/// Whether a request came from another workload; a listener that does not say is one for those.
pub(crate) fn is_inbound(direction: TrafficDirection) -> bool {
    match direction {
        TrafficDirection::Outbound => false,
        TrafficDirection::Inbound | TrafficDirection::Unspecified => true,
    }
}

fn is_from(tap: &Tap, at: &FormatContext<'_>) -> bool {
    let shown = at.downstream.peer.into_iter().flat_map(|peer| &peer.names.uri_sans);
    tap.source_identity.is_empty() || shown.into_iter().any(|uri| **uri == *tap.source_identity)
}

/// Of a request that met no cluster, the control plane may know where it was to go.
fn is_to(tap: &Tap, direction: TrafficDirection, at: &FormatContext<'_>) -> bool {
    if tap.destination.is_empty() {
        return true;
    }
    let Some(cluster) = at.upstream.cluster else { return true };
    let of_port =
        if is_inbound(direction) { cluster.strip_prefix("inbound/").unwrap_or(cluster) } else { cluster };
    of_port.strip_prefix(&*tap.destination).is_some_and(|port| port.starts_with('/'))
}

fn is_answered_so(tap: &Tap, at: &FormatContext<'_>) -> bool {
    let status = u32::from(at.response_code);
    let fits = tap.most_status == 0 || (tap.least_status..=tap.most_status).contains(&status);
    fits && (!tap.only_failures || has_failed(at))
}

/// Failed or refused. A delay that was planted alone is no failure.
fn has_failed(at: &FormatContext<'_>) -> bool {
    let code = at.response_code;
    let flagged = at.flags != ResponseFlags::default() && at.flags != ResponseFlags::DELAY_INJECTED;
    code == 0 || code >= 500 || FAILED.contains(&code) || flagged || at.grpc_status.unwrap_or(0) != 0
}

#[cfg(test)]
mod tests {
    use http::HeaderMap;
    use rcgen::{CertificateParams, KeyPair, SanType};

    use super::*;
    use crate::peer::PeerCertificate;
    use weft_routing::matcher::RequestHead;

    fn peer(uri: &str) -> PeerCertificate {
        let mut params = CertificateParams::default();
        params.subject_alt_names = vec![SanType::URI(uri.try_into().unwrap())];
        let certificate = params.self_signed(&KeyPair::generate().unwrap()).unwrap();
        PeerCertificate::parse(std::slice::from_ref(certificate.der())).unwrap()
    }

    fn tap() -> Tap {
        Tap { outbound: true, inbound: true, ..Tap::default() }
    }

    #[test]
    fn each_field_of_a_tap_leaves_out_what_it_does_not_name() {
        let (headers, peer) = (HeaderMap::new(), peer("spiffe://m/ns/shop/svc/web"));
        let request = RequestHead {
            method: "GET",
            scheme: "http",
            authority: "cart",
            path: "/items/7",
            headers: &headers,
        };
        let mut at = FormatContext { request: Some(request), response_code: 200, ..FormatContext::default() };
        at.upstream.cluster = Some("shop/cart/http");
        at.downstream.peer = Some(&peer);
        let outbound = |tap: Tap| wants(&tap, TrafficDirection::Outbound, &at);
        assert!(outbound(tap()));
        assert!(outbound(Tap { destination: "shop/cart".into(), source_identity: "x".into(), ..tap() }));
        assert!(!outbound(Tap { destination: "shop/car".into(), ..tap() }));
        assert!(outbound(Tap { method: "GET".into(), path_prefix: "/items".into(), ..tap() }));
        assert!(!outbound(Tap { method: "POST".into(), ..tap() }));
        assert!(!outbound(Tap { path_prefix: "/x".into(), ..tap() }));
        assert!(outbound(Tap { least_status: 200, most_status: 299, ..tap() }));
        assert!(!outbound(Tap { least_status: 500, most_status: 599, ..tap() }));
        assert!(!outbound(Tap { only_failures: true, ..tap() }));
        assert!(!outbound(Tap { outbound: false, ..tap() }));
        let failed = FormatContext { grpc_status: Some(14), ..at };
        assert!(wants(&Tap { only_failures: true, ..tap() }, TrafficDirection::Outbound, &failed));
        at.upstream.cluster = Some("inbound/shop/cart/http");
        let inbound = |tap: Tap| wants(&tap, TrafficDirection::Inbound, &at);
        let source_identity = "spiffe://m/ns/shop/svc/web".to_owned();
        assert!(inbound(Tap { destination: "shop/cart".into(), source_identity, ..tap() }));
        assert!(!inbound(Tap { source_identity: "spiffe://m/ns/shop/svc/other".into(), ..tap() }));
        at.upstream.cluster = None;
        assert!(wants(&Tap { destination: "shop/cart".into(), ..tap() }, TrafficDirection::Outbound, &at));
    }
}
