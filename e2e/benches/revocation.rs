//! From the command to the refusal of new connections, on both proxies.
//!
//! Path: `POST /v1/proxies/ID/revoke`, store, list of revoked certificates, bundle to every proxy, and a peer
//! that connects again and again with the revoked certificate: mutual TLS 1.3 and one request. Counted is when the first
//! connection began that was refused, so that its own time is not part of the figure. Goal: p99 under 2 s.

use std::time::Duration;

use anyhow::ensure;
use clap::Parser as _;
use hdrhistogram::Histogram;
use tokio::time::Instant;
use weft_api::rest::TokenRequest;
use weft_e2e::harness::{Door, Joined, Mesh, NewKey, Options, Sidecar, StoreKind, Workload, described, join};

const GOAL: Duration = Duration::from_secs(2);
const GIVES_UP: Duration = Duration::from_secs(30);

/// How long to measure.
#[derive(clap::Parser)]
struct Effort {
    /// Workloads to revoke, one after another
    #[arg(long, default_value_t = 100)]
    samples: usize,
    /// Given by cargo
    #[arg(long, hide = true)]
    bench: bool,
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let effort = Effort::parse();
    let mut mesh = Mesh::start(Options::new(StoreKind::Embedded)).await?;
    let mut services = String::new();
    for name in ["web", "catalog-weft", "catalog-envoy"] {
        services.push_str(&format!(
            "apiVersion: weft.dev/v1\nkind: Service\nmetadata: {{name: {name}, namespace: shop}}\n\
             spec: {{ports: [{{name: http, port: 80, protocol: HTTP}}]}}\n---\n"
        ));
    }
    mesh.apply(&services).await?;
    let mut servers: Vec<Workload> = Vec::new();
    for sidecar in Sidecar::ALL {
        let service = format!("shop/catalog-{}", sidecar.word());
        servers.push(mesh.workload(&service).serving().beside(sidecar).start().await?);
    }
    mesh.in_sync(&servers.iter().map(Workload::id).collect::<Vec<_>>()).await?;
    let doors: Vec<Door> = Sidecar::ALL
        .iter()
        .zip(&servers)
        .map(|(sidecar, server)| Door::new(server.inbound(), &format!("shop/catalog-{}", sidecar.word())))
        .collect();

    let mut times = [Histogram::<u64>::new(3)?, Histogram::<u64>::new(3)?];
    for sample in 0..effort.samples {
        let victim = member(&mut mesh, &format!("web-{sample}")).await?;
        for (time, refused) in times.iter_mut().zip(revoke(&mesh, &doors, &victim).await?) {
            time.record(u64::try_from(refused.as_micros())?)?;
        }
    }
    println!("| new connections are refused by | p50 ms | p99 ms | most ms |\n| --- | --- | --- | --- |");
    for (sidecar, time) in Sidecar::ALL.iter().zip(&times) {
        let ms = |micros: u64| Duration::from_micros(micros).as_secs_f64() * 1000.0;
        let (p50, p99) = (time.value_at_quantile(0.5), time.value_at_quantile(0.99));
        println!("| {} | {:.0} | **{:.0}** | {:.0} |", sidecar.word(), ms(p50), ms(p99), ms(time.max()));
        let holds = if Duration::from_micros(p99) < GOAL { "holds" } else { "MISSED" };
        println!("<!-- {}: p99 under {GOAL:?} of {} samples: {holds} -->", sidecar.word(), time.len());
    }
    Ok(())
}

async fn member(mesh: &mut Mesh, name: &str) -> anyhow::Result<Joined> {
    let request = TokenRequest { service: "shop/web".to_owned(), ..TokenRequest::default() };
    let token = mesh.client().create_token(&request).await?.token;
    // Nothing is sent there: all may share an address.
    join(&token, &NewKey::plain()?, described(name, std::net::Ipv4Addr::LOCALHOST)).await
}

/// Revokes while a peer tries at each door; how long after the command each began to refuse.
async fn revoke(mesh: &Mesh, doors: &[Door], victim: &Joined) -> anyhow::Result<Vec<Duration>> {
    for door in doors {
        door.enter(Some(&victim.presented)).await?;
    }
    let asked = Instant::now();
    let mut waits = Vec::new();
    for door in doors {
        let (door, presented) = (door.clone(), victim.presented.clone());
        waits.push(tokio::spawn(async move {
            loop {
                let began = Instant::now();
                if door.enter(Some(&presented)).await.is_err() {
                    return Ok(began - asked);
                }
                ensure!(asked.elapsed() < GIVES_UP, "it is still let in after {GIVES_UP:?}");
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        }));
    }
    mesh.client().revoke_proxy(&victim.id()).await?;
    let mut refused = Vec::new();
    for wait in waits {
        refused.push(wait.await??);
    }
    Ok(refused)
}
