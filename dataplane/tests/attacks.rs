//! What somebody would try who wants past a policy, into another's request, or the proxy on its knees.

#![allow(clippy::unwrap_used, reason = "a test ends where an expectation fails")]

#[path = "support/binary.rs"]
mod binary;

use std::time::{Duration, Instant};

use binary::{Application, Proxy, cluster, free_port, get, http_listener, raw, soon, status};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

const DENY: &str = r#"{name: rbac, typed_config: {"@type": type.googleapis.com/envoy.extensions.filters.http.rbac.v3.RBAC, rules: {action: DENY, policies: {
  admin: {permissions: [{url_path: {path: {prefix: /admin}}}], principals: [{any: true}]},
  tenant: {permissions: [{header: {name: x-tenant, string_match: {exact: evil}}}], principals: [{any: true}]},
  away: {permissions: [{any: true}], principals: [{remote_ip: {address_prefix: 6.6.6.6, prefix_len: 32}}]}}}}}, "#;
const NORMAL: &str = "          normalize_path: true\n          merge_slashes: true\n          path_with_escaped_slashes_action: UNESCAPE_AND_FORWARD\n";

async fn guarded(manager: &str) -> (Application, Proxy, u16) {
    let (application, port) = (Application::start().await, free_port());
    let listeners = http_listener(port, &format!("{NORMAL}{manager}"), DENY, "");
    let proxy = Proxy::start(&listeners, &cluster("app", &[application.port], ""), "").await;
    (application, proxy, port)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_two_readers_could_frame_differently_is_refused() {
    let (application, _proxy, port) = guarded("").await;
    let smuggled = "GET /smuggled HTTP/1.1\r\nhost: a.test\r\n\r\n";
    for (what, head, code) in [
        (
            "both framings",
            "POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 4\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
            400,
        ),
        (
            "one length twice",
            "POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 4\r\ncontent-length: 4\r\n\r\nabcd",
            400,
        ),
        ("TE on 1.0", "POST / HTTP/1.0\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n", 400),
        (
            "two lengths",
            "POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 4\r\ncontent-length: 5\r\n\r\nabcde",
            400,
        ),
        ("a list of lengths", "POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 4, 5\r\n\r\nabcde", 400),
        ("a signed length", "POST / HTTP/1.1\r\nhost: a\r\ncontent-length: +4\r\n\r\nabcd", 400),
        ("space before colon", "GET / HTTP/1.1\r\nhost: a\r\nx-a : 1\r\n\r\n", 400),
        (
            "TE, space before colon",
            "POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 5\r\ntransfer-encoding : chunked\r\n\r\n0\r\n\r\n",
            400,
        ),
        ("obs-fold", "GET / HTTP/1.1\r\nhost: a\r\nx-a: 1\r\n 2\r\n\r\n", 400),
        (
            "obs-fold of TE",
            "POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding:\r\n chunked\r\n\r\n0\r\n\r\n",
            400,
        ),
        ("a bare CR", "GET / HTTP/1.1\r\nhost: a\r\nx-a: 1\r2\r\n\r\n", 400),
        ("NUL", "GET / HTTP/1.1\r\nhost: a\r\nx-a: 1\x002\r\n\r\n", 400),
        ("two hosts", "GET / HTTP/1.1\r\nhost: a\r\nhost: b\r\nconnection: close\r\n\r\n", 400),
        ("no host", "GET / HTTP/1.1\r\nconnection: close\r\n\r\n", 400),
        ("TE of nobody", "POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: xchunked\r\n\r\n0\r\n\r\n", 501),
        (
            "TE with a vertical tab",
            "POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: \x0bchunked\r\n\r\n0\r\n\r\n",
            400,
        ),
        (
            "chunked not last",
            "POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked, identity\r\n\r\n0\r\n\r\n",
            501,
        ),
        (
            "a coding that would be lost",
            "POST / HTTP/1.1\r\nhost: a\r\nconnection: close\r\ntransfer-encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
            501,
        ),
    ] {
        let answer = raw(port, format!("{head}{smuggled}")).await;
        assert_eq!(status(&answer), code, "{what}: {answer}");
        assert_eq!(answer.matches("HTTP/1.").count(), 1, "{what}: one answer, then the end: {answer}");
    }
    assert_eq!(application.seen(), Vec::<String>::new());
}

const LOG: &str = r#"          access_log: [{name: f, typed_config: {"@type": type.googleapis.com/envoy.extensions.access_loggers.file.v3.FileAccessLog, path: PATH, log_format: {text_format_source: {inline_string: "%RESPONSE_CODE% %RESPONSE_FLAGS% %RESPONSE_CODE_DETAILS% %REQ(:METHOD)% %BYTES_SENT%\n"}}}}]
"#;

/// Waits until the log has these lines.
async fn logged(log: &std::path::Path, lines: &[&str]) {
    let read = || std::fs::read_to_string(log).unwrap_or_default();
    let waiting = async {
        while read().lines().ne(lines.iter().copied()) {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    // What is there instead is told.
    drop(tokio::time::timeout(Duration::from_secs(10), waiting).await);
    assert_eq!(read().lines().collect::<Vec<_>>(), lines);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_no_request_is_answered_counted_and_logged() {
    let log = tempfile::NamedTempFile::new().unwrap();
    let (_application, proxy, port) = guarded(&LOG.replace("PATH", log.path().to_str().unwrap())).await;
    let answer = raw(port, "GET / HTTP/1.1\r\nhost: a\r\nx-a : 1\r\n\r\n").await;
    assert_eq!(status(&answer), 400, "{answer}");
    assert!(answer.ends_with("\r\n\r\nBad Request"), "{answer}");
    for line in ["server: envoy\r\n", "date: ", "connection: close\r\n", "content-type: text/plain\r\n"] {
        assert!(answer.contains(line), "{line}: {answer}");
    }
    let large = format!("GET / HTTP/1.1\r\nhost: a\r\nx-a: {}\r\n\r\n", "x".repeat(70_000));
    assert_eq!(status(&raw(port, large).await), 431);
    // Its head was in order, its content is not.
    let head = "POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n";
    assert_eq!(status(&raw(port, format!("{head}zz\r\n")).await), 400);
    proxy.wait_for("http.in.downstream_cx_protocol_error", 3).await;
    proxy.wait_for("http.in.downstream_rq_4xx", 3).await;
    proxy.wait_for("http.in.downstream_rq_active", 0).await;
    proxy.wait_for("http.in.downstream_cx_active", 0).await;
    logged(
        log.path(),
        &[
            "400 DPE http1.codec_error - 11",
            "431 DPE http1.headers_too_large - 31",
            "400 DPE http1.codec_error POST 11",
        ],
    )
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_caller_that_goes_away_is_not_answered() {
    let log = tempfile::NamedTempFile::new().unwrap();
    let (_application, proxy, port) = guarded(&LOG.replace("PATH", log.path().to_str().unwrap())).await;
    for half in ["content-length: 9\r\n\r\nabc", "transfer-encoding: chunked\r\n\r\n3\r\nabc\r\n"] {
        let mut caller = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
        caller.write_all(format!("POST / HTTP/1.1\r\nhost: a\r\n{half}").as_bytes()).await.unwrap();
        caller.shutdown().await.unwrap();
        let mut answer = String::new();
        // A reset ends it too.
        let _ = soon(caller.read_to_string(&mut answer)).await;
        assert_eq!(answer, "");
    }
    let line = "0 DC downstream_remote_disconnect POST 0";
    logged(log.path(), &[line, line]).await;
    proxy.wait_for("http.in.downstream_rq_rx_reset", 2).await;
    proxy.wait_for("http.in.downstream_rq_active", 0).await;
    proxy.wait_for("http.in.downstream_cx_active", 0).await;
}

/// Writes what it is told to whoever connects, and closes.
async fn server_that_says(bytes: &'static str) -> u16 {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let mut head = Vec::new();
                while !head.ends_with(b"\r\n\r\n") {
                    if stream.read_buf(&mut head).await.unwrap_or_default() == 0 {
                        return;
                    }
                }
                stream.write_all(bytes.as_bytes()).await.unwrap();
            });
        }
    });
    port
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_no_response_is_the_servers_fault() {
    let before = "502 UPE upstream_reset_before_response_started{protocol_error} GET 87";
    let after = "200 UPE upstream_reset_after_response_started{protocol_error} GET 2";
    for (said, code, line) in [
        ("HTTP/1.1 200 OK\r\ncontent-length: 2\r\ncontent-length: 3\r\n\r\nok", 502, before),
        (
            "HTTP/1.1 200 OK\r\ncontent-length: 2\r\ntransfer-encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
            502,
            before,
        ),
        ("HTTP/1.1 200 OK\r\nx-a : 1\r\ncontent-length: 2\r\n\r\nok", 502, before),
        ("HTTP/1.1 101 Switching Protocols\r\nupgrade: x\r\nconnection: upgrade\r\n\r\n", 502, before),
        ("garbage\r\n\r\n", 502, before),
        ("HTTP/1.1 200 OK\r\ncontent-le", 502, before),
        ("HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nok", 200, after),
        ("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nokzz", 200, after),
    ] {
        let (server, port) = (server_that_says(said).await, free_port());
        let log = tempfile::NamedTempFile::new().unwrap();
        let manager = LOG.replace("PATH", log.path().to_str().unwrap());
        let listeners = http_listener(port, &manager, "", "");
        let proxy = Proxy::start(&listeners, &cluster("app", &[server], ""), "").await;
        let answer = get(port, "/", "").await;
        assert_eq!(status(&answer), code, "{said:?}: {answer}");
        logged(log.path(), &[line]).await;
        proxy.wait_for("cluster.app.upstream_cx_protocol_error", 1).await;
        proxy.wait_for("cluster.app.upstream_cx_active", 0).await;
    }
}

/// Half a request must not look like a whole one to the server, whatever has been answered already.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn content_that_breaks_off_ends_as_none() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (server, port) = (listener.local_addr().unwrap().port(), free_port());
    let clusters = cluster("app", &[server], "");
    let proxy = Proxy::start(&http_listener(port, "", "", ""), &clusters, "").await;
    for answers in [false, true] {
        let mut caller = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
        let head = "POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n";
        caller.write_all(format!("{head}3\r\nabc\r\n").as_bytes()).await.unwrap();
        let (mut upstream, _) = soon(listener.accept()).await.unwrap();
        let mut seen = Vec::new();
        while !seen.ends_with(b"3\r\nabc\r\n") {
            assert_ne!(soon(upstream.read_buf(&mut seen)).await.unwrap(), 0);
        }
        let mut answer = Vec::new();
        if answers {
            upstream
                .write_all(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nhi\r\n")
                .await
                .unwrap();
            while !answer.ends_with(b"hi\r\n") {
                assert_ne!(soon(caller.read_buf(&mut answer)).await.unwrap(), 0);
            }
        }
        caller.write_all(b"zz\r\n").await.unwrap();
        // A reset ends it too.
        let _ = soon(upstream.read_to_end(&mut seen)).await;
        assert!(seen.ends_with(b"3\r\nabc\r\n"), "{}", seen.escape_ascii());
        let _ = soon(caller.read_to_end(&mut answer)).await;
        let answer = String::from_utf8_lossy(&answer).into_owned();
        assert_eq!(status(&answer), if answers { 200 } else { 400 }, "{answer}");
        assert!(!answer.ends_with("0\r\n\r\n"), "{answer}");
    }
    proxy.wait_for("http.in.downstream_cx_protocol_error", 2).await;
    proxy.wait_for("http.in.downstream_rq_active", 0).await;
    proxy.wait_for("cluster.app.upstream_cx_active", 0).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_line_that_ends_in_a_bare_line_feed_is_written_anew() {
    let (application, _proxy, port) = guarded("").await;
    let answer = raw(port, "GET /one HTTP/1.1\r\nhost: a\nx-b: 1\nconnection: close\n\n").await;
    assert_eq!(status(&answer), 200, "{answer}");
    let seen = application.seen();
    assert_eq!(seen[0].matches('\n').count(), seen[0].matches("\r\n").count(), "{seen:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_body_that_is_no_http_is_the_callers_fault() {
    let (application, port) = (Application::start().await, free_port());
    let outliers = ", outlier_detection: {consecutive_5xx: 1, consecutive_gateway_failure: 1, max_ejection_percent: 100}";
    let clusters = cluster("app", &[application.port], outliers);
    let proxy = Proxy::start(&http_listener(port, "", "", ""), &clusters, "").await;
    for chunk in ["-3\r\nabc\r\n", "3\nabc\n", "fffffffffffffffff\r\nabc\r\n", "3\r\nabcd\r\n"] {
        let head = "POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n";
        let answer = raw(port, format!("{head}{chunk}0\r\n\r\n")).await;
        assert_eq!(status(&answer), 400, "{chunk:?}: {answer}");
    }
    assert_eq!(status(&get(port, "/", "").await), 200);
    proxy.wait_for("cluster.app.outlier_detection.ejections_enforced_total", 0).await;
    // A fault that is the application's own counts at once.
    *application.status.lock().unwrap() = "503 Service Unavailable";
    assert_eq!(status(&get(port, "/", "").await), 503);
    proxy.wait_for("cluster.app.outlier_detection.ejections_enforced_total", 1).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bytes_around_an_upgrade_reach_nobody_who_should_not_see_them() {
    let (application, _proxy, port) =
        guarded("          upgrade_configs: [{upgrade_type: websocket}]\n").await;
    let upgrade = "host: a\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n";
    let answer = raw(port, format!("GET /garbage-before-101 HTTP/1.1\r\n{upgrade}GET /admin HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n")).await;
    assert_eq!((status(&answer), answer.contains("garbage")), (502, false), "{answer}");
    assert!(!answer.contains(" 101 "), "{answer}");
    let answer = raw(
        port,
        format!(
            "GET /refuse HTTP/1.1\r\n{upgrade}GET /admin HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n"
        ),
    )
    .await;
    assert!(answer.starts_with("HTTP/1.1 200") && answer.contains("HTTP/1.1 403"), "{answer}");
    for framing in ["content-length: 45\r\n", "transfer-encoding: chunked\r\n"] {
        let head = format!("POST /refuse HTTP/1.1\r\n{framing}{upgrade}");
        let answer =
            raw(port, format!("{head}GET /admin HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n")).await;
        assert_eq!(status(&answer), 400, "{framing}: {answer}");
        assert_eq!(answer.matches("HTTP/1.1 2").count(), 0, "{framing}: {answer}");
    }
    assert!(!application.seen().iter().any(|head| head.contains("GET /admin")), "{:?}", application.seen());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_spelling_of_a_denied_path_is_let_through() {
    let (application, _proxy, port) = guarded("").await;
    for path in [
        "/admin",
        "/admin/x",
        "/x/../admin",
        "/%61dmin",
        "//admin",
        "/x/%2e%2e/admin",
        "/x/.%2e/admin",
        "/x/..%2fadmin",
        "/x%2f..%2fadmin",
        "/x/..;/admin",
        "/./admin",
        "/admin%00",
        "/%00admin",
        "/x\\..\\admin",
        "/%2fadmin",
        "/%5cadmin",
        "/admin#x",
        "/admin?x",
        "/x/..%5cadmin",
        "http://a.test/x/../admin",
        "/%2e/admin",
        "/x/%2E%2E%2Fadmin",
        "//x/..//admin",
    ] {
        let answer = get(port, path, "").await;
        assert!([400, 403].contains(&status(&answer)), "{path}: {answer}");
    }
    let seen = application.seen();
    assert!(seen.is_empty(), "{seen:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_path_inside_extended_connect_is_judged_like_any_other() {
    let allow = "          upgrade_configs: [{upgrade_type: websocket}]\n          http2_protocol_options: {allow_connect: true}\n";
    let (application, _proxy, port) = guarded(allow).await;
    for (path, code) in [("/x/../admin", 403), ("/x/%2e%2e/admin", 403), ("/fine/../ws", 200)] {
        let (mut sender, connection) = soon(h2_client(port)).await;
        let mut request =
            http::Request::builder().method("CONNECT").uri(format!("http://a.test{path}")).body(()).unwrap();
        request.extensions_mut().insert(h2::ext::Protocol::from("websocket"));
        let drive = tokio::spawn(connection);
        while !sender.is_extended_connect_protocol_enabled() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        let (response, mut stream) = sender.send_request(request, false).unwrap();
        let response = soon(response).await.unwrap();
        assert_eq!(response.status().as_u16(), code, "{path}");
        if code == 200 {
            stream.send_data("ping".into(), false).unwrap();
            let mut body = response.into_body();
            assert_eq!(soon(body.data()).await.unwrap().unwrap(), "ping");
        }
        drive.abort();
    }
    let seen = application.seen();
    assert_eq!(seen.len(), 1, "{seen:?}");
    assert!(
        seen[0].starts_with("GET /ws HTTP/1.1\r\n") && seen[0].contains("sec-websocket-key: "),
        "{seen:?}"
    );
}

async fn h2_client(port: u16) -> (h2::client::SendRequest<bytes::Bytes>, h2::client::Connection<TcpStream>) {
    let tcp = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
    h2::client::handshake(tcp).await.unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_denied_value_is_found_among_several() {
    let (_application, _proxy, port) = guarded("").await;
    for headers in
        ["x-tenant: evil\r\n", "x-tenant: good\r\nx-tenant: evil\r\n", "X-Tenant: evil\r\nx-tenant: good\r\n"]
    {
        assert_eq!(status(&get(port, "/", headers).await), 403, "{headers:?}");
    }
    assert_eq!(status(&get(port, "/", "x-tenant: good\r\n").await), 200);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_caller_cannot_say_who_it_is_or_where_it_came_from() {
    let (_application, _proxy, port) = guarded("").await;
    let spoofed =
        "x-forwarded-client-cert: By=spiffe://evil\r\nx-envoy-internal: true\r\nx-envoy-retry-on: 5xx\r\n";
    let seen = get(port, "/", spoofed).await;
    assert!(
        !seen.contains("evil") && !seen.contains("x-envoy-internal") && !seen.contains("retry-on"),
        "{seen}"
    );
    let named = raw(port, "GET / HTTP/1.1\r\nhost: a\r\nx-a: 1\r\nx-b: 2\r\nconnection: x-a\r\nconnection: close, x-b, x-request-id, x-forwarded-proto, host\r\n\r\n").await;
    assert!(!named.contains("x-a:") && !named.contains("x-b:"), "{named}");
    for kept in ["host: a", "x-request-id: ", "x-forwarded-proto: http"] {
        assert!(named.contains(kept), "{kept}: {named}");
    }
    // The last address of the list is the one that the hop before wrote, on whichever line it is.
    let away = get(port, "/", "x-forwarded-for: 1.1.1.1\r\nx-forwarded-for: 6.6.6.6\r\n").await;
    assert_eq!(status(&away), 403, "{away}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_edge_believes_its_own_eyes() {
    let (_application, _proxy, port) =
        guarded("          use_remote_address: true\n          xff_num_trusted_hops: 1\n").await;
    let seen = get(port, "/", "x-forwarded-for: 6.6.6.6\r\nx-forwarded-for: 7.7.7.7\r\nx-request-id: mine\r\nx-envoy-original-path: /z\r\n").await;
    assert!(seen.contains("x-forwarded-for: 6.6.6.6,7.7.7.7,127.0.0.1\r\n"), "{seen}");
    assert!(seen.contains("x-envoy-external-address: 7.7.7.7\r\n"), "{seen}");
    assert!(!seen.contains("mine") && !seen.contains("original-path"), "{seen}");
    let away = get(port, "/", "x-forwarded-for: 1.1.1.1\r\nx-forwarded-for: 6.6.6.6\r\n").await;
    assert_eq!(status(&away), 403, "{away}");
}

/// Bytes of an h2 frame.
fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let mut bytes = u32::try_from(payload.len()).unwrap().to_be_bytes()[1..].to_vec();
    bytes.extend([kind, flags]);
    bytes.extend(stream.to_be_bytes());
    bytes.extend(payload);
    bytes
}

fn h2_opening() -> Vec<u8> {
    let mut bytes = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
    bytes.extend(frame(4, 0, 0, &[]));
    bytes
}

/// `:method GET, :scheme http, :path /, :authority a`.
const GET_A: &[u8] = &[0x82, 0x86, 0x84, 0x41, 0x01, b'a'];

async fn pour(port: u16, bytes: Vec<u8>, times: usize) {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
    let mut sink = vec![0; 64 * 1024];
    if stream.write_all(&h2_opening()).await.is_err() {
        return;
    }
    for _ in 0..times {
        // The proxy may close whenever it has had enough.
        if stream.write_all(&bytes).await.is_err() {
            return;
        }
        while stream.try_read(&mut sink).is_ok_and(|n| n > 0) {}
    }
}

/// Far more than the buffers between two sockets hold.
const NEVER: usize = 64 << 20;

/// Begins a head and goes on with it; how much of that went out before the proxy broke off.
async fn never_ends(port: u16, more: &[u8]) -> usize {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
    stream.write_all(&[h2_opening(), frame(1, 1, 1, GET_A)].concat()).await.unwrap();
    let (mut sink, mut taken) = (vec![0; 64 * 1024], 0);
    while taken < NEVER {
        if stream.write_all(more).await.is_err() {
            break;
        }
        taken += more.len();
        while stream.try_read(&mut sink).is_ok_and(|n| n > 0) {}
    }
    taken
}

/// Begins a head and sends the rest of it; whether an answer begins.
async fn is_answered(port: u16, rest: Vec<u8>) -> bool {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
    stream.write_all(&[h2_opening(), frame(1, 1, 1, GET_A), rest].concat()).await.unwrap();
    loop {
        let mut head = [0; 9];
        if stream.read_exact(&mut head).await.is_err() {
            return false;
        }
        let [a, b, c, kind, ..] = head;
        let mut payload = vec![0; u32::from_be_bytes([0, a, b, c]) as usize];
        stream.read_exact(&mut payload).await.unwrap();
        // The first byte of the answer's fields is `:status 200`.
        if kind == 1 {
            return payload.first() == Some(&0x88);
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn floods_over_http2_cost_little_memory_and_harm_nobody_else() {
    let (_application, proxy, port) = guarded("").await;
    assert_eq!(status(&get(port, "/", "").await), 200);
    let before = proxy.peak_memory();
    // Streams that are opened and reset at once.
    let resets: Vec<u8> = (0..5_000_u32)
        .flat_map(|n| [frame(1, 5, 2 * n + 1, GET_A), frame(3, 0, 2 * n + 1, &[0, 0, 0, 8])].concat())
        .collect();
    soon(pour(port, resets, 1)).await;
    // A head that goes on is one, until it goes on without end: full of headers, or of nothing.
    let literal = |count| std::iter::repeat_n([0x00, 0x01, b'x', 0x01, b'y'], count).flatten().collect();
    let (some, many): (Vec<u8>, Vec<u8>) = (literal(30), literal(3_000));
    let (goes_on, ends) = (frame(9, 0, 1, &some), frame(9, 4, 1, &some));
    assert!(soon(is_answered(port, [goes_on, ends].concat())).await, "a head in three frames");
    for (what, more) in [("headers", frame(9, 0, 1, &many)), ("nothing", frame(9, 0, 1, &[]).repeat(1_000))] {
        let taken = soon(never_ends(port, &more)).await;
        assert!(taken < NEVER, "a head that goes on with {what} was taken for {taken} bytes");
    }
    // One large header in the table, named thousands of times.
    let mut bomb = GET_A.to_vec();
    bomb.extend([0x40, 0x01, b'x', 0x7f, 0x81, 0x1e]);
    bomb.extend(std::iter::repeat_n(b'a', 4_000));
    bomb.extend(std::iter::repeat_n(0xbe, 10_000));
    let bombs: Vec<u8> = (0..50_u32).flat_map(|n| frame(1, 5, 2 * n + 1, &bomb)).collect();
    soon(pour(port, bombs, 1)).await;
    // Data frames without data, pings and settings that want answers.
    let mut nothing = frame(1, 4, 1, GET_A);
    nothing.extend((0..50_000).flat_map(|_| frame(0, 0, 1, &[])));
    soon(pour(port, nothing, 1)).await;
    soon(pour(port, frame(6, 0, 0, &[0; 8]).repeat(20_000), 1)).await;
    soon(pour(port, frame(4, 0, 0, &[]).repeat(20_000), 1)).await;
    assert_eq!(status(&get(port, "/", "").await), 200, "others are served");
    let grown = proxy.peak_memory() - before;
    assert!(grown < 32 * 1024 * 1024, "the floods cost {grown} bytes");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn too_many_or_too_large_headers_are_refused_in_both_protocols() {
    let log = tempfile::NamedTempFile::new().unwrap();
    let (application, _proxy, port) = guarded(&LOG.replace("PATH", log.path().to_str().unwrap())).await;
    let many: String = (0..101).map(|n| format!("x-{n}: a\r\n")).collect();
    assert_eq!(status(&get(port, "/", &many).await), 431);
    assert_eq!(status(&get(port, "/", &format!("x-a: {}\r\n", "a".repeat(70_000))).await), 431);
    let (mut sender, connection) = soon(h2_client(port)).await;
    let drive = tokio::spawn(connection);
    let request = || http::Request::builder().uri("http://a.test/");
    let many = (0..150).fold(request(), |request, n| request.header(format!("x-{n}"), "a"));
    let large = |size| request().header("x-a", "a".repeat(size));
    // The last is more than is read of any head: h2 refuses it by itself.
    for (request, by_the_proxy) in [(many, true), (large(70_000), true), (large(130_000), false)] {
        let (response, _) = sender.send_request(request.body(()).unwrap(), true).unwrap();
        let answer = soon(response).await.unwrap();
        let seen = (answer.status().as_u16(), answer.headers().contains_key("server"));
        assert_eq!(seen, (431, by_the_proxy), "{answer:?}");
        let mut body = answer.into_body();
        while soon(body.data()).await.is_some() {}
    }
    drive.abort();
    logged(
        log.path(),
        &[
            "431 DPE http1.too_many_headers - 31",
            "431 DPE http1.headers_too_large - 31",
            "431 - too_many_headers GET 0",
            "431 - headers_too_large GET 0",
        ],
    )
    .await;
    assert!(application.seen().is_empty());
}

/// Sends `first`, then a byte every now and then; how long the proxy bears it.
async fn drip(port: u16, first: &[u8]) -> Duration {
    let began = Instant::now();
    soon(async {
        let mut stream = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
        stream.write_all(first).await.unwrap();
        let (mut from, mut to) = stream.into_split();
        let dripping = tokio::spawn(async move {
            while to.write_all(b"x").await.is_ok() {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        });
        let mut sink = Vec::new();
        // A reset ends a connection too.
        let _ = from.read_to_end(&mut sink).await;
        dripping.abort();
    })
    .await;
    began.elapsed()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn slow_heads_and_slow_handshakes_are_given_up() {
    let application = Application::start().await;
    let (plain, tls) = (free_port(), free_port());
    let key = rcgen::generate_simple_self_signed(vec!["a.test".into()]).unwrap();
    let indent = |pem: String| pem.lines().map(|line| format!("              {line}\n")).collect::<String>();
    let chain = format!(
        "      transport_socket_connect_timeout: 0.5s\n      transport_socket:\n        name: tls\n        typed_config:\n          \"@type\": type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext\n          common_tls_context:\n            tls_certificates:\n            - certificate_chain:\n                inline_string: |\n{}              private_key:\n                inline_string: |\n{}",
        indent(key.cert.pem()).replace("              ", "                  "),
        indent(key.signing_key.serialize_pem()).replace("              ", "                  "),
    );
    let timeout = "          request_headers_timeout: 0.5s\n          request_timeout: 1s\n";
    let listeners = [http_listener(plain, timeout, "", ""), http_listener(tls, timeout, "", &chain)].concat();
    let proxy = Proxy::start(&listeners, &cluster("app", &[application.port], ""), "").await;
    let head = b"GET / HTTP/1.1\r\nhost: a\r\nx-slow: ";
    let second = b"GET / HTTP/1.1\r\nhost: a\r\n\r\nGET / HTTP/1.1\r\nhost: a\r\nx-slow: ";
    let body = b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 100000\r\n\r\n";
    for (what, port, first) in [
        ("a first head", plain, &head[..]),
        ("a later head", plain, &second[..]),
        ("a body", plain, &body[..]),
        ("a handshake", tls, &b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"[..]),
    ] {
        let borne = drip(port, first).await;
        assert!(borne < Duration::from_secs(8), "{what} was borne for {borne:?}");
    }
    proxy.wait_for("http.in.downstream_cx_active", 0).await;
}
