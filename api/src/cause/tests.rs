use super::*;

fn ending<'a>(hop: Hop, flags: &'a [String], details: &'a str) -> Ending<'a> {
    Ending {
        hop,
        workload: "shop/front-1",
        flags,
        details,
        upstream: Some("127.0.0.1:8080"),
        destination: Some("shop/front port http"),
        authority: Some("front"),
        ..Ending::default()
    }
}

#[test]
fn an_application_that_is_down_is_named_with_its_address() {
    let flags = ["UF".to_owned(), "URX".to_owned()];
    let failure = "delayed connect error: Connection refused";
    let ending = Ending { upstream_failure: failure, ..ending(Hop::Inbound, &flags, "") };
    assert_eq!(
        explain(&ending).reason,
        "shop/front-1: the application does not answer on 127.0.0.1:8080 (connection refused)"
    );
}

#[test]
fn a_wrong_identity_is_told_with_the_expected_and_the_found_one() {
    let flags = ["UF".to_owned()];
    let expected = Some("spiffe://m/ns/shop/svc/a");
    for failure in [
        r#"TLS_error: certificate names ["spiffe://m/ns/shop/svc/b"], none of which is expected here"#,
        "TLS_error:|268435581:…:CERTIFICATE_VERIFY_FAILED: SAN matcher, certificate SANs are [spiffe://m/ns/shop/svc/b]",
    ] {
        let ending = Ending { upstream_failure: failure, expected, ..ending(Hop::Outbound, &flags, "") };
        let reason = explain(&ending).reason;
        let words = "expected spiffe://m/ns/shop/svc/a, got spiffe://m/ns/shop/svc/b";
        assert!(reason.contains(words), "{reason}");
    }
}

#[test]
fn a_refusal_names_its_rule_and_a_miss_of_all_says_what_would_allow() {
    let details = "rbac_access_denied_matched_policy[shop/no-admin/paths]";
    let denied = explain(&ending(Hop::Inbound, &[], details));
    assert_eq!(denied.policy.as_deref(), Some("shop/no-admin/paths"));
    assert_eq!(denied.remedy.as_deref(), Some("weft get authorizationpolicy no-admin -n shop"));
    let route = "allowed only by AuthorizationPolicy shop/readers";
    let missed = Ending { route, ..ending(Hop::Inbound, &[], "rbac_access_denied_matched_policy[none]") };
    let missed = explain(&missed);
    assert!(missed.policy.is_none() && missed.reason.ends_with(route), "{missed:?}");
}

#[test]
fn a_rule_that_leads_nowhere_is_named_and_a_sentence_of_a_route_stays() {
    let nowhere = |route: &'static str| {
        let ending = Ending { status: Some(500), route, ..ending(Hop::Outbound, &[], "direct_response") };
        explain(&ending).reason
    };
    assert_eq!(
        nowhere("shop/split/canary"),
        "shop/front-1: rule shop/split/canary has no backend that exists"
    );
    assert_eq!(nowhere("no service has this name"), "shop/front-1: no service has this name");
}

#[test]
fn what_the_control_plane_knows_beside_is_told() {
    let flags = ["UH".to_owned()];
    let ejecting = Ending { ejecting: Some("TrafficPolicy shop/eject"), ..ending(Hop::Outbound, &flags, "") };
    let reason = explain(&ejecting).reason;
    assert!(
        reason.ends_with(
            "outlier detection of TrafficPolicy shop/eject leaves those that fail alone for a while"
        )
    );
    let flags = ["UF".to_owned()];
    let late = Ending { clock_offset: Some(-7_200_000), ..ending(Hop::Outbound, &flags, "") };
    let late = |failure: &'static str| explain(&Ending { upstream_failure: failure, ..late }).reason;
    let words = "the clock of shop/front-1 is 2h behind the control plane's";
    assert!(late("TLS_error: certificate is not yet valid").ends_with(words));
    assert!(
        !late("delayed connect error: Connection refused").contains("clock"),
        "time has nothing to do with it"
    );
}

#[test]
fn an_identity_that_the_server_refused_is_told_where_it_is_known() {
    let flags = ["UC".to_owned()];
    let failure = "TLS_error: the peer refused with the alert CertificateExpired";
    let refused = Ending { upstream_failure: failure, ..ending(Hop::Outbound, &flags, "") };
    let reason = explain(&refused).reason;
    assert!(reason.ends_with("(the other side says that our certificate has expired)"), "{reason}");
    assert!(!explain(&ending(Hop::Outbound, &flags, "")).reason.contains('('));
}

#[test]
fn a_failed_handshake_is_told_before_what_came_of_it() {
    let flags = ["UF".to_owned()];
    let failure =
        "TLS_error:|268435646:SSL routines:OPENSSL_internal:SSLV3_ALERT_CERTIFICATE_EXPIRED:TLS_error_end";
    let ending =
        Ending { downstream_failure: failure, peer: Some("10.0.0.9"), ..ending(Hop::Inbound, &flags, "") };
    let reason = explain(&ending).reason;
    assert_eq!(
        reason,
        "shop/front-1: no connection from 10.0.0.9: the other side says that our certificate has expired"
    );
}

#[test]
fn every_flag_of_the_table_gives_a_whole_sentence_at_both_hops() {
    for cause in &CAUSES {
        for hop in [Hop::Inbound, Hop::Outbound] {
            let flags = [cause.flag.to_owned()];
            let told = explain(&ending(hop, &flags, cause.details));
            assert!(told.reason.starts_with("shop/front-1: "), "{cause:?}: {told:?}");
            assert!(!told.reason.contains(['{', '}']), "{cause:?}: {told:?}");
            assert!(!told.remedy.is_some_and(|remedy| remedy.contains(['{', '}'])), "{cause:?}");
        }
    }
}

#[test]
fn what_is_no_blank_stays() {
    assert_eq!(fill("a {b} {workload}{", |_| "w".to_owned()), "a {b} w{");
}
