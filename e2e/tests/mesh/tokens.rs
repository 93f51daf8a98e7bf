//! Tokens of end users, from policy to both proxies: verified by given keys and by those of a service, with claims that decide.

use std::net::Ipv4Addr;
use std::sync::Arc;

use anyhow::{Context as _, ensure};
use base64::Engine as _;
use http::Request;
use http::header::AUTHORIZATION;
use http_body_util::Full;
use rcgen::SanType;
use serde_json::{Map, Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;
use tokio_util::task::AbortOnDropHandle;
use weft_e2e::harness::{CONVERGES, Forger, Mesh, Options, Pair, Sidecar, StoreKind, until};
use weft_e2e::tokens::{SigningKey, TokenIssuer};

use crate::shop::{Callers, catalog, start_catalog};

#[tokio::test]
async fn tokens_and_their_claims_decide_on_both_proxies() {
    Mesh::run(Options::new(StoreKind::Embedded), tokens_decide).await;
}

async fn tokens_decide(mesh: &mut Mesh) -> anyhow::Result<()> {
    let callers = Callers::start(mesh).await?;
    let mut servers = Vec::new();
    for beside in Sidecar::ALL {
        servers.push(start_catalog(mesh, beside, "v1").await?);
    }
    let mut ids = callers.ids();
    ids.extend(servers.iter().map(|server| server.id()));
    mesh.in_sync(&ids).await?;
    let issuer = TokenIssuer::new(ISSUER)?;
    let token = |claims: Value| -> anyhow::Result<String> {
        let claims: Map<String, Value> = serde_json::from_value(claims)?;
        issuer.token(SigningKey::Elliptic, claims)
    };
    let (reader, writer) =
        (token(json!({"sub": "r"}))?, token(json!({"sub": "w", "roles": ["x", "writer"]}))?);
    let expired = token(json!({"sub": "r", "exp": 1}))?;
    let forged = TokenIssuer::new(ISSUER)?.token(SigningKey::Elliptic, Map::new())?;

    // First what one may do without breaking anybody: tokens are verified where there are some.
    let inline = json!({"inline": issuer.key_set().to_string()});
    apply(mesh, &inline, "required: false").await?;
    for pair in Pair::ALL {
        asked(&callers, pair, "/", Some(&forged), 401).await.with_context(|| format!("{pair}"))?;
        asked(&callers, pair, "/", None, 200).await.with_context(|| format!("{pair}"))?;
    }
    apply(mesh, &inline, "required: true").await?;
    for pair in Pair::ALL {
        let told = asked(&callers, pair, "/", None, 401).await.with_context(|| format!("{pair}"))?;
        ensure!(told.contains("Jwt is missing"), "{pair}: {told}");
        for (path, token, wanted) in [
            ("/", &reader, 200),
            ("/", &expired, 401),
            ("/", &forged, 401),
            ("/write", &reader, 403),
            ("/write", &writer, 200),
            ("/read", &reader, 200),
        ] {
            let told = asked(&callers, pair, path, Some(token), wanted).await;
            told.with_context(|| format!("{pair} {path}"))?;
        }
    }
    for server in Sidecar::ALL {
        let to = format!("shop/{}", catalog(server));
        let told = mesh.weft(&["explain", "shop/web-weft", &to, "GET", "/write"]).await?;
        ensure!(told.contains("depends on the token"), "{told}");
    }

    // The same keys from a server outside, which rotates: a token of the old ones is none any more.
    let (old, issuer) = (writer, TokenIssuer::new(ISSUER)?);
    let (url, roots, _server) = publish(issuer.key_set().to_string()).await?;
    apply(mesh, &json!({"uri": url, "caCertificates": roots}), "required: true").await?;
    let new =
        issuer.token(SigningKey::Rsa, serde_json::from_value(json!({"sub": "w", "roles": "owner"}))?)?;
    for pair in Pair::ALL {
        for (token, wanted) in [(&new, 200), (&old, 401)] {
            let told = asked(&callers, pair, "/write", Some(token), wanted).await;
            told.with_context(|| format!("{pair}: fetched keys"))?;
        }
    }
    Ok(())
}

/// Publishes keys over TLS, as `localhost`: where, and the roots of its certificate.
async fn publish(keys: String) -> anyhow::Result<(String, String, AbortOnDropHandle<()>)> {
    let authority = Forger::stranger(None)?;
    let leaf = authority.leaf(&[], |params| {
        params.subject_alt_names.extend("localhost".try_into().ok().map(SanType::DnsName));
    })?;
    let root = leaf.chain().last().context("a chain ends with the root")?;
    let root = base64::engine::general_purpose::STANDARD.encode(root);
    let root = format!("-----BEGIN CERTIFICATE-----\n{root}\n-----END CERTIFICATE-----\n");
    let mut config = leaf.server_config()?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
    let url = format!("https://localhost:{}/keys", listener.local_addr()?.port());
    let serving = tokio::spawn(async move {
        while let Ok((tcp, _)) = listener.accept().await {
            // Whoever does not trust it goes.
            let Ok(mut stream) = acceptor.accept(tcp).await else { continue };
            let mut head = Vec::new();
            while !head.ends_with(b"\r\n\r\n") && stream.read_buf(&mut head).await.unwrap_or_default() > 0 {}
            let length = keys.len();
            let answer =
                format!("HTTP/1.1 200 OK\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n{keys}");
            let _ = stream.write_all(answer.as_bytes()).await;
            let _ = stream.shutdown().await;
        }
    });
    Ok((url, root, AbortOnDropHandle::new(serving)))
}

const ISSUER: &str = "https://login.example.com";

async fn apply(mesh: &Mesh, keys: &Value, required: &str) -> anyhow::Result<()> {
    let documents = Sidecar::ALL.map(|server| {
        let name = catalog(server);
        format!(
            r"
apiVersion: weft.dev/v1
kind: AuthenticationPolicy
metadata: {{name: tokens-{name}, namespace: shop}}
spec:
  targetRefs: [{{kind: Service, name: {name}, sectionName: http}}]
  jwt:
    {required}
    providers:
    - name: login
      issuer: {ISSUER}
      jwks: {keys}
---
apiVersion: weft.dev/v1
kind: AuthorizationPolicy
metadata: {{name: writers-{name}, namespace: shop}}
spec:
  targetRefs: [{{kind: Service, name: {name}, sectionName: http}}]
  action: Allow
  rules:
  - name: not-writing
    to: [{{paths: [{{type: RegularExpression, value: '/(read)?'}}]}}]
  - name: writers
    from: [{{claims: [{{iss: {ISSUER}, roles: [writer, owner]}}]}}]
"
        )
    });
    mesh.apply(&documents.join("\n---\n")).await?;
    Ok(())
}

/// The body of an answer with this status, once the policy holds on the connection that is used.
async fn asked(
    callers: &Callers,
    pair: Pair,
    path: &str,
    token: Option<&str>,
    wanted: u16,
) -> anyhow::Result<String> {
    let calls = callers.of(pair).calls();
    let url = format!("http://{}{path}", catalog(pair.server));
    until("the policy holds", CONVERGES, async || {
        let mut request = Request::get(&url);
        if let Some(token) = token {
            request = request.header(AUTHORIZATION, format!("Bearer {token}"));
        }
        let answer = calls.send(request.body(Full::default())?).await?;
        ensure!(answer.status == wanted, "{path}: {} in place of {wanted}: {}", answer.status, answer.body);
        Ok(answer.body)
    })
    .await
}
