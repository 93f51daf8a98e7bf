//! What is outside of the mesh, as `policies/examples/external.yaml` has it: both proxies speak TLS to it, of an old server
//! too, and to none whose certificate is another's. A host that nobody described is refused as before.

use std::net::{Ipv4Addr, SocketAddr};

use anyhow::{Context as _, ensure};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use weft_e2e::harness::{
    CONVERGES, Calls, Forger, Mesh, Options, Responder, Sidecar, StoreKind, Workload, until,
};

const HOST: &str = "api.pay.example.com";
const WORD: &str = "from outside";
/// The port of a caller's own address that leads there.
const UPSTREAM: u16 = 5480;
/// Where the server of the example listens, one that knows TLS 1.2 alone, one with another name, and one of strangers.
const GOOD: u16 = 8443;
const OLD: u16 = 8444;
const OTHER_NAME: u16 = 8445;
const STRANGERS: u16 = 8446;

#[tokio::test]
async fn both_proxies_call_what_is_outside_and_nobody_who_only_says_so() {
    Mesh::run(Options::new(StoreKind::Embedded), call_what_is_outside).await;
}

async fn call_what_is_outside(mesh: &mut Mesh) -> anyhow::Result<()> {
    mesh.apply(crate::shop::SERVICES).await?;
    let mut callers = Vec::new();
    for sidecar in Sidecar::ALL {
        let service = format!("shop/web-{}", sidecar.word());
        let caller = mesh.workload(&service).beside(sidecar).upstream("shop/pay-api:http", UPSTREAM);
        callers.push((sidecar, caller.start().await?));
    }
    let outside = mesh.next_address();
    let (authority, strangers) = (Forger::stranger(None)?, Forger::stranger(None)?);
    let at = |port| SocketAddr::new(outside.into(), port);
    let good = authority.server(&[HOST])?;
    let servers = [
        Responder::start(at(GOOD), Some(&good), WORD).await?,
        Responder::start(at(OLD), Some(&good.clone().over_tls12()), WORD).await?,
        Responder::start(at(OTHER_NAME), Some(&authority.server(&["other.example.com"])?), WORD).await?,
        Responder::start(at(STRANGERS), Some(&strangers.server(&[HOST])?), WORD).await?,
    ];
    for (_, caller) in &callers {
        refuses(caller, &format!("http://{HOST}/"), 502, "RegistryOnly").await?;
    }

    mesh.apply(&example(&authority, outside, GOOD)?).await?;
    for (sidecar, caller) in &callers {
        let what = || format!("beside {sidecar:?}");
        answers(&caller.calls(), &format!("http://{HOST}/")).await.with_context(what)?;
        answers(&caller.calls(), &format!("http://{HOST}:80/")).await.with_context(what)?;
        let own = SocketAddr::new(caller.address().into(), UPSTREAM);
        answers(&Calls::direct(), &format!("http://{own}/")).await.with_context(what)?;
        let said = tunnel(caller, &format!("{HOST}:443")).await.with_context(what)?;
        ensure!(said.starts_with("HTTP/1.1 200"), "{sidecar:?}: CONNECT is answered {said:?}");
        refuses(caller, "http://elsewhere.example.com/", 502, "RegistryOnly").await.with_context(what)?;
        refuses(caller, &format!("http://{HOST}:81/"), 502, "RegistryOnly").await.with_context(what)?;
    }
    let explained = mesh.weft(&["explain", "shop/web-weft", "shop/pay-api:http", "GET", "/"]).await?;
    ensure!(explained.contains("passes to shop/pay-api:http"), "{explained}");

    mesh.apply(&example(&authority, outside, OLD)?).await?;
    for (sidecar, caller) in &callers {
        until("a server of TLS 1.2 is asked", CONVERGES, async || {
            answers(&caller.calls(), &format!("http://{HOST}/")).await?;
            ensure!(!servers[1].heard().is_empty(), "it heard nothing yet");
            Ok(())
        })
        .await
        .with_context(|| format!("beside {sidecar:?}"))?;
    }

    for (port, weft, envoy) in [
        (
            OTHER_NAME,
            "none of which is expected here",
            "SAN_matcher,_certificate_SANs_are_[other.example.com]",
        ),
        (STRANGERS, "no root of the trust bundle has issued", "certificate_verification_error_at_depth"),
    ] {
        mesh.apply(&example(&authority, outside, port)?).await?;
        for (sidecar, caller) in &callers {
            let words = if *sidecar == Sidecar::Weft { weft } else { envoy };
            refuses(caller, &format!("http://{HOST}/"), 503, words).await?;
        }
    }
    ensure!(servers[2].heard().is_empty() && servers[3].heard().is_empty(), "a false server heard a request");

    // What is looked up on demand never leads to the machine itself.
    mesh.apply(LOOKED_UP).await?;
    for (_, caller) in &callers {
        refuses(caller, "http://localhost:8080/", 503, "no address that is forwarded to").await?;
    }
    Ok(())
}

const LOOKED_UP: &str = "{apiVersion: weft.dev/v1, kind: ExternalService, metadata: {name: here, namespace: shop}, \
                         spec: {hosts: [localhost, '*.here.example'], ports: [{name: http, port: 8080, protocol: HTTP}]}}";

/// The shipped example with an authority and a place of this test.
fn example(authority: &Forger, outside: Ipv4Addr, port: u16) -> anyhow::Result<String> {
    let text = include_str!("../../../policies/examples/external.yaml");
    let (external, policy) = text.split_once("\n---\n").context("two documents")?;
    let mut external: Value = serde_yaml::from_str(external)?;
    external["spec"]["tls"]["caCertificates"] = json!(authority.root_pem());
    external["spec"]["endpoints"] = json!([{"address": outside, "port": port}]);
    Ok(format!("{external}\n---\n{policy}"))
}

async fn answers(calls: &Calls, url: &str) -> anyhow::Result<()> {
    until("what is outside answers", CONVERGES, async || {
        let answer = calls.get(url).await?;
        ensure!(answer.status == 200 && answer.body == WORD, "{} {}", answer.status, answer.body);
        Ok(())
    })
    .await
    .with_context(|| url.to_owned())
}

async fn refuses(caller: &Workload, url: &str, status: u16, words: &str) -> anyhow::Result<()> {
    until("the request is refused", CONVERGES, async || {
        let answer = caller.calls().get(url).await?;
        ensure!(answer.status == status && answer.body.contains(words), "{} {}", answer.status, answer.body);
        Ok(())
    })
    .await
    .with_context(|| format!("{} calls {url}", caller.id()))
}

/// What a sidecar says to CONNECT.
async fn tunnel(caller: &Workload, authority: &str) -> anyhow::Result<String> {
    let mut stream = TcpStream::connect(caller.outbound()).await?;
    stream.write_all(format!("CONNECT {authority} HTTP/1.1\r\nhost: {authority}\r\n\r\n").as_bytes()).await?;
    let mut said = [0; 12];
    stream.read_exact(&mut said).await?;
    Ok(String::from_utf8_lossy(&said).into_owned())
}
