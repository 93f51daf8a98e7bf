//! Somebody reaches the REST API or the admin endpoint without the token, with a part of it, or with documents that are
//! made to hurt; and somebody reads what the control plane writes down.

use std::time::Duration;

use anyhow::{Context as _, ensure};
use bytes::Bytes;
use http::{HeaderValue, Request};
use http_body_util::Full;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use weft_api::JoinToken;
use weft_api::ResourceKind;
use weft_api::join::ProxyType;
use weft_e2e::harness::{Answer, Calls, Mesh, NewKey, described, join};

use crate::ground::{ANSWER, Attacks, enter, on_the_embedded_store, service};

/// A body may pause for 30 s, a head for 10 s, and a connection without a call for 60 s.
const HALF: Duration = Duration::from_secs(75);

const METHODS: [&str; 7] = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"];
const PATHS: [&str; 18] = [
    "/",
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
    "/v1/tokens",
    "/v1/tokens/t-0",
    "/v1/ca",
    "/v1/backup",
    "/openapi.json",
    "/v1/../openapi.json",
];

on_the_embedded_store!(
    nothing_is_answered_without_the_token,
    nothing_but_the_whole_token_opens,
    documents_that_are_made_to_hurt_are_refused_soon,
    requests_that_are_made_to_hurt_are_refused,
    admin_endpoint_shows_and_changes_nothing_secret,
    secrets_are_written_nowhere,
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
        let began = tokio::time::Instant::now();
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

async fn requests_that_are_made_to_hurt_are_refused(mesh: &mut Mesh) -> anyhow::Result<()> {
    let mut attacks = Attacks::default();
    for (attack, path, bytes) in
        [("an apply of 9 MiB", "/v1/apply", 9 << 20), ("a token request of 2 MiB", "/v1/tokens", 2 << 20)]
    {
        let answer = mesh.call("POST", path, &"x".repeat(bytes)).await;
        // The connection may be closed while the body is still being sent.
        let held = match answer {
            Ok(answer) if answer.status == 413 || answer.status == 400 => Ok(()),
            Err(_) => Ok(()),
            Ok(answer) => Err(anyhow::anyhow!("{}", answer.status)),
        };
        attacks.held(attack, held);
    }
    let api = mesh.client().api().trim_start_matches("http://").to_owned();
    let head = "GET /v1/tokens HTTP/1.1\r\nhost: x\r\n";
    for (attack, request) in [
        ("a header of 1 MiB", format!("{head}x: {}\r\n\r\n", "a".repeat(1 << 20))),
        ("2,000 headers", format!("{head}{}\r\n", "x: y\r\n".repeat(2_000))),
        ("a path of 1 MiB", format!("GET /{} HTTP/1.1\r\nhost: x\r\n\r\n", "a".repeat(1 << 20))),
        ("two lengths", format!("{head}content-length: 1\r\ncontent-length: 2\r\n\r\nxx")),
        (
            "a length and chunks",
            format!("{head}content-length: 4\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n"),
        ),
        ("a negative length", format!("{head}content-length: -1\r\n\r\n")),
        ("a header without a name", format!("{head}: x\r\n\r\n")),
        ("a space before the colon", format!("{head}x : y\r\n\r\n")),
        ("HTTP/9.9", "GET / HTTP/9.9\r\n\r\n".to_owned()),
        ("noise", "\u{0}\u{1}\u{2}\u{3}\r\n\r\n".to_owned()),
    ] {
        let answer = raw(&api, request.as_bytes()).await?;
        let status = answer.split(' ').nth(1).unwrap_or_default().to_owned();
        let held = match status.as_str() {
            "" | "400" | "401" | "413" | "414" | "431" | "505" => Ok(()),
            _ => Err(anyhow::anyhow!("{answer:.80}")),
        };
        attacks.held(attack, held);
    }
    attacks.end()?;
    mesh.client().tokens().await.context("an honest request afterwards")?;
    Ok(())
}

/// Sends bytes and reads what comes until the other side closes, or says no more.
async fn raw(address: &str, request: &[u8]) -> anyhow::Result<String> {
    let mut stream = TcpStream::connect(address).await?;
    // It may close before everything is sent.
    drop(stream.write_all(request).await);
    let mut answer = vec![0; 4096];
    let read = tokio::time::timeout(Duration::from_secs(3), stream.read(&mut answer)).await;
    answer.truncate(read.ok().and_then(Result::ok).unwrap_or(0));
    Ok(String::from_utf8_lossy(&answer).into_owned())
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
    let mut waits = Vec::new();
    for (what, url, said) in [
        ("half a head to the API", &api, half),
        ("half a body to the API", &api, body.as_str()),
        ("half a head to the admin endpoint", &admin, half),
        ("nothing to the admin endpoint", &admin, ""),
        ("nothing to the API", &api, ""),
    ] {
        let address = url.trim_start_matches("http://").to_owned();
        let mut stream = TcpStream::connect(address).await?;
        stream.write_all(said.as_bytes()).await?;
        waits.push((what, tokio::spawn(async move { stream.read_to_end(&mut Vec::new()).await })));
    }
    let mut attacks = Attacks::default();
    for (what, wait) in waits {
        let ended = tokio::time::timeout(HALF, wait).await;
        attacks.held(what, ended.map(drop).context("it is still open"));
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

/// The log at its most talkative, the dumps, what a proxy was sent, and the store's file.
async fn secrets_are_written_nowhere(mesh: &mut Mesh) -> anyhow::Result<()> {
    mesh.apply(&service("web")).await?;
    let operator = mesh.operator_token()?;
    let made = mesh.token("shop/web").await?;
    let token: JoinToken = made.token.parse()?;
    let mut workload = described("web-1", mesh.next_address());
    workload.proxy_type = ProxyType::Envoy.into();
    let joined = join(&made.token, &NewKey::plain()?, workload).await?;
    let mut stream = joined.stream(mesh.xds()).await?;
    stream.ask(ResourceKind::Secret, &["identity", "bundle"]).await;
    let key = loop {
        let given = stream.expect(ResourceKind::Secret, ANSWER).await.context("no key is given")?;
        let text: Vec<u8> = given.resources.iter().flat_map(|any| any.value.clone()).collect();
        let pem = String::from_utf8_lossy(&text).into_owned();
        if let Some(key) = pem.split("PRIVATE KEY-----\n").nth(1).and_then(|key| key.lines().next()) {
            break key.to_owned();
        }
        stream.ack(ResourceKind::Secret, &["identity", "bundle"], &given).await;
    };
    let refused = enter(mesh, "shop/web", described("-", std::net::Ipv4Addr::LOCALHOST)).await;
    ensure!(refused.is_err(), "a bad name was taken");

    let mut places = vec![
        ("/dump", Calls::direct().get(&format!("{}/dump", mesh.admin())).await?.body.into_bytes()),
        ("/metrics", Calls::direct().get(&format!("{}/metrics", mesh.admin())).await?.body.into_bytes()),
    ];
    for path in ["/v1/tokens", "/v1/proxies", "/v1/proxies/shop%2Fweb-1/config", "/v1/ca", "/v1/workloads"] {
        places.push((path, mesh.call("GET", path, "").await?.body.into_bytes()));
    }
    places.push(("the log", std::fs::read(mesh.dir().join("control-plane.log"))?));
    places.push(("the store", std::fs::read(mesh.dir().join("data/weft.redb"))?));
    let seal = std::fs::read_to_string(mesh.dir().join("data/seal.key"))?;
    let secret_json = serde_json::to_string(&token.secret)?;
    let mut attacks = Attacks::default();
    for (what, secret) in [
        ("the operator's token", operator.trim_start_matches("weftop.").as_bytes()),
        ("a join token", made.token.trim_start_matches("weft1.").as_bytes()),
        ("a join token's secret", &token.secret[..]),
        ("a join token's secret as numbers", secret_json.as_bytes()),
        ("a workload's private key", key.as_bytes()),
        ("the sealing key", seal.trim().as_bytes()),
        ("a private key", b"PRIVATE KEY"),
    ] {
        for (place, bytes) in &places {
            let found = bytes.windows(secret.len()).any(|window| window == secret);
            let held = if found { Err(anyhow::anyhow!("it is there")) } else { Ok(()) };
            attacks.held(format!("{what} in {place}"), held);
        }
    }
    attacks.end()
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
