//! HTTP filters between real sockets.

mod buffer;
mod compressor;
mod cors;
mod ext_authz;
mod ext_authz_grpc;
mod fault;
mod header_mutation;
mod jwt_authn;
mod rate_limit;

use std::collections::HashMap;

use envoy_types::pb::envoy::config::core::v3 as core;
use envoy_types::pb::envoy::config::rbac::v3 as rbac;
use envoy_types::pb::envoy::config::route::v3 as wire;
use envoy_types::pb::envoy::extensions::filters::http::buffer::v3::Buffer;
use envoy_types::pb::envoy::extensions::filters::http::compressor::v3::compressor::{
    CommonDirectionConfig, ResponseDirectionConfig,
};
use envoy_types::pb::envoy::extensions::filters::http::ext_authz::v3::ExtAuthz;
use envoy_types::pb::envoy::extensions::filters::http::fault::v3::HttpFault;
use envoy_types::pb::envoy::extensions::filters::http::jwt_authn::v3 as jwt;
use envoy_types::pb::envoy::extensions::filters::http::rbac::v3 as http_rbac;
use envoy_types::pb::envoy::r#type::v3 as types;
use envoy_types::pb::google::protobuf::Any;
use http::{Method, StatusCode};
use prost::{Message, Name};
use weft_api::ResourceKind;
use weft_dataplane::decode::{DecodedResource, decode};
use weft_dataplane::filter::{self, HttpFilter};
use weft_dataplane::runtime::{HttpFilters, Router, UpstreamProtocol};
use weft_dataplane::stats::{StatsRegistry, StatsScope};
use weft_routing::rejection::{Notes, Rejection};

use crate::harness::{Answer, Client, Origin, Proxy, Setup, empty, prefix, protocol, to_cluster};
use buffer::buffers;
use compressor::compresses;
use ext_authz::by_http;
use ext_authz_grpc::by_grpc;
use fault::aborts;
use header_mutation::{append, mutates};
use jwt::jwt_provider::JwksSourceSpecifier;
use jwt::jwt_requirement::RequiresType;
use jwt::requirement_rule::RequirementType;
use jwt_authn::authenticates;
use rate_limit::limit;

type Overrides = HashMap<String, Any>;

fn any<M: Message + Name>(message: &M) -> Any {
    Any { type_url: M::type_url(), value: message.encode_to_vec() }
}

fn overrides<M: Message + Name>(name: &str, message: &M) -> Overrides {
    HashMap::from([(name.to_owned(), any(message))])
}

fn read(config: &Any, registry: &mut StatsRegistry) -> Result<filter::Filter, Rejection> {
    let filter = filter::decode::filter(config, &StatsScope::http("in"), &mut Notes::default(), registry)?;
    Ok(filter.expect("a filter that is known"))
}

fn route_config(setup: &mut Setup, overrides: Overrides, host: Overrides, routes: Vec<wire::Route>) {
    let config = wire::RouteConfiguration {
        name: "routes".into(),
        virtual_hosts: vec![wire::VirtualHost {
            name: "all".into(),
            domains: vec!["*".into()],
            routes,
            typed_per_filter_config: host,
            ..Default::default()
        }],
        typed_per_filter_config: overrides,
        ..Default::default()
    };
    let decoded = decode(ResourceKind::Route, &config.encode_to_vec(), &mut setup.registry).unwrap();
    let (DecodedResource::Route(routes), _) = decoded else { panic!("no routes") };
    setup.runtime.routes.insert("routes".into(), routes.into());
}

fn at(path: &str, overrides: Overrides, change: impl FnOnce(&mut wire::RouteAction)) -> wire::Route {
    let mut route = to_cluster("app", change);
    route.r#match = Some(prefix(path));
    route.typed_per_filter_config = overrides;
    route
}

struct Filtered {
    _origin: Origin,
    setup: Setup,
    proxy: Proxy,
}

/// Everything goes to the one cluster.
fn one_route(setup: &mut Setup) {
    let all = vec![at("/", Overrides::new(), |_| {})];
    route_config(setup, Overrides::new(), Overrides::new(), all);
}

/// A proxy with these filters, by name, and these routes.
async fn filtered(
    filters: &[(&str, Any)],
    routes: impl FnOnce(&mut Setup),
    upstream: UpstreamProtocol,
) -> Filtered {
    let origin = Origin::start().await;
    let mut setup = Setup::new();
    setup.cluster("app", &[origin.address], protocol(upstream));
    setup.cluster("other", &[origin.address], protocol(upstream));
    routes(&mut setup);
    let mut all = Vec::new();
    for (name, config) in filters {
        let filter = read(config, &mut setup.registry).unwrap();
        all.push(HttpFilter { name: (*name).into(), filter });
    }
    setup.http_listener(|manager| manager.filters = HttpFilters::new(all, Some(Router::default())));
    let proxy = setup.start().await;
    Filtered { _origin: origin, setup, proxy }
}

async fn simple(name: &str, config: Any) -> Filtered {
    filtered(&[(name, config)], one_route, UpstreamProtocol::Http1).await
}

impl Filtered {
    async fn get(&self, path: &str, headers: &[(&'static str, &str)]) -> Answer {
        let mut client = self.proxy.h1().await;
        ask(&mut client, Method::GET, path, headers).await
    }

    async fn value(&mut self, name: &str) -> i64 {
        let totals = self.proxy.engine().stats().await;
        self.setup.value(&totals, name)
    }
}

async fn ask(client: &mut Client, method: Method, path: &str, headers: &[(&'static str, &str)]) -> Answer {
    let mut request = client.request(method, path, empty());
    for (name, value) in headers {
        request.headers_mut().append(*name, value.parse().unwrap());
    }
    client.exchange(request).await
}

/// The one value of a header.
fn text<'a>(headers: &'a http::HeaderMap, name: &str) -> &'a str {
    headers[name].to_str().unwrap()
}

fn percent(numerator: u32) -> types::FractionalPercent {
    types::FractionalPercent { numerator, denominator: 0 }
}

fn runtime_percent(numerator: u32) -> core::RuntimeFractionalPercent {
    core::RuntimeFractionalPercent { default_value: Some(percent(numerator)), ..Default::default() }
}

fn appended(
    name: &str,
    value: &str,
    action: core::header_value_option::HeaderAppendAction,
) -> core::HeaderValueOption {
    let header = core::HeaderValue { key: name.into(), value: value.into(), ..Default::default() };
    core::HeaderValueOption { header: Some(header), append_action: action.into(), ..Default::default() }
}

#[test]
fn what_the_filters_cannot_do_is_refused_by_name() {
    let refused = |config: Any, field: &str| {
        let error = read(&config, &mut StatsRegistry::new()).unwrap_err();
        assert_eq!(error.field, field, "{error}");
    };
    refused(
        any(&mutates(|one| one.request_mutations = vec![append(":path", "/")])),
        "mutations.request_mutations[0].append.headers_to_add[:path].:path",
    );
    refused(
        any(&mutates(|one| one.query_parameter_mutations = vec![Default::default()])),
        "mutations.query_parameter_mutations",
    );
    refused(any(&limit(|one| one.descriptors = vec![Default::default()])), "descriptors");
    refused(
        any(&limit(|one| one.token_bucket.as_mut().unwrap().fill_interval = None)),
        "token_bucket.fill_interval",
    );
    refused(any(&limit(|one| one.stat_prefix.clear())), "stat_prefix");
    refused(
        any(&HttpFault { response_rate_limit: Some(Default::default()), ..Default::default() }),
        "response_rate_limit",
    );
    refused(any(&HttpFault { abort: Some(Default::default()), ..Default::default() }), "abort.http_status");
    refused(any(&buffers(0)), "max_request_bytes");
    refused(any(&Buffer::default()), "max_request_bytes");
    refused(any(&ExtAuthz::default()), "services");
    refused(any(&by_http(|one| one.server_uri = None)), "http_service.server_uri");
    refused(any(&by_http(|one| one.retry_policy = Some(Default::default()))), "http_service.retry_policy");
    refused(any(&by_http(|one| one.path_prefix = "check".into())), "http_service.path_prefix");
    refused(any(&ExtAuthz { shadow_mode: true, ..by_http(|_| {}) }), "shadow_mode");
    refused(any(&ExtAuthz { encode_raw_headers: true, ..by_http(|_| {}) }), "encode_raw_headers");
    let namespaces = vec!["a".into()];
    refused(
        any(&ExtAuthz { metadata_context_namespaces: namespaces, ..by_http(|_| {}) }),
        "metadata_context_namespaces",
    );
    refused(
        any(&ExtAuthz { with_request_body: Some(Default::default()), ..by_http(|_| {}) }),
        "with_request_body.max_request_bytes",
    );
    refuses_of_the_compressor(&refused);
    refuses_of_tokens(&refused);
    let older = ExtAuthz { transport_api_version: 0, ..by_grpc() };
    refused(any(&older), "grpc_service.transport_api_version");
}

fn refuses_of_tokens(refused: &impl Fn(Any, &str)) {
    let keys = |text: &str| {
        let specifier = Some(core::data_source::Specifier::InlineString(text.into()));
        JwksSourceSpecifier::LocalJwks(core::DataSource { specifier, ..Default::default() })
    };
    let changed = |change: fn(&mut jwt::JwtProvider)| any(&authenticates(change));
    let of_provider = |field: &str| format!("providers[me].{field}");
    refused(
        changed(|one| one.failed_status_in_metadata = "a".into()),
        &of_provider("failed_status_in_metadata"),
    );
    refused(changed(|one| one.jwks_source_specifier = None), &of_provider("jwks_source_specifier"));
    refused(changed(|one| one.forward_payload_header = "a b".into()), &of_provider("forward_payload_header"));
    for text in ["", "{}", r#"{"keys":[]}"#, r#"{"keys":[{"kty":"RSA"}]}"#] {
        let given = authenticates(|one| one.jwks_source_specifier = Some(keys(text)));
        refused(any(&given), &of_provider("local_jwks"));
    }
    let with = |change: fn(&mut jwt::JwtAuthentication)| {
        let mut given = authenticates(|_| {});
        change(&mut given);
        any(&given)
    };
    refused(with(|one| one.filter_state_rules = Some(Default::default())), "filter_state_rules");
    refused(with(|one| one.providers.clear()), "rules[0].requires.provider_name");
    refused(
        with(|one| {
            let name = RequirementType::RequirementName("a".into());
            one.rules[0].requirement_type = Some(name);
        }),
        "rules[0].requirement_name",
    );
    refused(
        with(|one| {
            let requires_type = Some(RequiresType::ExtractOnlyWithoutValidation(Default::default()));
            let requires = jwt::JwtRequirement { requires_type };
            one.rules[0].requirement_type = Some(RequirementType::Requires(requires));
        }),
        "rules[0].requires.extract_only_without_validation",
    );
    let nothing = filter::decode::filter(
        &any(&jwt::JwtAuthentication::default()),
        &StatsScope::http("in"),
        &mut Notes::default(),
        &mut StatsRegistry::new(),
    );
    assert!(nothing.is_ok(), "a filter that asks for nothing");
}

fn refuses_of_the_compressor(refused: &impl Fn(Any, &str)) {
    refused(any(&compresses(|one| one.compressor_library = None)), "compressor_library");
    let other = core::TypedExtensionConfig { name: "a".into(), typed_config: Some(any(&Buffer::default())) };
    refused(any(&compresses(|one| one.compressor_library = Some(other))), "compressor_library.typed_config");
    let responses = |change: fn(&mut ResponseDirectionConfig)| {
        let mut responses = ResponseDirectionConfig::default();
        change(&mut responses);
        any(&compresses(|one| one.response_direction_config = Some(responses)))
    };
    for (config, field) in [
        (responses(|one| one.weaken_etag_on_compress = true), "weaken_etag_on_compress"),
        (responses(|one| one.uncompressible_response_codes = vec![206]), "uncompressible_response_codes"),
        (responses(|one| one.status_header_enabled = true), "status_header_enabled"),
        (
            responses(|one| {
                let common = CommonDirectionConfig {
                    content_type_matcher: vec![Default::default()],
                    ..Default::default()
                };
                one.common_config = Some(common);
            }),
            "common_config.content_type_matcher",
        ),
    ] {
        refused(config, &format!("response_direction_config.{field}"));
    }
}

#[tokio::test]
async fn filters_run_in_order_and_the_first_answer_ends_the_way() {
    let deny = http_rbac::Rbac {
        rules: Some(rbac::Rbac { action: rbac::rbac::Action::Allow.into(), ..Default::default() }),
        ..Default::default()
    };
    let simple_routes = |setup: &mut Setup| {
        let off = wire::FilterConfig { disabled: true, ..Default::default() };
        route_config(
            setup,
            Overrides::new(),
            Overrides::new(),
            vec![at("/open", overrides("rbac", &off), |_| {}), at("/", Overrides::new(), |_| {})],
        );
    };
    let filters = [("rbac", any(&deny)), ("fault", any(&aborts(418, 100)))];
    let first = filtered(&filters, simple_routes, UpstreamProtocol::Http1).await;
    let answer = first.get("/", &[]).await;
    assert_eq!((answer.status, answer.text()), (StatusCode::FORBIDDEN, "RBAC: access denied"));
    assert_eq!(
        first.get("/open", &[]).await.status.as_u16(),
        418,
        "a filter that is left out lets everything by"
    );
    let filters = [("fault", any(&aborts(418, 100))), ("rbac", any(&deny))];
    let mut second = filtered(&filters, simple_routes, UpstreamProtocol::Http1).await;
    assert_eq!(second.get("/", &[]).await.status.as_u16(), 418);
    assert_eq!(second.value("http.in.rbac.denied").await, 0);
}
