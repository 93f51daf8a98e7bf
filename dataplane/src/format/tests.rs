use std::collections::HashMap;
use std::time::{Duration, SystemTime};

use envoy_types::pb::envoy::config::accesslog::v3 as log;
use envoy_types::pb::envoy::config::core::v3::{
    DataSource, RuntimeUInt32, SubstitutionFormatString, data_source, substitution_format_string,
};
use envoy_types::pb::envoy::extensions::filters::network::http_connection_manager::v3 as hcm;
use envoy_types::pb::google::protobuf::{Struct, UInt32Value, Value, value::Kind};
use http::HeaderMap;

use super::*;
use crate::matcher::RequestHead;

fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
    pairs.iter().map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap())).collect()
}

fn rendered(format: &str, context: &Context<'_>) -> String {
    let mut out = String::new();
    Format::parse(format).unwrap().render(context, &mut out);
    out
}

fn head<'a>(path: &'a str, headers: &'a HeaderMap) -> Option<RequestHead<'a>> {
    Some(RequestHead { method: "GET", scheme: "http", authority: "web.shop", path, headers })
}

#[test]
fn the_default_format_gives_envoys_line() {
    let request =
        headers(&[("user-agent", "curl/8"), ("x-request-id", "abc"), ("x-forwarded-for", "10.1.1.1")]);
    let response = headers(&[("x-envoy-upstream-service-time", "7")]);
    let context = Context {
        request: head("/items?page=2", &request),
        response: Some(&response),
        protocol: Some("HTTP/1.1"),
        response_code: 200,
        bytes_received: 5,
        bytes_sent: 154,
        start: Some(SystemTime::UNIX_EPOCH + Duration::from_millis(1_460_751_420_310)),
        timing: Timing { total: Some(Duration::from_micros(8_900)), ..Timing::default() },
        upstream: Upstream { host: Some("10.0.35.28:80".parse().unwrap()), ..Upstream::default() },
        ..Context::default()
    };
    let mut line = String::new();
    Format::default().render(&context, &mut line);
    assert_eq!(
        line,
        "[2016-04-15T20:17:00.310Z] \"GET /items?page=2 HTTP/1.1\" 200 - 5 154 8 7 \"10.1.1.1\" \"curl/8\" \"abc\" \
         \"web.shop\" \"10.0.35.28:80\"\n"
    );
}

#[test]
fn what_is_absent_is_a_dash() {
    let mut line = String::new();
    Format::default().render(&Context::default(), &mut line);
    assert_eq!(line, "[-] \"- - -\" 0 - 0 0 - - \"-\" \"-\" \"-\" \"-\" \"-\"\n");
}

#[test]
fn a_header_gives_way_to_its_alternative_and_is_cut() {
    let request = headers(&[("x-envoy-original-path", "/before")]);
    let with = Context { request: head("/after", &request), ..Context::default() };
    assert_eq!(rendered("%REQ(X-ENVOY-ORIGINAL-PATH?:PATH)%", &with), "/before");
    assert_eq!(rendered("%REQ(X-NONE?:PATH):4%|%REQUEST_HEADER(:method):1%", &with), "/aft|G");
    let none = HeaderMap::new();
    let without = Context { request: head("/after?q", &none), ..Context::default() };
    assert_eq!(rendered("%REQ(X-ENVOY-ORIGINAL-PATH?:PATH)%", &without), "/after?q");
    assert_eq!(rendered("%REQ_WITHOUT_QUERY(:PATH)% %PATH(NQ)%", &without), "/after /after");
}

#[test]
fn the_limit_does_not_cut_a_character_in_two() {
    let context = Context { route_name: "aé", ..Context::default() };
    assert_eq!(rendered("%ROUTE_NAME:2%", &context), "a");
}

#[test]
fn percent_signs_are_written_twice() {
    assert_eq!(rendered("100%% %%", &Context::default()), "100% %");
    for wrong in ["50%", "%lower%", "%REQ(X%", "%PROTOCOL", "% PROTOCOL%", "%PROTOCOL:x%"] {
        assert!(matches!(Format::parse(wrong), Err(FormatError::Syntax(_))), "{wrong}");
    }
}

#[test]
fn an_unknown_command_is_refused_and_one_without_a_subject_is_absent() {
    assert_eq!(Format::parse("%NO_SUCH%").unwrap_err(), FormatError::Unknown("NO_SUCH".into()));
    assert!(matches!(Format::parse("%REQ%"), Err(FormatError::Argument(..))));
    assert_eq!(rendered("%DYNAMIC_METADATA(a:b)%", &Context::default()), "-");
}

#[test]
fn flags_are_joined_by_commas() {
    let flags = ResponseFlags::UPSTREAM_RETRY_LIMIT | ResponseFlags::UPSTREAM_CONNECTION_FAILURE;
    let context = Context { flags, ..Context::default() };
    assert_eq!(
        rendered("%RESPONSE_FLAGS% %RESPONSE_FLAGS_LONG%", &context),
        "UF,URX UpstreamConnectionFailure,UpstreamRetryLimitExceeded"
    );
}

#[test]
fn a_forwarded_caller_has_port_zero() {
    let downstream = Downstream {
        direct_remote: Some("10.0.0.2:4711".parse().unwrap()),
        remote: Some("192.0.2.1".parse().unwrap()),
        local: Some("[::1]:15006".parse().unwrap()),
        ..Downstream::default()
    };
    let context = Context { downstream, ..Context::default() };
    assert_eq!(
        rendered(
            "%DOWNSTREAM_REMOTE_ADDRESS% %DOWNSTREAM_DIRECT_REMOTE_ADDRESS% \
             %DOWNSTREAM_DIRECT_REMOTE_ADDRESS_WITHOUT_PORT% %DOWNSTREAM_LOCAL_ADDRESS% %DOWNSTREAM_LOCAL_PORT%",
            &context
        ),
        "192.0.2.1:0 10.0.0.2:4711 10.0.0.2 [::1]:15006 15006"
    );
}

#[test]
fn a_grpc_status_has_three_forms_and_needs_grpc() {
    let request = headers(&[("content-type", "application/grpc+proto")]);
    let trailers = headers(&[("grpc-status", "14")]);
    let context =
        Context { request: head("/s/M", &request), trailers: Some(&trailers), ..Context::default() };
    let format = "%GRPC_STATUS% %GRPC_STATUS(SNAKE_STRING)% %GRPC_STATUS(NUMBER)% %GRPC_STATUS_NUMBER%";
    assert_eq!(rendered(format, &context), "Unavailable UNAVAILABLE 14 14");
    let plain = HeaderMap::new();
    let context = Context { request: head("/", &plain), ..context };
    assert_eq!(rendered("%GRPC_STATUS%", &context), "-");
}

#[test]
fn a_header_value_leaves_out_what_is_absent() {
    let format = Format::parse("<%PROTOCOL%>").unwrap();
    assert_eq!(format.render_header(&Context::default()), "<>");
}

fn json(pairs: &[(&str, Kind)]) -> Struct {
    let fields = pairs.iter().map(|(name, kind)| ((*name).to_owned(), Value { kind: Some(kind.clone()) }));
    Struct { fields: fields.collect::<HashMap<_, _>>() }
}

#[test]
fn json_keeps_types_sorts_names_and_escapes() {
    let text = |text: &str| Kind::StringValue(text.into());
    let object = json(&[
        ("status", text("%RESPONSE_CODE%")),
        ("path", text("%REQ(:PATH)%")),
        ("line", text("%PROTOCOL% %RESPONSE_CODE%")),
        ("none", text("%ROUTE_NAME%")),
        ("inner", Kind::StructValue(json(&[("b", Kind::BoolValue(true)), ("a", Kind::NumberValue(1.0))]))),
    ]);
    let none = HeaderMap::new();
    let context = Context { request: head("/\"q\"", &none), response_code: 503, ..Context::default() };
    let mut line = String::new();
    Format::parse_json(&object).unwrap().render(&context, &mut line);
    assert_eq!(
        line,
        "{\"inner\":{\"a\":1,\"b\":true},\"line\":\"- 503\",\"none\":null,\"path\":\"/\\\"q\\\"\",\"status\":503}\n"
    );
    let wire = SubstitutionFormatString {
        omit_empty_values: true,
        format: Some(substitution_format_string::Format::JsonFormat(json(&[
            ("none", text("%ROUTE_NAME%")),
            ("a", text("x")),
        ]))),
        ..Default::default()
    };
    let mut line = String::new();
    Format::decode(&wire).unwrap().render(&context, &mut line);
    assert_eq!(line, "{\"a\":\"x\"}\n");
}

fn source(text: &str) -> DataSource {
    DataSource { specifier: Some(data_source::Specifier::InlineString(text.into())), ..Default::default() }
}

fn format_of(text: &str) -> SubstitutionFormatString {
    SubstitutionFormatString {
        format: Some(substitution_format_string::Format::TextFormatSource(source(text))),
        ..Default::default()
    }
}

fn status_filter(status: u32) -> log::AccessLogFilter {
    let value = RuntimeUInt32 { default_value: status, runtime_key: "x".into() };
    let comparison = log::ComparisonFilter { op: log::comparison_filter::Op::Eq as i32, value: Some(value) };
    let filter = log::StatusCodeFilter { comparison: Some(comparison) };
    log::AccessLogFilter {
        filter_specifier: Some(log::access_log_filter::FilterSpecifier::StatusCodeFilter(filter)),
    }
}

#[test]
fn a_local_reply_takes_the_first_mapper_that_fits() {
    let config = hcm::LocalReplyConfig {
        mappers: vec![
            hcm::ResponseMapper {
                filter: Some(status_filter(403)),
                body_format_override: Some(format_of("%LOCAL_REPLY_BODY%: %RESPONSE_CODE_DETAILS%\n")),
                ..Default::default()
            },
            hcm::ResponseMapper {
                filter: Some(status_filter(503)),
                status_code: Some(UInt32Value { value: 502 }),
                body: Some(source("gone")),
                ..Default::default()
            },
        ],
        body_format: Some(format_of("%RESPONSE_CODE% %LOCAL_REPLY_BODY%")),
    };
    let replies = LocalReplies::decode(&config).unwrap();
    let reply = |code, body| {
        let details = Some("rbac_access_denied_matched_policy[p]");
        let context = Context {
            response_code: code,
            local_reply_body: body,
            response_code_details: details,
            ..Context::default()
        };
        let reply = replies.reply(&context);
        (reply.status, reply.body, reply.content_type)
    };
    assert_eq!(
        reply(403, "RBAC: access denied"),
        (403, "RBAC: access denied: rbac_access_denied_matched_policy[p]\n".into(), "text/plain")
    );
    assert_eq!(reply(503, "no healthy upstream"), (502, "502 gone".into(), "text/plain"));
    assert_eq!(reply(404, ""), (404, "404 ".into(), "text/plain"));
}

#[test]
fn a_filter_that_is_unknown_refuses_the_configuration() {
    let filter = log::AccessLogFilter {
        filter_specifier: Some(log::access_log_filter::FilterSpecifier::MetadataFilter(Default::default())),
    };
    assert_eq!(Filter::decode(&filter).unwrap_err().field, "metadata_filter");
}
