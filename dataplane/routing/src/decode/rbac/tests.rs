use std::collections::HashMap;

use envoy_types::pb::envoy::config::core::v3::CidrRange;
use envoy_types::pb::envoy::config::rbac::v3 as wire;
use envoy_types::pb::envoy::config::route::v3::{HeaderMatcher, header_matcher::HeaderMatchSpecifier};
use envoy_types::pb::envoy::extensions::filters::http::rbac::v3 as filter;
use envoy_types::pb::envoy::extensions::filters::network::rbac::v3 as network;
use envoy_types::pb::envoy::r#type::matcher::v3::{
    PathMatcher, RegexMatcher, StringMatcher, path_matcher, string_matcher::MatchPattern,
};
use envoy_types::pb::google::protobuf::UInt32Value;
use http::{HeaderMap, HeaderValue};
use wire::permission::Rule as P;
use wire::principal::Identifier as I;

use super::*;
use crate::matcher::RequestHead;
use crate::metadata::KnownMetadata;
use crate::rbac::{Attributes, PeerNames};

fn text(pattern: MatchPattern) -> StringMatcher {
    StringMatcher { ignore_case: false, match_pattern: Some(pattern) }
}

fn path(pattern: MatchPattern) -> P {
    P::UrlPath(PathMatcher { rule: Some(path_matcher::Rule::Path(text(pattern))) })
}

fn prefix(value: &str) -> MatchPattern {
    MatchPattern::Prefix(value.into())
}

fn header(name: &str, pattern: MatchPattern) -> HeaderMatcher {
    HeaderMatcher {
        name: name.into(),
        header_match_specifier: Some(HeaderMatchSpecifier::StringMatch(text(pattern))),
        ..Default::default()
    }
}

fn permission(rule: P) -> wire::Permission {
    wire::Permission { rule: Some(rule) }
}

fn principal(identifier: I) -> wire::Principal {
    wire::Principal { identifier: Some(identifier) }
}

fn spiffe(pattern: MatchPattern) -> I {
    I::Authenticated(wire::principal::Authenticated { principal_name: Some(text(pattern)) })
}

fn policy(permissions: Vec<P>, principals: Vec<I>) -> wire::Policy {
    wire::Policy {
        permissions: permissions.into_iter().map(permission).collect(),
        principals: principals.into_iter().map(principal).collect(),
        ..Default::default()
    }
}

fn rbac(action: wire::rbac::Action, policies: Vec<(&str, wire::Policy)>) -> HttpRbac {
    let policies: HashMap<_, _> =
        policies.into_iter().map(|(name, policy)| (name.to_owned(), policy)).collect();
    let rules = wire::Rbac { action: action as i32, policies, ..Default::default() };
    http(&filter::Rbac { rules: Some(rules), ..Default::default() }, &mut Default::default()).unwrap()
}

fn deny(policies: Vec<(&str, wire::Policy)>) -> HttpRbac {
    rbac(wire::rbac::Action::Deny, policies)
}

fn allow(policies: Vec<(&str, wire::Policy)>) -> HttpRbac {
    rbac(wire::rbac::Action::Allow, policies)
}

fn peer(uri: &str) -> PeerNames {
    PeerNames {
        uri_sans: vec![uri.into()],
        dns_sans: vec!["web-1.web.shop.mesh".into()],
        subject: String::new(),
    }
}

struct Request {
    path: &'static str,
    headers: HeaderMap,
    peer: Option<PeerNames>,
}

impl Request {
    fn to(path: &'static str) -> Self {
        Self { path, headers: HeaderMap::new(), peer: None }
    }

    fn header(mut self, name: &'static str, value: &[u8]) -> Self {
        self.headers.append(name, HeaderValue::from_bytes(value).unwrap());
        self
    }

    fn by(mut self, uri: &str) -> Self {
        self.peer = Some(peer(uri));
        self
    }

    fn attributes(&self) -> Attributes<'_> {
        Attributes {
            upstream: &[],
            metadata: KnownMetadata::All(None),
            peer: self.peer.as_ref(),
            server_name: Some("http.web.shop.mesh"),
            local: "10.0.0.1:8080".parse().unwrap(),
            direct_remote: "10.0.0.2".parse().unwrap(),
            remote: "192.168.7.7".parse().unwrap(),
            request: Some(RequestHead {
                method: "GET",
                scheme: "https",
                authority: "web",
                path: self.path,
                headers: &self.headers,
            }),
        }
    }

    fn passes(&self, rbac: &HttpRbac) -> bool {
        rbac.evaluate(&self.attributes()).unwrap().allowed
    }

    fn details(&self, rbac: &HttpRbac) -> String {
        rbac.evaluate(&self.attributes()).unwrap().details().to_string()
    }
}

const ANYONE: I = I::Any(true);

#[test]
fn a_deny_refuses_what_matches_and_names_the_policy() {
    let rbac = deny(vec![("shop/no-admin/0", policy(vec![path(prefix("/admin"))], vec![ANYONE]))]);
    assert!(Request::to("/items?x=/admin").passes(&rbac));
    assert!(!Request::to("/admin/users?q").passes(&rbac));
    assert_eq!(Request::to("/admin").details(&rbac), "rbac_access_denied_matched_policy[shop/no-admin/0]");
}

#[test]
fn an_allow_refuses_what_matches_nothing_and_says_none() {
    let rbac =
        allow(vec![("reads", policy(vec![P::Header(header(":method", prefix("GET")))], vec![ANYONE]))]);
    assert!(Request::to("/").passes(&rbac));
    let nothing = allow(vec![]);
    assert!(!Request::to("/").passes(&nothing));
    assert_eq!(Request::to("/").details(&nothing), "rbac_access_denied_matched_policy[none]");
}

#[test]
fn white_space_in_a_policy_name_does_not_break_the_log() {
    let rbac = deny(vec![("two words", policy(vec![P::Any(true)], vec![ANYONE]))]);
    assert_eq!(Request::to("/").details(&rbac), "rbac_access_denied_matched_policy[two_words]");
}

#[test]
fn of_two_policies_that_match_the_first_by_name_is_reported() {
    let any = || policy(vec![P::Any(true)], vec![ANYONE]);
    for _ in 0..20 {
        let rbac = deny(vec![("c", any()), ("a", any()), ("b", any()), ("aa", any())]);
        assert_eq!(Request::to("/").details(&rbac), "rbac_access_denied_matched_policy[a]");
    }
}

#[test]
fn an_identity_matches_exactly_by_prefix_by_suffix_or_by_expression() {
    let web = "spiffe://mesh/ns/shop/svc/web";
    for (pattern, wanted) in [
        (MatchPattern::Exact(web.into()), true),
        (MatchPattern::Exact("spiffe://mesh/ns/shop/svc/we".into()), false),
        (prefix("spiffe://mesh/ns/shop/"), true),
        (MatchPattern::Suffix("/svc/web".into()), true),
        (MatchPattern::Contains("/svc/".into()), true),
        (MatchPattern::SafeRegex(RegexMatcher { regex: ".*/svc/w.b".into(), ..Default::default() }), true),
        (MatchPattern::SafeRegex(RegexMatcher { regex: "/svc/web".into(), ..Default::default() }), false),
        (MatchPattern::Exact("web-1.web.shop.mesh".into()), true),
    ] {
        let rbac = allow(vec![("p", policy(vec![P::Any(true)], vec![spiffe(pattern.clone())]))]);
        assert_eq!(Request::to("/").by(web).passes(&rbac), wanted, "{pattern:?}");
        assert!(!Request::to("/").passes(&rbac), "nobody is somebody: {pattern:?}");
    }
}

#[test]
fn without_a_name_any_certificate_is_authenticated_and_none_is_not() {
    let any = I::Authenticated(wire::principal::Authenticated { principal_name: None });
    let rbac = allow(vec![("p", policy(vec![P::Any(true)], vec![any]))]);
    assert!(Request::to("/").by("spiffe://mesh/ns/a/svc/b").passes(&rbac));
    assert!(!Request::to("/").passes(&rbac));
}

#[test]
fn addresses_tell_the_connection_from_the_caller_behind_proxies() {
    let range = |prefix: &str| CidrRange {
        address_prefix: prefix.into(),
        prefix_len: Some(UInt32Value { value: 16 }),
    };
    for (principal, wanted) in [
        (I::DirectRemoteIp(range("10.0.0.0")), true),
        (I::DirectRemoteIp(range("192.168.0.0")), false),
        (I::RemoteIp(range("192.168.0.0")), true),
        (I::RemoteIp(range("10.0.0.0")), false),
    ] {
        let rbac = allow(vec![("p", policy(vec![P::Any(true)], vec![principal.clone()]))]);
        assert_eq!(Request::to("/").passes(&rbac), wanted, "{principal:?}");
    }
}

#[test]
fn permissions_look_at_port_address_and_server_name() {
    let range = CidrRange { address_prefix: "10.0.0.1".into(), prefix_len: Some(UInt32Value { value: 32 }) };
    for (rule, wanted) in [
        (P::DestinationPort(8080), true),
        (P::DestinationPort(80), false),
        (P::DestinationIp(range), true),
        (P::RequestedServerName(text(MatchPattern::Suffix(".shop.mesh".into()))), true),
        (P::NotRule(Box::new(permission(P::DestinationPort(8080)))), false),
    ] {
        let rbac = allow(vec![("p", policy(vec![rule.clone()], vec![ANYONE]))]);
        assert_eq!(Request::to("/").passes(&rbac), wanted, "{rule:?}");
    }
}

#[test]
fn sets_need_all_or_any_of_their_rules() {
    let set = |rules: Vec<P>| wire::permission::Set { rules: rules.into_iter().map(permission).collect() };
    let both = P::AndRules(set(vec![P::DestinationPort(8080), path(prefix("/a"))]));
    let either = P::OrRules(set(vec![P::DestinationPort(1), path(prefix("/a"))]));
    for (rule, at_a, at_b) in [(both, true, false), (either, true, false)] {
        let rbac = allow(vec![("p", policy(vec![rule], vec![ANYONE]))]);
        assert_eq!((Request::to("/a").passes(&rbac), Request::to("/b").passes(&rbac)), (at_a, at_b));
    }
}

#[test]
fn a_deny_is_not_escaped_by_sending_the_header_twice() {
    let exact = || MatchPattern::Exact("admin".into());
    let rbac = deny(vec![("p", policy(vec![P::Header(header("x-role", exact()))], vec![ANYONE]))]);
    assert!(!Request::to("/").header("x-role", b"admin").passes(&rbac));
    assert!(!Request::to("/").header("x-role", b"user").header("x-role", b"admin").passes(&rbac));
    assert!(Request::to("/").header("x-role", b"user").passes(&rbac));
}

#[test]
fn an_allow_is_not_won_by_adding_a_value() {
    let user = header("x-role", MatchPattern::Exact("user".into()));
    let rbac = allow(vec![("p", policy(vec![P::Header(user)], vec![ANYONE]))]);
    assert!(!Request::to("/").header("x-role", b"admin").header("x-role", b"user").passes(&rbac));
    let not_admin = header("x-role", MatchPattern::Exact("admin".into()));
    let not_admin = P::NotRule(Box::new(permission(P::Header(not_admin))));
    let rbac = allow(vec![("p", policy(vec![not_admin], vec![ANYONE]))]);
    assert!(Request::to("/").header("x-role", b"user").passes(&rbac));
    assert!(!Request::to("/").header("x-role", b"user").header("x-role", b"admin").passes(&rbac));
}

#[test]
fn bytes_that_are_no_text_are_refused_by_allow_and_by_deny() {
    let regex = || MatchPattern::SafeRegex(RegexMatcher { regex: "[a-z]+".into(), ..Default::default() });
    let request = || Request::to("/").header("x-team", b"caf\xe9");
    let rule = || P::Header(header("x-team", regex()));
    assert!(!request().passes(&allow(vec![("p", policy(vec![rule()], vec![ANYONE]))])));
    assert!(!request().passes(&deny(vec![("p", policy(vec![rule()], vec![ANYONE]))])));
    let negated = || P::NotRule(Box::new(permission(rule())));
    assert!(!request().passes(&allow(vec![("p", policy(vec![negated()], vec![ANYONE]))])));
    assert!(!request().passes(&deny(vec![("p", policy(vec![negated()], vec![ANYONE]))])));
}

#[test]
fn shadow_rules_speak_and_do_not_act() {
    let policies = HashMap::from([("p".to_owned(), policy(vec![P::Any(true)], vec![ANYONE]))]);
    let shadow = wire::Rbac { action: wire::rbac::Action::Deny as i32, policies, ..Default::default() };
    let wire = filter::Rbac { shadow_rules: Some(shadow), ..Default::default() };
    let rbac = http(&wire, &mut Default::default()).unwrap();
    let request = Request::to("/");
    assert!(rbac.evaluate(&request.attributes()).is_none());
    let shadow = rbac.evaluate_shadow(&request.attributes()).unwrap();
    assert!(!shadow.allowed);
    assert_eq!(shadow.policy.map(|name| &**name), Some("p"));
}

#[test]
fn refuses_by_name_what_it_cannot_enforce() {
    let decode = |policy: wire::Policy| {
        let policies = HashMap::from([("p".to_owned(), policy)]);
        let rules = wire::Rbac { policies, ..Default::default() };
        http(&filter::Rbac { rules: Some(rules), ..Default::default() }, &mut Default::default())
            .unwrap_err()
            .field
    };
    let with_condition =
        wire::Policy { condition: Some(Default::default()), ..policy(vec![P::Any(true)], vec![ANYONE]) };
    assert_eq!(decode(with_condition), "rules.policies[p].condition");
    let metadata = policy(vec![P::Any(true), P::SourcedMetadata(Default::default())], vec![ANYONE]);
    assert_eq!(decode(metadata), "rules.policies[p].permissions[1].sourced_metadata.metadata_matcher");
    let no_principal = policy(vec![P::Any(true)], vec![]);
    assert_eq!(decode(no_principal), "rules.policies[p].principals");
    let nothing =
        wire::Policy { permissions: vec![wire::Permission { rule: None }], ..policy(vec![], vec![ANYONE]) };
    assert_eq!(decode(nothing), "rules.policies[p].permissions[0].rule");
}

#[test]
fn claims_that_a_filter_found_out_are_a_principal() {
    use crate::metadata::{DynamicMetadata, MetadataValue};
    use envoy_types::pb::envoy::r#type::matcher::v3::{
        MetadataMatcher, ValueMatcher, metadata_matcher, value_matcher,
    };

    let segment = |key: &str| metadata_matcher::PathSegment {
        segment: Some(metadata_matcher::path_segment::Segment::Key(key.into())),
    };
    let matcher = MetadataMatcher {
        filter: "jwt".into(),
        path: ["payload", "sub"].map(segment).into(),
        value: Some(ValueMatcher {
            match_pattern: Some(value_matcher::MatchPattern::StringMatch(text(MatchPattern::Exact(
                "a".into(),
            )))),
        }),
        invert: false,
    };
    let sourced = I::SourcedMetadata(wire::SourcedMetadata {
        metadata_matcher: Some(matcher.clone()),
        metadata_source: wire::MetadataSource::Dynamic as i32,
    });
    let mut claims = DynamicMetadata::default();
    let sub = MetadataValue::Text("a".into());
    claims.set("jwt", "payload".into(), MetadataValue::Struct([("sub".into(), sub)].into()));
    let request = Request::to("/");
    for principal in [I::Metadata(matcher.clone()), sourced] {
        let allow = allow(vec![("p", policy(vec![P::Any(true)], vec![principal.clone()]))]);
        let not = I::NotId(Box::new(wire::Principal { identifier: Some(principal) }));
        let deny = deny(vec![("p", policy(vec![P::Any(true)], vec![not]))]);
        for (known, wanted) in [(KnownMetadata::All(Some(&claims)), true), (KnownMetadata::All(None), false)]
        {
            let at = Attributes { metadata: known, ..request.attributes() };
            assert_eq!(allow.evaluate(&at).unwrap().allowed, wanted);
            assert_eq!(deny.evaluate(&at).unwrap().allowed, wanted);
        }
    }
    let of_route =
        wire::SourcedMetadata { metadata_source: wire::MetadataSource::Route as i32, ..Default::default() };
    let wrong = policy(vec![P::Any(true)], vec![I::SourcedMetadata(of_route)]);
    let rules = wire::Rbac { policies: HashMap::from([("p".to_owned(), wrong)]), ..Default::default() };
    let wire = filter::Rbac { rules: Some(rules), ..Default::default() };
    let refused = http(&wire, &mut Default::default()).unwrap_err();
    assert_eq!(refused.field, "rules.policies[p].principals[0].sourced_metadata.metadata_source");
}

#[test]
fn a_connection_is_judged_by_identity_and_not_by_requests() {
    let decode = |policy: wire::Policy| {
        let policies = HashMap::from([("p".to_owned(), policy)]);
        let rules = wire::Rbac { policies, ..Default::default() };
        let wire = network::Rbac { rules: Some(rules), stat_prefix: "tcp_in".into(), ..Default::default() };
        network(&wire, &mut Default::default())
    };
    let web = "spiffe://mesh/ns/shop/svc/web";
    let rbac = decode(policy(vec![P::Any(true)], vec![spiffe(MatchPattern::Exact(web.into()))])).unwrap();
    let request = Request::to("/").by(web);
    let connection = Attributes { request: None, ..request.attributes() };
    assert!(rbac.evaluate(&connection).unwrap().allowed);
    assert!(!rbac.evaluate(&Attributes { peer: None, ..connection }).unwrap().allowed);
    let error = decode(policy(vec![path(prefix("/a"))], vec![ANYONE])).unwrap_err();
    assert_eq!(error.field, "rules.policies[p].permissions[0].url_path");
}
