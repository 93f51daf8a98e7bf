use std::time::{Duration, SystemTime};

use http::HeaderMap;
use weft_routing::matcher::RequestHead;

use super::*;

fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
    pairs.iter().map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap())).collect()
}

fn rendered(format: &str, context: &FormatContext<'_>) -> String {
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
    let context = FormatContext {
        request: head("/items?page=2", &request),
        response: Some(&response),
        protocol: Some("HTTP/1.1"),
        response_code: 200,
        bytes_received: 5,
        bytes_sent: 154,
        start: Some(SystemTime::UNIX_EPOCH + Duration::from_millis(1_460_751_420_310)),
        timing: Timing { total: Some(Duration::from_micros(8_900)), ..Timing::default() },
        upstream: UpstreamInfo { host: Some("10.0.35.28:80".parse().unwrap()), ..UpstreamInfo::default() },
        ..FormatContext::default()
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
    Format::default().render(&FormatContext::default(), &mut line);
    assert_eq!(line, "[-] \"- - -\" 0 - 0 0 - - \"-\" \"-\" \"-\" \"-\" \"-\"\n");
}

#[test]
fn a_header_gives_way_to_its_alternative_and_is_cut() {
    let request = headers(&[("x-envoy-original-path", "/before")]);
    let with = FormatContext { request: head("/after", &request), ..FormatContext::default() };
    assert_eq!(rendered("%REQ(X-ENVOY-ORIGINAL-PATH?:PATH)%", &with), "/before");
    assert_eq!(rendered("%REQ(X-NONE?:PATH):4%|%REQUEST_HEADER(:method):1%", &with), "/aft|G");
    let none = HeaderMap::new();
    let without = FormatContext { request: head("/after?q", &none), ..FormatContext::default() };
    assert_eq!(rendered("%REQ(X-ENVOY-ORIGINAL-PATH?:PATH)%", &without), "/after?q");
    assert_eq!(rendered("%REQ_WITHOUT_QUERY(:PATH)% %PATH(NQ)%", &without), "/after /after");
}

#[test]
fn the_limit_does_not_cut_a_character_in_two() {
    let context = FormatContext { route_name: "aé", ..FormatContext::default() };
    assert_eq!(rendered("%ROUTE_NAME:2%", &context), "a");
}

#[test]
fn percent_signs_are_written_twice() {
    assert_eq!(rendered("100%% %%", &FormatContext::default()), "100% %");
    for wrong in ["50%", "%lower%", "%REQ(X%", "%PROTOCOL", "% PROTOCOL%", "%PROTOCOL:x%"] {
        assert!(matches!(Format::parse(wrong), Err(FormatError::Syntax(_))), "{wrong}");
    }
}

#[test]
fn an_unknown_command_is_refused_and_one_without_a_subject_is_absent() {
    assert_eq!(Format::parse("%NO_SUCH%").unwrap_err(), FormatError::Unknown("NO_SUCH".into()));
    assert!(matches!(Format::parse("%REQ%"), Err(FormatError::Argument(..))));
    assert_eq!(rendered("%DYNAMIC_METADATA(a:b)%", &FormatContext::default()), "-");
}

#[test]
fn flags_are_joined_by_commas() {
    let flags = ResponseFlags::UPSTREAM_RETRY_LIMIT | ResponseFlags::UPSTREAM_CONNECTION_FAILURE;
    let context = FormatContext { flags, ..FormatContext::default() };
    assert_eq!(
        rendered("%RESPONSE_FLAGS% %RESPONSE_FLAGS_LONG%", &context),
        "UF,URX UpstreamConnectionFailure,UpstreamRetryLimitExceeded"
    );
}

#[test]
fn a_forwarded_caller_has_port_zero() {
    let downstream = DownstreamInfo {
        direct_remote: Some("10.0.0.2:4711".parse().unwrap()),
        remote: Some("192.0.2.1".parse().unwrap()),
        local: Some("[::1]:15006".parse().unwrap()),
        ..DownstreamInfo::default()
    };
    let context = FormatContext { downstream, ..FormatContext::default() };
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
    let context = FormatContext {
        request: head("/s/M", &request),
        trailers: Some(&trailers),
        ..FormatContext::default()
    };
    let format = "%GRPC_STATUS% %GRPC_STATUS(SNAKE_STRING)% %GRPC_STATUS(NUMBER)% %GRPC_STATUS_NUMBER%";
    assert_eq!(rendered(format, &context), "Unavailable UNAVAILABLE 14 14");
    for other in [HeaderMap::new(), headers(&[("content-type", "application/grpc-web")])] {
        let context = FormatContext { request: head("/", &other), ..context };
        assert_eq!(rendered("%GRPC_STATUS%", &context), "-");
    }
}

#[test]
fn a_header_value_leaves_out_what_is_absent() {
    let format = Format::parse("<%PROTOCOL%>").unwrap();
    assert_eq!(format.render_header(&FormatContext::default()), "<>");
}
