//! An application lies about who it is, or wants from its own sidecar what no application may have, beside both proxies.

use std::net::{Ipv4Addr, Ipv6Addr};

use anyhow::{Context as _, ensure};
use bytes::Bytes;
use http::Request;
use http_body_util::Full;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use weft_e2e::harness::{CONVERGES, Calls, Mesh, Pair, Responder, Sidecar, Workload, free_port, until};

use crate::ground::{ANSWER, Attacks, on_the_embedded_store, service};

on_the_embedded_store!(application_is_who_its_certificate_says, sidecar_leads_to_services_only);

async fn pairs(mesh: &mut Mesh) -> anyhow::Result<Vec<(Sidecar, Workload)>> {
    let mut all = Vec::new();
    mesh.apply(&Sidecar::ALL.map(|sidecar| service(&format!("app-{}", sidecar.word()))).concat()).await?;
    for sidecar in Sidecar::ALL {
        let service = format!("shop/app-{}", sidecar.word());
        all.push((sidecar, mesh.workload(&service).serving().beside(sidecar).start().await?));
    }
    mesh.in_sync(&all.iter().map(|(_, workload)| workload.id()).collect::<Vec<_>>()).await?;
    Ok(all)
}

/// The header that tells a server its caller is the sidecar's to write, whatever the application sends along.
async fn application_is_who_its_certificate_says(mesh: &mut Mesh) -> anyhow::Result<()> {
    let all = pairs(mesh).await?;
    let workload = |sidecar: Sidecar| &all[usize::from(sidecar == Sidecar::Envoy)].1;
    let king = "spiffe://mesh.local/ns/shop/svc/king";
    let mut attacks = Attacks::default();
    for pair in Pair::ALL {
        let (caller, host) = (workload(pair.caller), format!("app-{}", pair.server.word()));
        let url = format!("http://{host}/");
        until("the server answers", CONVERGES, async || caller.calls().get(&url).await?.tree().map(drop))
            .await?;
        for (header, value) in [
            ("x-forwarded-client-cert", format!("URI={king}")),
            ("x-forwarded-client-cert", format!("Hash=1;URI={king},By={king};URI={king}")),
            ("X-FORWARDED-CLIENT-CERT", format!("URI=\"{king}\"")),
            ("connection", "x-forwarded-client-cert".to_owned()),
            ("x-envoy-external-address", "10.0.0.1".to_owned()),
            ("x-envoy-original-dst-host", "127.0.0.1:1".to_owned()),
        ] {
            let request = Request::get(&url).header(header, &value).body(Full::new(Bytes::new()))?;
            let peer =
                caller.calls().send(request).await.and_then(|answer| answer.tree()).map(|tree| tree.peer);
            let held = match peer {
                Ok(peer) if peer == caller.spiffe() => Ok(()),
                other => Err(anyhow::anyhow!("the server saw {other:?}")),
            };
            attacks.held(format!("{pair}: {header}: {value}"), held);
        }
    }
    attacks.end()
}

/// Whoever listens on this machine, and may be called by those who are on it.
const LISTENS: &str = "LISTENS";

/// What the application is told, by what becomes of hosts that no service has: status, and the words of the reason.
const REGISTRY_ONLY: &[(u16, &str)] =
    &[(502, "no service of the mesh has this host name, and Mesh defaults.outbound is RegistryOnly")];
const ALLOW: &[(u16, &str)] =
    &[(403, "is an address of this machine"), (503, "it has no address that is forwarded to")];

/// Admin endpoints and addresses are no services, and no proxy leads to the machine that it runs on: not even where the
/// mesh forwards what is no service. Somebody listens at each target, so a request that was forwarded would be answered.
async fn sidecar_leads_to_services_only(mesh: &mut Mesh) -> anyhow::Result<()> {
    let all = pairs(mesh).await?;
    let (port, port6) = (free_port()?, free_port()?);
    let own = Responder::start((Ipv4Addr::LOCALHOST, port).into(), None, LISTENS).await?;
    let own6 = Responder::start((Ipv6Addr::LOCALHOST, port6).into(), None, LISTENS).await?;
    let api = mesh.client().api().trim_start_matches("http://").to_owned();
    let mut attacks = Attacks::default();
    for (mode, refusals) in [("RegistryOnly", REGISTRY_ONLY), ("Allow", ALLOW)] {
        mesh.apply(&format!(
            "{{apiVersion: weft.dev/v1, kind: Mesh, metadata: {{name: mesh}}, spec: {{defaults: {{outbound: {mode}}}}}}}"
        ))
        .await?;
        for (sidecar, workload) in &all {
            let mut targets = vec![
                workload.admin().trim_start_matches("http://").to_owned(),
                api.clone(),
                format!("localhost:{port}"),
                format!("127.0.0.1:{port}"),
                format!("[::ffff:127.0.0.1]:{port}"),
                format!("[::1]:{port6}"),
            ];
            for target in &targets {
                let answer = Calls::direct().get(&format!("http://{target}/ready")).await;
                let answer = answer.with_context(|| format!("{target} without the sidecar"))?;
                ensure!(!refusals.iter().any(|(_, words)| answer.body.contains(words)), "{}", answer.body);
            }
            if mode == "RegistryOnly" {
                // Names of the sidecar's own clusters; forwarded, they would be looked up.
                targets.extend(["xds:80", "inbound:80"].map(str::to_owned));
            }
            let marker = asking(&targets[3]).remove(0);
            until("the sidecar has the mesh's word", CONVERGES, async || {
                is_refused(workload, &marker, refusals).await
            })
            .await
            .with_context(|| format!("{sidecar:?}: {mode}"))?;
            let (heard, heard6) = (own.heard().len(), own6.heard().len());
            for request in targets.iter().flat_map(|target| asking(target)) {
                let held = is_refused(workload, &request, refusals).await;
                attacks.held(format!("{sidecar:?}: {mode}: {request:?}"), held);
            }
            ensure!(heard > 0 && heard6 > 0, "the calls without the sidecar were not heard");
            let (after, after6) = (own.heard(), own6.heard());
            ensure!(
                after.len() == heard && after6.len() == heard6,
                "{sidecar:?}: {mode}: {after:?} {after6:?}"
            );
        }
    }
    attacks.end()
}

/// A request to a target in each form that HTTP has for it.
fn asking(target: &str) -> Vec<String> {
    [("GET", "/ready".to_owned()), ("GET", format!("http://{target}/ready")), ("CONNECT", target.to_owned())]
        .map(|(method, form)| {
            format!("{method} {form} HTTP/1.1\r\nhost: {target}\r\nconnection: close\r\n\r\n")
        })
        .to_vec()
}

/// The sidecar itself says no, with one of these reasons.
async fn is_refused(workload: &Workload, request: &str, refusals: &[(u16, &str)]) -> anyhow::Result<()> {
    let mut stream = TcpStream::connect(workload.outbound()).await?;
    stream.write_all(request.as_bytes()).await?;
    let mut answer = Vec::new();
    let end = tokio::time::timeout(ANSWER, stream.read_to_end(&mut answer)).await;
    let answer = String::from_utf8_lossy(&answer).into_owned();
    end.with_context(|| format!("no end: {answer}"))??;
    let status = answer.split(' ').nth(1).and_then(|status| status.parse::<u16>().ok());
    let (head, body) = answer.split_once("\r\n\r\n").with_context(|| format!("no answer: {answer:?}"))?;
    let is_known = refusals.iter().any(|(code, words)| status == Some(*code) && body.contains(words));
    ensure!(is_known, "{head:.60} {body}");
    Ok(())
}
