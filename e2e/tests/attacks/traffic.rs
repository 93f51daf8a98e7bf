//! An application lies about who it is, or wants from its own sidecar what no application may have, beside both proxies.

use anyhow::{Context as _, ensure};
use bytes::Bytes;
use http::Request;
use http_body_util::Full;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use weft_e2e::harness::{CONVERGES, Mesh, Pair, Sidecar, Workload, until};

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

/// Admin endpoints and addresses are no services; a sidecar is no proxy to everywhere.
async fn sidecar_leads_to_services_only(mesh: &mut Mesh) -> anyhow::Result<()> {
    let all = pairs(mesh).await?;
    let mut attacks = Attacks::default();
    for (sidecar, workload) in &all {
        let admin = workload.admin().trim_start_matches("http://").to_owned();
        let api = mesh.client().api().trim_start_matches("http://").to_owned();
        for host in [&admin, &api, "localhost:15000", "127.0.0.1", "weft_control_plane", "[::1]:7400", "*"] {
            let request = format!("GET /ready HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n\r\n");
            attacks.held(format!("{sidecar:?}: {host}"), goes_nowhere(workload, &request).await);
            let request =
                format!("GET http://{host}/ready HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n\r\n");
            attacks.held(
                format!("{sidecar:?}: in absolute form, {host}"),
                goes_nowhere(workload, &request).await,
            );
        }
        let request = format!("CONNECT {admin} HTTP/1.1\r\nhost: {admin}\r\n\r\n");
        attacks.held(format!("{sidecar:?}: CONNECT"), goes_nowhere(workload, &request).await);
    }
    attacks.end()
}

async fn goes_nowhere(workload: &Workload, request: &str) -> anyhow::Result<()> {
    let mut stream = TcpStream::connect(workload.outbound()).await?;
    stream.write_all(request.as_bytes()).await?;
    let mut answer = vec![0; 512];
    let read = tokio::time::timeout(ANSWER, stream.read(&mut answer)).await.context("it hangs")??;
    let answer = String::from_utf8_lossy(&answer[..read]).into_owned();
    let status: u16 = answer.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or(400);
    ensure!(status >= 400, "{answer}");
    Ok(())
}
