//! The filter of tokens, and authorization by their claims: what does and does not pass, in which words, and what servers see.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, ensure};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::task::AbortOnDropHandle;
use weft_e2e::harness::{CONVERGES, Sidecar, Standalone, until};
use weft_e2e::tokens::{SigningKey, TokenIssuer, base64url};

use crate::filters::{Seen, serve};

/// A request: what it is about, its path, and its other fields.
type Case = (String, String, String);

struct Tokens {
    issuer: TokenIssuer,
    now: u64,
}

impl Tokens {
    /// A good token of `iss`, with more claims or other ones.
    fn of(&self, issuer: &str, claims: &Value) -> anyhow::Result<String> {
        self.by(SigningKey::Rsa, issuer, claims)
    }

    fn by(&self, key: SigningKey, issuer: &str, claims: &Value) -> anyhow::Result<String> {
        let mut all = json!({"iss": issuer, "sub": "alice", "aud": "api", "exp": self.now + 300});
        for (name, value) in claims.as_object().into_iter().flatten() {
            match value {
                Value::Null => drop(all.as_object_mut().context("an object")?.remove(name)),
                value => all[name] = value.clone(),
            }
        }
        let header = match key {
            SigningKey::Elliptic => r#"{"alg":"ES256","kid":"ec"}"#,
            SigningKey::Rsa => r#"{"alg":"RS256","kid":"rsa"}"#,
        };
        self.issuer.signed(key, header, &all.to_string())
    }

    /// A token of this header, with the payload of a good one.
    fn with_header(&self, header: &str) -> anyhow::Result<String> {
        self.issuer.signed(SigningKey::Rsa, header, &self.payload())
    }

    fn with_payload(&self, payload: &str) -> anyhow::Result<String> {
        self.issuer.signed(SigningKey::Rsa, r#"{"alg":"RS256","kid":"rsa"}"#, payload)
    }

    fn payload(&self) -> String {
        json!({"iss": "main", "sub": "alice", "aud": "api", "exp": self.now + 300}).to_string()
    }
}

fn bearer(token: &str) -> String {
    format!("authorization: Bearer {token}\r\n")
}

/// What both do alike.
#[expect(clippy::too_many_lines, reason = "a list")]
fn alike(tokens: &Tokens) -> anyhow::Result<Vec<Case>> {
    let mut cases: Vec<Case> = Vec::new();
    let mut ask = |what: &str, path: &str, fields: String| cases.push((what.into(), path.into(), fields));
    let main = tokens.of("main", &json!({}))?;
    let second = tokens.of("second", &json!({}))?;
    let (start, signature) = main.rsplit_once('.').context("a signature")?;
    let (header, payload) = start.split_once('.').context("a payload")?;

    ask("nothing is needed", "/open", String::new());
    ask("no rule", "/", String::new());
    ask("none", "/main", String::new());
    ask("a good one", "/main", bearer(&main));
    ask("by ES256", "/main", bearer(&tokens.by(SigningKey::Elliptic, "main", &json!({}))?));
    ask("in the query", &format!("/main?a=1&access_token={main}&b=2"), String::new());
    ask("of somebody else", "/main", bearer(&second));
    ask(
        "claims in headers",
        "/main",
        bearer(&tokens.of(
            "main",
            &json!({
                "realm": {"role": "reader"}, "level": 3, "groups": ["a", "b"],
            }),
        )?),
    );
    ask(
        "claims that are not",
        "/main",
        format!("{}x-sub: root\r\nx-role: root\r\nx-payload: root\r\n", bearer(&main)),
    );
    ask(
        "a claim of another type",
        "/main",
        bearer(&tokens.of("main", &json!({"level": 1.5, "groups": true}))?),
    );

    // Where they are.
    ask("behind other words", "/main", format!("authorization: Basic x, Bearer {main}\r\n"));
    ask("in lower case", "/main", format!("authorization: bearer {main}\r\n"));
    ask("without a token", "/main", "authorization: Bearer \r\n".to_owned());
    ask("no token", "/main", "authorization: Bearer nonsense\r\n".to_owned());
    ask("two good ones", "/main", format!("{}{}", bearer(&main), bearer(&main)));
    ask("a good one and a bad one", "/main", format!("{}{}", bearer(&main), bearer("a.b.c")));
    ask("a bad one and a good one", "/main", format!("{}{}", bearer("a.b.c"), bearer(&main)));
    ask("good in both places", &format!("/main?access_token={main}"), bearer(&main));
    ask("bad in the query", "/main?access_token=a.b.c", bearer(&main));
    ask("in a header of its own", "/second", format!("x-token: {second}\r\n"));
    ask("behind a prefix", "/second", format!("x-prefixed: Token={second}\r\n"));
    ask("a parameter of its own", &format!("/second?token={second}"), String::new());
    ask("a cookie", "/second", format!("cookie: a=b; token={second}\r\n"));
    ask("not where others have it", "/second", bearer(&second));

    // What they are.
    for (what, token) in [
        ("two parts", start.to_owned()),
        ("five parts", format!("{main}.a.b")),
        ("no signature", format!("{start}.")),
        ("a header that is no Base64", format!("%%%.{payload}.{signature}")),
        ("a header in the other Base64", format!("{header}+/.{payload}.{signature}")),
        ("a payload that is no Base64", format!("{header}.!.{signature}")),
        ("a signature that is no Base64", format!("{start}.!!")),
        ("another signature", format!("{start}.{}", base64url([7; 256]))),
        (
            "the signature of another",
            format!("{start}.{}", second.rsplit_once('.').context("a signature")?.1),
        ),
        (
            "another payload",
            format!("{header}.{}.{signature}", base64url(r#"{"iss":"main","aud":"api","sub":"root"}"#)),
        ),
        ("a header that is no JSON", tokens.with_header("nonsense")?),
        ("a header that is a list", tokens.with_header("[]")?),
        ("an alg that is there twice", tokens.with_header(r#"{"alg":"RS256","alg":"none"}"#)?),
        ("no alg", tokens.with_header("{}")?),
        ("an alg that is no text", tokens.with_header(r#"{"alg":1}"#)?),
        ("a kid that is no text", tokens.with_header(r#"{"alg":"RS256","kid":1}"#)?),
        ("without a kid", tokens.with_header(r#"{"alg":"RS256"}"#)?),
        ("an unknown kid", tokens.with_header(r#"{"alg":"RS256","kid":"../../etc/passwd"}"#)?),
        ("the kid of another key", tokens.with_header(r#"{"alg":"RS256","kid":"ec"}"#)?),
        ("a payload that is no JSON", tokens.with_payload("nonsense")?),
        ("a payload that is text", tokens.with_payload("\"main\"")?),
        (
            "a claim that is there twice",
            tokens.with_payload(r#"{"iss":"main","aud":"api","sub":"a","sub":"root"}"#)?,
        ),
        ("a deep payload", tokens.with_payload(&format!("{}1{}", r#"{"a":"#.repeat(200), "}".repeat(200)))?),
    ] {
        ask(what, "/main", bearer(&token));
    }
    for alg in ["none", "None", "nOnE", "NONE", "", "HS256", "RS1", "rs256"] {
        let header = json!({ "alg": alg }).to_string();
        let unsigned = format!("{}.{}.", base64url(&header), base64url(tokens.payload()));
        ask(&format!("alg {alg:?} without a signature"), "/main", bearer(&unsigned));
        ask(&format!("alg {alg:?}"), "/main", bearer(&tokens.with_header(&header)?));
    }
    // The public key as the secret of an HMAC, with keys that name no algorithm.
    let text = format!("{}.{}", base64url(r#"{"alg":"HS256"}"#), base64url(tokens.payload()));
    let secret = aws_lc_rs::hmac::Key::new(aws_lc_rs::hmac::HMAC_SHA256, &tokens.issuer.rsa_public_key());
    let confused = format!("{text}.{}", base64url(aws_lc_rs::hmac::sign(&secret, text.as_bytes())));
    ask("a public key as a secret", "/keyless", bearer(&confused));
    ask("a key without a name", "/keyless", bearer(&main));
    ask(
        "a key without a name by ES256",
        "/keyless",
        bearer(&tokens.by(SigningKey::Elliptic, "main", &json!({}))?),
    );
    ask("a token without an issuer", "/keyless", bearer(&tokens.with_payload("{}")?));
    // What a token says of its own key: nobody listens there, and nobody asks.
    for field in ["jku", "x5u"] {
        let header = json!({"alg": "RS256", "kid": "rsa", field: "http://127.0.0.1:1/keys"}).to_string();
        ask(field, "/main", bearer(&tokens.with_header(&header)?));
    }
    let stranger = TokenIssuer::new("main")?;
    let own = json!({"alg": "RS256", "jwk": stranger.key_set()["keys"][1]}).to_string();
    ask("its own key", "/main", bearer(&stranger.signed(SigningKey::Rsa, &own, &tokens.payload())?));

    // What they say.
    for (what, claims) in [
        ("expired", json!({"exp": tokens.now - 70})),
        ("expired within the skew", json!({"exp": tokens.now - 30})),
        ("not yet", json!({"nbf": tokens.now + 90})),
        ("not yet within the skew", json!({"nbf": tokens.now + 30})),
        ("for ever", json!({"exp": null})),
        ("a fraction", json!({"exp": f64::from(u32::try_from(tokens.now)?) + 300.5})),
        ("exp as text", json!({"exp": "9999999999"})),
        ("exp below 0", json!({"exp": -1})),
        ("exp beyond all", json!({"exp": 1e30})),
        ("nbf as text", json!({"nbf": "1"})),
        ("nbf below 0", json!({"nbf": -1})),
        ("iat as text", json!({"iat": "1"})),
        ("iat below 0", json!({"iat": -1})),
        ("sub is a number", json!({"sub": 1})),
        ("jti is a number", json!({"jti": 1})),
        ("iss is a number", json!({"iss": 1})),
        ("no iss", json!({"iss": null})),
        ("another iss", json!({"iss": "main "})),
        ("aud is a number", json!({"aud": 1})),
        ("aud is a list with a number", json!({"aud": ["api", 1]})),
        ("aud is a list", json!({"aud": ["x", "api"]})),
        ("aud with a scheme", json!({"aud": "http://api.test"})),
        ("another aud", json!({"aud": "other"})),
        ("aud in capitals", json!({"aud": "API"})),
        ("no aud", json!({"aud": null})),
        ("large", json!({"text": "x".repeat(6000)})),
        ("no ASCII", json!({"sub": "ä€", "level": "ü"})),
    ] {
        ask(what, "/main", bearer(&tokens.of("main", &claims)?));
    }
    ask("its own audience", "/audience", bearer(&tokens.of("main", &json!({"aud": "other"}))?));
    ask("the provider's audience", "/audience", bearer(&main));
    for (what, path, issuer, claims) in [
        ("a subject", "/strict", "strict", json!({"sub": "spiffe://a"})),
        ("another subject", "/strict", "strict", json!({})),
        ("no subject", "/strict", "strict", json!({"sub": null})),
        ("another subject and audience", "/strict", "strict", json!({"aud": "other"})),
        ("another subject, expired", "/strict", "strict", json!({"exp": tokens.now - 70})),
        ("too long", "/strict", "strict", json!({"sub": "spiffe://a", "exp": tokens.now + 700})),
        (
            "too long for another audience",
            "/strict",
            "strict",
            json!({"sub": "spiffe://a", "exp": tokens.now + 700, "nbf": tokens.now + 700}),
        ),
        ("without an end", "/strict", "strict", json!({"sub": "spiffe://a", "exp": null})),
        ("beyond the skew", "/strict", "strict", json!({"sub": "spiffe://a", "exp": tokens.now - 30})),
        ("with an end", "/ending", "ending", json!({})),
        ("without an end", "/ending", "ending", json!({"exp": null})),
    ] {
        ask(what, path, bearer(&tokens.of(issuer, &claims)?));
    }

    // What is needed.
    let both = format!("{}x-token: {second}\r\n", bearer(&main));
    let by_second = format!("x-token: {second}\r\n");
    let expired = bearer(&tokens.of("main", &json!({"exp": 1}))?);
    for path in [
        "/any",
        "/all",
        "/any-missing",
        "/any-failed",
        "/missing",
        "/failed",
        "/named",
        "/wrong",
        "/main/off",
    ] {
        for (what, fields) in [
            ("none", String::new()),
            ("main", bearer(&main)),
            ("second", by_second.clone()),
            ("both", both.clone()),
            ("expired", expired.clone()),
            ("expired beside a good one", format!("{expired}{by_second}")),
            ("of a stranger", bearer(&tokens.of("stranger", &json!({}))?)),
            ("nonsense", bearer("nonsense")),
        ] {
            ask(what, path, fields);
        }
    }
    ask("fetched keys", "/remote", bearer(&tokens.of("remote", &json!({}))?));
    ask("the same keys again", "/remote", bearer(&tokens.of("remote", &json!({"sub": "bob"}))?));
    ask("nothing to fetch keys for", "/remote", bearer(&main));
    ask("no keys to fetch", "/broken", bearer(&tokens.of("broken", &json!({}))?));
    ask("the token chooses the route", "/main/routed", bearer(&main));
    ask("no token chooses the route", "/main/routed", "x-sub: alice\r\n".to_owned());
    ask("gRPC", "/main", "content-type: application/grpc\r\n".to_owned());

    // Authorization by claims.
    for (path, claims) in [
        ("/main/admin", json!({})),
        ("/main/admin", json!({"groups": "admin"})),
        ("/main/admin", json!({"groups": ["user", "admin"]})),
        ("/main/admin", json!({"groups": ["administrator"]})),
        ("/main/admin", json!({"groups": {"admin": true}})),
        ("/main/write", json!({"scope": "read write"})),
        ("/main/write", json!({"scope": "read writer"})),
        ("/main/write", json!({"scope": ["write"]})),
        ("/main/level", json!({"level": 3})),
        ("/main/level", json!({"level": 3.0})),
        ("/main/level", json!({"level": "3"})),
        ("/main/not-rsa", json!({})),
        ("/main/realm", json!({})),
        ("/main/realm", json!({"realm": {"role": null, "other": 1}})),
        ("/main/realm", json!({"realm": {"role": "a"}})),
        ("/main/realm", json!({"realm": "a"})),
    ] {
        ask(&claims.to_string(), path, bearer(&tokens.of("main", &claims)?));
    }
    let by_ec = tokens.by(SigningKey::Elliptic, "main", &json!({}))?;
    ask("by ES256", "/main/not-rsa", bearer(&by_ec));
    Ok(cases)
}

/// What weft-proxy refuses and Envoy takes, as PARITY.md has it: the case, Envoy's status and weft-proxy's.
fn on_purpose(tokens: &Tokens) -> anyhow::Result<Vec<(Case, [&'static str; 2])>> {
    let main = tokens.of("main", &json!({}))?;
    let (start, signature) = main.rsplit_once('.').context("a signature")?;
    let last = signature.chars().last().context("a letter")?;
    // 256 bytes leave four bits in the last letter that are of none.
    let alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let place = alphabet.find(last).context("a letter of Base64")?;
    let other = alphabet.chars().nth(place + 1).context("a neighbour")?;
    let not_canonical = format!("{start}.{}{other}", &signature[..signature.len() - 1]);
    let cases = [
        ("padding", format!("{main}=="), ["200", "401"]),
        ("bits of nobody", not_canonical, ["200", "401"]),
        ("an empty part", format!("{start}..{signature}"), ["200", "401"]),
        ("critical", tokens.with_header(r#"{"alg":"RS256","kid":"rsa","crit":["exp"]}"#)?, ["200", "401"]),
        ("ended in 1970", tokens.of("main", &json!({"exp": 0}))?, ["200", "401"]),
    ];
    let mut cases: Vec<_> = cases
        .into_iter()
        .map(|(what, token, statuses)| ((what.into(), "/main".into(), bearer(&token)), statuses))
        .collect();
    let nine = format!("x-token: {}\r\n", tokens.of("second", &json!({}))?).repeat(9);
    cases.push((("nine tokens".into(), "/second".into(), nine), ["200", "401"]));
    Ok(cases)
}

#[tokio::test]
async fn tokens_pass_and_fail_as_in_envoy() -> anyhow::Result<()> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs();
    let tokens = Tokens { issuer: TokenIssuer::new("main")?, now };
    let envoy = Ground::start(Sidecar::Envoy, &tokens).await?;
    let weft = Ground::start(Sidecar::Weft, &tokens).await?;
    let mut differ = Vec::new();
    let cases = alike(&tokens)?;
    for case in &cases {
        let (wanted, got) = (envoy.ask("GET", case).await?, weft.ask("GET", case).await?);
        if wanted != got {
            differ.push(format!("{} at {}\n  Envoy:      {wanted:?}\n  weft-proxy: {got:?}", case.0, case.1));
        }
    }
    let asks = "origin: https://a.test\r\naccess-control-request-method: PUT\r\n";
    let preflight: Case = ("preflight".into(), "/main".into(), asks.into());
    let (wanted, got) = (envoy.ask("OPTIONS", &preflight).await?, weft.ask("OPTIONS", &preflight).await?);
    ensure!(wanted.status == "200" && wanted == got, "preflight: {wanted:?}, {got:?}");
    for (wanted, got) in envoy.logged(cases.len()).await?.into_iter().zip(weft.logged(cases.len()).await?) {
        if wanted != got {
            differ.push(format!("the log\n  Envoy:      {wanted}\n  weft-proxy: {got}"));
        }
    }
    let (wanted, got) = (envoy.statistics().await?, weft.statistics().await?);
    ensure!(wanted.len() >= 5, "Envoy counts: {wanted:?}");
    if wanted != got {
        differ.push(format!("statistics\n  Envoy:      {wanted:?}\n  weft-proxy: {got:?}"));
    }
    ensure!(differ.is_empty(), "{} differ:\n{}", differ.len(), differ.join("\n"));
    for (case, wanted) in on_purpose(&tokens)? {
        let got = [envoy.ask("GET", &case).await?.status, weft.ask("GET", &case).await?.status];
        ensure!(got == wanted, "{}: {got:?}, and PARITY.md says {wanted:?}", case.0);
    }
    Ok(())
}

const LOG: &str = "access.log";

/// A proxy before an application that answers with the head that it was sent, and an issuer's keys.
struct Ground {
    proxy: Standalone,
    dir: TempDir,
    _running: [AbortOnDropHandle<()>; 2],
}

impl Ground {
    async fn start(sidecar: Sidecar, tokens: &Tokens) -> anyhow::Result<Self> {
        let application = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let issuer = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let ports = [application.local_addr()?.port(), issuer.local_addr()?.port()];
        let keys = tokens.issuer.key_set();
        let publishing = publish(issuer, keys.to_string());
        let running =
            [tokio::spawn(serve(application)), tokio::spawn(publishing)].map(AbortOnDropHandle::new);
        let dir = tempfile::tempdir()?;
        let log = dir.path().join(LOG);
        let proxy = Standalone::start(sidecar, |admin, port| bootstrap(admin, port, ports, &log, &keys))?;
        let this = Self { proxy, dir, _running: running };
        until("the proxy answers", CONVERGES, async || {
            let seen = this.ask("GET", &("open".into(), "/open".into(), String::new())).await?;
            ensure!(seen.status == "200", "{seen:?}");
            Ok(())
        })
        .await?;
        Ok(this)
    }

    async fn ask(&self, method: &str, (what, path, fields): &Case) -> anyhow::Result<Seen> {
        let request = format!("{method} {path} HTTP/1.1\r\nhost: a\r\n{fields}connection: close\r\n\r\n");
        let mut stream = TcpStream::connect(self.proxy.address).await?;
        stream.write_all(request.as_bytes()).await?;
        let mut answer = Vec::new();
        let read = tokio::time::timeout(CONVERGES, stream.read_to_end(&mut answer));
        read.await.with_context(|| format!("no end of the answer: {what} at {path}"))??;
        Seen::of(&String::from_utf8_lossy(&answer))
    }

    /// The log of all that was asked before the preflight.
    async fn logged(&self, asked: usize) -> anyhow::Result<Vec<String>> {
        self.ask("HEAD", &("last".into(), "/open".into(), String::new())).await?;
        until("the log is written", CONVERGES, async || {
            let text = std::fs::read_to_string(self.dir.path().join(LOG))?;
            let lines: Vec<String> = text.lines().map(str::to_owned).collect();
            ensure!(lines.last().is_some_and(|line| line.starts_with("HEAD ")), "{lines:?}");
            Ok(lines[lines.len() - 2 - asked..].to_vec())
        })
        .await
    }

    async fn statistics(&self) -> anyhow::Result<BTreeMap<String, u64>> {
        let lines = self.proxy.statistics().await?.into_iter();
        let ours = lines
            .filter(|line| line.starts_with("http.in.jwt_authn.") || line.starts_with("http.in.rbac.denied"));
        Ok(ours
            .filter_map(|line| {
                let (name, value) = line.split_once(": ")?;
                Some((name.to_owned(), value.parse().ok()?))
            })
            // How often the proxy was asked until it answered is of the moment.
            .filter(|(name, value)| !name.ends_with(".allowed") && *value > 0)
            .collect())
    }
}

/// Publishes keys at `/keys`.
async fn publish(listener: TcpListener, keys: String) {
    while let Ok((mut stream, _)) = listener.accept().await {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") && stream.read_buf(&mut head).await.unwrap_or_default() > 0 {}
        let (status, text) =
            if head.starts_with(b"GET /keys ") { ("200 OK", &*keys) } else { ("404 Not Found", "") };
        let length = text.len();
        let answer =
            format!("HTTP/1.1 {status}\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n{text}");
        // The proxy may be gone.
        let _ = stream.write_all(answer.as_bytes()).await;
    }
}

/// The same keys, which say neither what they are called nor what they are for.
fn plain(keys: &Value) -> Value {
    let mut keys = keys.clone();
    for key in keys["keys"].as_array_mut().into_iter().flatten() {
        if let Some(key) = key.as_object_mut() {
            ["kid", "alg", "use"].iter().for_each(|name| drop(key.remove(*name)));
        }
    }
    keys
}

fn bootstrap(admin: u16, port: u16, [application, issuer]: [u16; 2], log: &Path, keys: &Value) -> String {
    let quoted = |keys: &Value| Value::from(keys.to_string()).to_string();
    include_str!("jwt.yaml")
        .replace("@LOG@", &log.display().to_string())
        .replace("@ADMIN@", &admin.to_string())
        .replace("@PORT@", &port.to_string())
        .replace("@APPLICATION@", &application.to_string())
        .replace("@ISSUER@", &issuer.to_string())
        .replace("@PLAIN_KEYS@", &quoted(&plain(keys)))
        .replace("@KEYS@", &quoted(keys))
}
