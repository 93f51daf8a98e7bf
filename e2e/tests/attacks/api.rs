//! Somebody reaches the REST API or the admin endpoint without the token, with a part of it, or with documents that are
//! made to hurt; and somebody reads what the control plane writes down.

use std::time::Duration;

use anyhow::{Context as _, ensure};
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD_NO_PAD, URL_SAFE_NO_PAD};
use bytes::Bytes;
use http::{HeaderValue, Request};
use http_body_util::Full;
use rustls::pki_types::PrivatePkcs8KeyDer;
use rustls::pki_types::pem::PemObject as _;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::Instant;
use tokio::time::error::Elapsed;
use weft_api::JoinToken;
use weft_api::ResourceKind;
use weft_api::join::ProxyType;
use weft_e2e::harness::{
    Answer, Calls, Joined, Mesh, NewKey, Options, StoreKind, XdsStream, described, join,
};

use crate::ground::{ANSWER, Attacks, enter, on_the_embedded_store, service};

/// A body may pause for 30 s, a head for 10 s, and a connection without a call for 60 s.
const HALF: Duration = Duration::from_secs(75);

const METHODS: [&str; 7] = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"];
/// All but the page, which says nothing of the mesh, and `POST /v1/session`, which a token goes into.
const PATHS: [&str; 20] = [
    "/v1",
    "/v1/apply",
    "/v1/services",
    "/v1/workloads",
    "/v1/namespaces/shop/services/web",
    "/v1/namespaces/shop/workloads/web-1",
    "/v1/proxies",
    "/v1/proxies/shop%2Fweb-1",
    "/v1/proxies/shop%2Fweb-1/config",
    "/v1/proxies/shop%2Fweb-1/revoke",
    "/v1/edges",
    "/v1/edges/series",
    "/v1/watch/edges",
    "/v1/tokens",
    "/v1/tokens/t-0",
    "/v1/ca",
    "/v1/backup",
    "/v1/login-codes",
    "/openapi.json",
    "/v1/../openapi.json",
];

on_the_embedded_store!(
    nothing_is_answered_without_the_token,
    nothing_but_the_whole_token_opens,
    documents_that_are_made_to_hurt_are_refused_soon,
    requests_that_are_made_to_hurt_are_refused,
    admin_endpoint_shows_and_changes_nothing_secret,
    operator_token_that_was_replaced_opens_nothing,
    half_a_request_is_not_waited_for,
);

async fn nothing_is_answered_without_the_token(mesh: &mut Mesh) -> anyhow::Result<()> {
    mesh.apply(&service("web")).await?;
    let mut attacks = Attacks::default();
    for path in PATHS {
        for method in METHODS {
            let answer = mesh.send(method, path, |_| {}).await?;
            attacks.held(format!("{method} {path}"), is_401(&answer));
        }
    }
    attacks.end()?;
    ensure!(mesh.client().tokens().await?.items.is_empty(), "a token was made");
    Ok(())
}

fn is_401(answer: &Answer) -> anyhow::Result<()> {
    ensure!(answer.status == 401, "{} {}", answer.status, answer.body);
    let cross_origin = answer.headers.keys().find(|name| name.as_str().starts_with("access-control-"));
    ensure!(cross_origin.is_none(), "{cross_origin:?}");
    Ok(())
}

async fn nothing_but_the_whole_token_opens(mesh: &mut Mesh) -> anyhow::Result<()> {
    mesh.apply(&service("web")).await?;
    let token = mesh.operator_token()?;
    let joining = mesh.token("shop/web").await?;
    let (upper, lower) = (token.to_uppercase(), token.to_lowercase());
    let mut attacks = Attacks::default();
    for value in [
        String::new(),
        "Bearer".to_owned(),
        "Bearer ".to_owned(),
        token.clone(),
        format!("Basic {token}"),
        format!("Bearer: {token}"),
        format!("Bearer {}", &token[..token.len() - 1]),
        format!("Bearer {token}x"),
        format!("Bearer {upper}"),
        format!("Bearer {lower}"),
        format!("Bearer {}", token.trim_start_matches("weftop.")),
        format!("Bearer weftop.{}", "A".repeat(43)),
        format!("Bearer {}", "A".repeat(50)),
        format!("Bearer {}", joining.token),
        format!("Bearer {token} {token}"),
        format!("Bearer {token},{token}"),
        format!("Bearer \"{token}\""),
        "Bearer \u{e9}".to_owned(),
    ] {
        let header = HeaderValue::from_bytes(value.as_bytes())?;
        let answer =
            mesh.send("GET", "/v1/tokens", |headers| drop(headers.insert("authorization", header))).await?;
        attacks.held(format!("authorization of {} bytes: {:.12}", value.len(), value), is_401(&answer));
    }
    for name in ["cookie", "x-api-key", "x-weft-token", "proxy-authorization", "x-forwarded-authorization"] {
        let value = HeaderValue::from_str(&format!("Bearer {token}"))?;
        let answer = mesh.send("GET", "/v1/tokens", |headers| drop(headers.insert(name, value))).await?;
        attacks.held(name, is_401(&answer));
    }
    for path in [
        format!("/v1/tokens?token={token}"),
        format!("/v1/tokens?access_token={token}"),
        format!("/v1/{token}"),
    ] {
        let answer = mesh.send("GET", &path, |_| {}).await?;
        attacks.held("the token in the path", is_401(&answer));
    }
    attacks.end()?;
    let value = HeaderValue::from_str(&format!("Bearer {token}"))?;
    let answer =
        mesh.send("GET", "/v1/tokens", |headers| drop(headers.insert("authorization", value))).await?;
    ensure!(answer.status == 200, "the true token: {} {}", answer.status, answer.body);
    Ok(())
}

async fn documents_that_are_made_to_hurt_are_refused_soon(mesh: &mut Mesh) -> anyhow::Result<()> {
    let aliases: String = (1..30).fold("a: &a0 [x, x]\n".to_owned(), |text, n| {
        let of = n - 1;
        text + &format!("a{n}: &a{n} [{}]\n", vec![format!("*a{of}"); 9].join(", "))
    });
    let with = |spec: &str| {
        format!(
            "apiVersion: weft.dev/v1\nkind: HTTPRoute\nmetadata: {{name: x, namespace: shop}}\nspec: {spec}\n"
        )
    };
    let regex = with(
        r#"{parentRefs: [{kind: Service, name: web, port: 80}], rules: [{matches: [{path: {type: RegularExpression, value: "((a{0,1000}){0,1000}){0,1000}"}}]}]}"#,
    );
    let mut attacks = Attacks::default();
    for (attack, body) in [
        ("aliases that multiply", aliases),
        ("a depth of 100,000 in flow style", "[".repeat(100_000)),
        ("a depth of 100,000 in JSON", format!("{}{}", "{\"a\":".repeat(100_000), "}".repeat(100_000))),
        (
            "a depth of 10,000 by indentation",
            (0..10_000).map(|n| format!("{}a:\n", " ".repeat(n.min(300)))).collect(),
        ),
        ("20,000 documents", "---\na: 1\n".repeat(20_000)),
        ("a recursive alias", "a: &a [*a]\n".to_owned()),
        ("a tag", with("!!python/object:os.system {}")),
        ("NUL", with("\"\0\"")),
        ("a regular expression that explodes", regex),
        ("a million keys", (0..500_000).map(|n| format!("k{n}: 1\n")).collect()),
        ("a duplicate key", with("{}") + "spec: {}\n"),
        ("a merge key", with("{<<: {parentRefs: []}}")),
    ] {
        let began = Instant::now();
        let answer = mesh.call("POST", "/v1/apply", &body).await;
        let held = match answer {
            Ok(answer) if (400..500).contains(&answer.status) && answer.body.len() < 4 << 20 => Ok(()),
            Ok(answer) => Err(anyhow::anyhow!("{} with {} bytes", answer.status, answer.body.len())),
            Err(error) => Err(error),
        };
        let took = began.elapsed();
        attacks.held(attack, held);
        let soon =
            if took < Duration::from_secs(8) { Ok(()) } else { Err(anyhow::anyhow!("it took {took:?}")) };
        attacks.held(attack, soon);
    }
    attacks.end()?;
    mesh.apply(&service("web")).await.context("an honest document afterwards")
}

/// Each carries the token and asks for what is there, so that nothing but its form can be the reason.
async fn requests_that_are_made_to_hurt_are_refused(mesh: &mut Mesh) -> anyhow::Result<()> {
    let mut attacks = Attacks::default();
    for (attack, path, bytes) in
        [("an apply of 9 MiB", "/v1/apply", 9 << 20), ("a token request of 2 MiB", "/v1/tokens", 2 << 20)]
    {
        let answer = mesh.call("POST", path, &"x".repeat(bytes)).await;
        let held = match answer {
            Ok(answer) if answer.status == 413 => Ok(()),
            Ok(answer) => Err(anyhow::anyhow!("{}", answer.status)),
            Err(error) if error.is::<Elapsed>() => Err(error),
            // The connection may be closed while the body is still being sent.
            Err(_) => Ok(()),
        };
        attacks.held(attack, held);
    }
    // What fits is read, and found to be no document.
    let read = mesh.call("POST", "/v1/apply", &"x".repeat(7 << 20)).await?;
    ensure!(read.status == 422, "an apply of 7 MiB: {}", read.status);

    let api = mesh.client().api().trim_start_matches("http://").to_owned();
    let token = mesh.operator_token()?;
    let head = |line: &str| format!("{line}\r\nhost: x\r\nauthorization: Bearer {token}\r\n");
    let get = head("GET /v1/tokens HTTP/1.1");
    let (long, name) = ("a".repeat(1 << 20), "x: y\r\n");
    for (attack, request, expected) in [
        ("no attack", format!("{get}connection: close\r\n\r\n"), 200),
        ("a header of 1 MiB", format!("{get}x: {long}\r\n\r\n"), 431),
        ("2,000 headers", format!("{get}{}\r\n", name.repeat(2_000)), 431),
        ("a path of 1 MiB", format!("{}\r\n", head(&format!("GET /{long} HTTP/1.1"))), 431),
        ("two lengths", format!("{get}content-length: 1\r\ncontent-length: 2\r\n\r\nxx"), 400),
        // RFC 9112, 6.1: chunks alone count, and the connection ends.
        (
            "a length and chunks",
            format!("{get}content-length: 4\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n{get}\r\n"),
            200,
        ),
        ("a negative length", format!("{get}content-length: -1\r\n\r\n"), 400),
        ("a header without a name", format!("{get}: x\r\n\r\n"), 400),
        ("a space before the colon", format!("{get}x : y\r\n\r\n"), 400),
        ("HTTP/9.9", format!("{}\r\n", head("GET /v1/tokens HTTP/9.9")), 400),
        ("noise", "\u{0}\u{1}\u{2}\u{3}\r\n\r\n".to_owned(), 400),
    ] {
        let held = raw(&api, request.as_bytes()).await.and_then(|answer| {
            let status = answer.split(' ').nth(1).and_then(|status| status.parse::<u16>().ok());
            let answers = answer.matches("HTTP/1.1 ").count();
            ensure!(status == Some(expected) && answers == 1, "instead of {expected}: {answer:.200}");
            Ok(())
        });
        attacks.held(attack, held);
    }
    attacks.end()?;
    mesh.client().tokens().await.context("an honest request afterwards")?;
    Ok(())
}

/// Sends bytes and reads what comes until the other side closes.
async fn raw(address: &str, request: &[u8]) -> anyhow::Result<String> {
    let stream = TcpStream::connect(address).await?;
    let (mut from, mut to) = stream.into_split();
    let mut answer = Vec::new();
    let both = async {
        // It may answer and close before everything is sent.
        tokio::join!(to.write_all(request), from.read_to_end(&mut answer))
    };
    let ended = tokio::time::timeout(ANSWER, both).await;
    let answer = String::from_utf8_lossy(&answer).into_owned();
    // A reset ends a connection too.
    drop(ended.with_context(|| format!("it is still open after {answer:.200}"))?);
    Ok(answer)
}

/// L3: who says half of something, or nothing, keeps no connection on either port.
async fn half_a_request_is_not_waited_for(mesh: &mut Mesh) -> anyhow::Result<()> {
    let token = mesh.operator_token()?;
    let body = format!(
        "POST /v1/apply HTTP/1.1\r\nhost: 127.0.0.1\r\nauthorization: Bearer {token}\r\n\
         content-type: application/yaml\r\ncontent-length: 100\r\n\r\nkind: "
    );
    let half = "GET /healthz HTTP/1.1\r\nhost: 127.0.0.1\r\n";
    let (api, admin) = (mesh.control_plane().api(), mesh.admin());
    let deadline = Instant::now() + HALF;
    let waits = [
        ("half a head to the API", &api, half),
        ("half a body to the API", &api, body.as_str()),
        ("half a head to the admin endpoint", &admin, half),
        ("nothing to the admin endpoint", &admin, ""),
        ("nothing to the API", &api, ""),
    ]
    .map(|(what, url, said)| async move {
        let ended = async {
            let mut stream = TcpStream::connect(url.trim_start_matches("http://")).await?;
            stream.write_all(said.as_bytes()).await?;
            // A reset ends a connection too.
            drop(tokio::time::timeout_at(deadline, stream.read_to_end(&mut Vec::new())).await?);
            anyhow::Ok(())
        };
        (what, ended.await.context("it is still open"))
    });
    let mut attacks = Attacks::default();
    for (what, ended) in futures::future::join_all(waits).await {
        attacks.held(what, ended);
    }
    attacks.end()
}

async fn admin_endpoint_shows_and_changes_nothing_secret(mesh: &mut Mesh) -> anyhow::Result<()> {
    mesh.apply(&service("web")).await?;
    let calls = Calls::direct();
    let mut attacks = Attacks::default();
    for path in [
        "/quitquitquit",
        "/v1/tokens",
        "/v1/apply",
        "/config_dump",
        "/debug/pprof",
        "/dump/../v1/ca",
        "//v1/ca",
    ] {
        for method in ["GET", "POST", "PUT", "DELETE"] {
            let request = Request::builder()
                .method(method)
                .uri(format!("{}{path}", mesh.admin()))
                .body(Full::new(Bytes::new()))?;
            let answer = calls.send(request).await?;
            let held = if answer.status >= 400 { Ok(()) } else { Err(anyhow::anyhow!("{}", answer.status)) };
            attacks.held(format!("{method} {path}"), held);
        }
    }
    attacks.end()
}

/// The log at its most talkative.
#[tokio::test]
async fn secrets_are_written_nowhere() {
    let options = Options::new(StoreKind::Embedded).log("trace");
    Mesh::run(options, no_secret_is_written).await;
}

/// The log, the dumps, what a proxy was sent, and the store's file.
async fn no_secret_is_written(mesh: &mut Mesh) -> anyhow::Result<()> {
    mesh.apply(&service("web")).await?;
    let operator = mesh.operator_token()?;
    let made = mesh.token("shop/web").await?;
    let token: JoinToken = made.token.parse()?;
    let mut workload = described("web-1", mesh.next_address());
    workload.proxy_type = ProxyType::Envoy.into();
    let joined = join(&made.token, &NewKey::plain()?, workload).await?;
    let (_stream, key) = key_by_sds(mesh, &joined).await?;
    let refused = enter(mesh, "shop/web", described("-", std::net::Ipv4Addr::LOCALHOST)).await;
    ensure!(refused.is_err(), "a bad name was taken");

    let seal = std::fs::read_to_string(mesh.dir().join("data/seal.key"))?;
    let mut secrets = vec![
        ("the operator's token", operator.trim_start_matches("weftop.").as_bytes().to_vec()),
        ("a join token", made.token.trim_start_matches("weft1.").as_bytes().to_vec()),
        ("the sealing key", seal.trim().as_bytes().to_vec()),
        ("a private key in PEM", b"PRIVATE KEY".to_vec()),
        ("a private key in DER", EC_PRIVATE_KEY.to_vec()),
    ];
    secrets.extend(spelled("a join token's secret", &token.secret));
    let scalar = key.windows(EC_PRIVATE_KEY.len()).position(|window| window == EC_PRIVATE_KEY);
    let scalar = scalar.context("the workload's key is no EC key in DER")? + EC_PRIVATE_KEY.len();
    secrets.extend(spelled("a workload's private key", &key));
    secrets.extend(spelled("the number of a workload's private key", &key[scalar..][..32]));

    let places = places(mesh).await?;
    let mut attacks = Attacks::default();
    for (what, secret) in secrets {
        for (place, bytes) in &places {
            let held = if contains(bytes, &secret) { Err(anyhow::anyhow!("it is there")) } else { Ok(()) };
            attacks.held(format!("{what} in {place}"), held);
        }
    }
    attacks.end()
}

/// How the private key of a curve begins in DER, up to its 32 bytes: `ECPrivateKey`, version 1 (RFC 5915). Inside of
/// PKCS #8 it is the same.
const EC_PRIVATE_KEY: &[u8] = &[0x02, 0x01, 0x01, 0x04, 0x20];

/// The private key that a stock Envoy is sent by SDS, in DER, and the stream that brought it.
async fn key_by_sds(mesh: &Mesh, joined: &Joined) -> anyhow::Result<(XdsStream, Vec<u8>)> {
    let mut stream = joined.stream(mesh.xds()).await?;
    stream.ask(ResourceKind::Secret, &["identity", "bundle"]).await;
    loop {
        let given = stream.expect(ResourceKind::Secret, ANSWER).await.context("no key is given")?;
        let text: Vec<u8> = given.resources.iter().flat_map(|any| any.value.clone()).collect();
        if let Some(start) = text.windows(PEM.len()).position(|window| window == PEM) {
            let key = PrivatePkcs8KeyDer::from_pem_slice(&text[start..])?;
            return Ok((stream, key.secret_pkcs8_der().to_vec()));
        }
        stream.ack(ResourceKind::Secret, &["identity", "bundle"], &given).await;
    }
}

const PEM: &[u8] = b"-----BEGIN PRIVATE KEY-----";

/// Bytes, and the ways in which programs write bytes down.
fn spelled(what: &'static str, bytes: &[u8]) -> Vec<(&'static str, Vec<u8>)> {
    let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    let numbers: Vec<String> = bytes.iter().map(u8::to_string).collect();
    // What stands before the first bytes moves the letters of base64: three beginnings, each without its edges.
    let base64 = [STANDARD_NO_PAD, URL_SAFE_NO_PAD].into_iter().flat_map(|alphabet| {
        (0..3).map(move |skipped| alphabet.encode(&bytes[skipped..][..(bytes.len() - skipped) / 3 * 3]))
    });
    [hex.to_uppercase(), hex, numbers.join(","), numbers.join(", ")]
        .into_iter()
        .chain(base64)
        .map(String::into_bytes)
        .chain([bytes.to_vec()])
        .map(|spelling| (what, spelling))
        .collect()
}

/// All that the control plane writes and shows, each with something of what belongs there.
async fn places(mesh: &Mesh) -> anyhow::Result<Vec<(&'static str, Vec<u8>)>> {
    let mut places = Vec::new();
    for (path, belongs) in [("/dump", "web-1"), ("/metrics", "weft_")] {
        let answer = Calls::direct().get(&format!("{}{path}", mesh.admin())).await?;
        ensure!(answer.status == 200 && answer.body.contains(belongs), "{path}: {}", answer.body);
        places.push((path, answer.body.into_bytes()));
    }
    for (path, belongs) in [
        ("/v1/tokens", "shop/web"),
        ("/v1/proxies", "web-1"),
        ("/v1/proxies/shop%2Fweb-1/config", "outbound"),
        ("/v1/ca", "issuer"),
        ("/v1/workloads", "web-1"),
    ] {
        let answer = mesh.call("GET", path, "").await?;
        ensure!(answer.status == 200 && answer.body.contains(belongs), "{path}: {}", answer.body);
        places.push((path, answer.body.into_bytes()));
    }
    for (place, file, belongs) in
        [("the log", "control-plane.log", "TRACE"), ("the store", "data/weft.redb", "web-1")]
    {
        let bytes = std::fs::read(mesh.dir().join(file))?;
        ensure!(contains(&bytes, belongs.as_bytes()), "{place} does not have {belongs}");
        places.push((place, bytes));
    }
    Ok(places)
}

fn contains(bytes: &[u8], wanted: &[u8]) -> bool {
    bytes.windows(wanted.len()).any(|window| window == wanted)
}

/// M6: a token that leaked is removed, and the control plane makes another at its next start.
async fn operator_token_that_was_replaced_opens_nothing(mesh: &mut Mesh) -> anyhow::Result<()> {
    let leaked = mesh.operator_token()?;
    std::fs::remove_file(mesh.dir().join("data/operator.token"))?;
    mesh.control_plane().kill()?;
    mesh.control_plane().start().await?;
    let fresh = mesh.operator_token()?;
    ensure!(fresh != leaked, "it is the same token");
    for (token, status) in [(leaked, 401), (fresh, 200)] {
        let value = HeaderValue::from_str(&format!("Bearer {token}"))?;
        let answer =
            mesh.send("GET", "/v1/tokens", |headers| drop(headers.insert("authorization", value))).await?;
        ensure!(answer.status == status, "{} instead of {status}: {}", answer.status, answer.body);
    }
    Ok(())
}
