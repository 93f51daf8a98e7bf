//! How long each stage of a root's rotation takes, with few members and with many.
//!
//! Members are lean: each has an identity and keeps it as a sidecar does (reports, early renewal), by the code of weft-proxy, and
//! nothing else. Leaves live for a minute, renewals are spread over half of one; with leaves of a day the second stage takes a day.

use std::sync::Arc;
use std::time::Duration;

use anyhow::ensure;
use clap::Parser as _;
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use weft_api::JoinToken;
use weft_api::rest::{RotationRequest, RotationStageName, TokenRequest};
use weft_dataplane::identity::channel::Credentials;
use weft_dataplane::identity::join::{ControlPlaneClient, join};
use weft_dataplane::identity::replicas::Replicas;
use weft_dataplane::identity::rotation::{WallClock, rotate};
use weft_e2e::harness::{Mesh, Options, StoreKind, described};

const PAUSE: Duration = Duration::from_millis(100);
const GIVES_UP: Duration = Duration::from_secs(600);
const SERVICE: &str = "
{apiVersion: weft.dev/v1, kind: Service, metadata: {name: web, namespace: shop}, spec: {ports: [{name: http, port: 80}]}}
";

/// How much to measure.
#[derive(clap::Parser)]
struct Effort {
    /// Numbers of members, one mesh each
    #[arg(long, value_delimiter = ',', default_values_t = [6, 200])]
    members: Vec<usize>,
    /// Given by cargo
    #[arg(long, hide = true)]
    bench: bool,
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let effort = Effort::parse();
    println!(
        "| members | 1, the new root is with all, s | 2, no leaf of the old one lives, s | 3, the control plane has moved, s |"
    );
    println!("| --- | --- | --- | --- |");
    for members in effort.members {
        let [first, second, third] = rotation(members).await?;
        println!("| {members} | {first:.1} | {second:.1} | {third:.1} |");
    }
    Ok(())
}

async fn rotation(members: usize) -> anyhow::Result<[f64; 3]> {
    let mesh = Mesh::start(Options::new(StoreKind::Embedded).leaf_ttl("60s")).await?;
    mesh.apply(SERVICE).await?;
    let request = TokenRequest {
        service: "shop/web".to_owned(),
        uses: Some(u32::try_from(members)?),
        ttl: Some("1h".to_owned()),
        ..TokenRequest::default()
    };
    let token: JoinToken = mesh.client().create_token(&request).await?.token.parse()?;
    let stop = CancellationToken::new();
    for number in 0..members {
        keep(&token, &format!("web-{number}"), stop.clone()).await?;
    }
    let old = mesh.client().ca().await?.root.serial;
    let request = RotationRequest { spread: Some("30s".to_owned()) };
    mesh.client().rotate_root(&request).await?;
    let begun = Instant::now();
    let (mut ends, mut stage) = (Vec::new(), Some(RotationStageName::DistributingRoot));
    while stage.is_some() {
        ensure!(
            begun.elapsed() < GIVES_UP,
            "the rotation is not over: {:#?}",
            mesh.client().ca().await?.rotation
        );
        tokio::time::sleep(PAUSE).await;
        let now = mesh.client().ca().await?.rotation.map(|rotation| rotation.stage);
        if now != stage {
            ends.push(begun.elapsed().as_secs_f64());
            stage = now;
        }
    }
    let status = mesh.client().ca().await?;
    ensure!(status.root.serial != old && status.leaves >= members, "{status:#?}");
    stop.cancel();
    let [first, second, third] = ends[..] else { anyhow::bail!("stages were skipped: {ends:?}") };
    Ok([first, second - first, third - second])
}

/// Joins, and keeps the identity until `stop`.
async fn keep(token: &JoinToken, name: &str, stop: CancellationToken) -> anyhow::Result<()> {
    let replicas = Replicas::new(&token.control_planes);
    let joined = join(token, &replicas, described(name, std::net::Ipv4Addr::LOCALHOST)).await?;
    let (sender, identity) = watch::channel(Arc::new(joined.identity));
    let credentials = Credentials::Joined { identity, trust_domain: joined.trust_domain };
    let issuer = ControlPlaneClient::new(replicas, credentials);
    tokio::spawn(async move { rotate(sender, issuer, WallClock::System, |_| {}, stop).await });
    Ok(())
}
