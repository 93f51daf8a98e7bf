use std::collections::HashMap;

use envoy_types::pb::envoy::config::accesslog::v3 as log;
use envoy_types::pb::envoy::config::core::v3::{
    DataSource, RuntimeUInt32, data_source, substitution_format_string,
};
use envoy_types::pb::envoy::extensions::filters::network::http_connection_manager::v3 as hcm;
use envoy_types::pb::google::protobuf::UInt32Value;
use http::HeaderMap;
use weft_routing::matcher::RequestHead;

use super::*;
use crate::decode::local_reply::local_replies;
use crate::format::FormatContext;

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
    let head =
        RequestHead { method: "GET", scheme: "http", authority: "web.shop", path: "/\"q\"", headers: &none };
    let context = FormatContext { request: Some(head), response_code: 503, ..FormatContext::default() };
    let mut line = String::new();
    Format::json(super::object(&object).unwrap()).render(&context, &mut line);
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
    substitution(&wire).unwrap().render(&context, &mut line);
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
    let replies = local_replies(&config).unwrap();
    let reply = |code, body| {
        let details = Some("rbac_access_denied_matched_policy[p]");
        let context = FormatContext {
            response_code: code,
            local_reply_body: body,
            response_code_details: details,
            ..FormatContext::default()
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
