//! How long each stage of a root's rotation takes, with few members and with many.
//!
//! Members are lean: each has an identity and keeps it as a sidecar does (reports, early renewal), and nothing else. Leaves live for a minute, renewals are spread over half of one; with leaves of a day the second stage takes a day.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use anyhow::ensure;
use clap::Parser as _;
use sha2::{Digest as _, Sha256};
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use weft_api::join::ReportRequest;
use weft_api::join::join_service_client::JoinServiceClient;
use weft_api::rest::{IssuerImport, RootOrigin, RotationRequest, RotationStageName, TokenRequest};
use weft_e2e::harness::{Joined, Mesh, NewKey, OfflineRoot, Options, StoreKind, described, join};
use x509_parser::prelude::{FromDer as _, X509Certificate};

const LEAF: Duration = Duration::from_secs(60);
/// A token is taken ten times a second.
const JOINS: Duration = Duration::from_millis(110);
const PAUSE: Duration = Duration::from_millis(100);
const GIVES_UP: Duration = Duration::from_secs(600);
const SERVICE: &str = "
{apiVersion: weft.dev/v1, kind: Service, metadata: {name: web, namespace: shop}, spec: {ports: [{name: http, port: 80, protocol: HTTP}]}}
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
        "| members | to a root | 1, the new root is with all, s | 2, no leaf of the old one lives, s | 3, the control plane has moved, s |"
    );
    println!("| --- | --- | --- | --- | --- |");
    for members in effort.members {
        for successor in [RootOrigin::Mesh, RootOrigin::Offline] {
            let [first, second, third] = rotation(members, successor).await?;
            let word = successor.as_str();
            println!("| {members} | {word} | {first:.1} | {second:.1} | {third:.1} |");
        }
    }
    Ok(())
}

/// Moves to another root, of the mesh or of somebody who signs its issuer.
async fn begin(mesh: &Mesh, successor: RootOrigin) -> anyhow::Result<()> {
    let spread = Some("30s".to_owned());
    if successor == RootOrigin::Mesh {
        mesh.client().rotate_root(&RotationRequest { spread }).await?;
        return Ok(());
    }
    let request = mesh.client().issuer_request().await?;
    let chain = OfflineRoot::create(mesh.dir(), "offline")?.sign(&request.pem, 365)?;
    mesh.client().import_issuer(&IssuerImport { chain, spread }).await?;
    Ok(())
}

async fn rotation(members: usize, successor: RootOrigin) -> anyhow::Result<[f64; 3]> {
    let mesh = Mesh::start(Options::new(StoreKind::Embedded).leaf_ttl("60s")).await?;
    mesh.apply(SERVICE).await?;
    let request = TokenRequest {
        service: "shop/web".to_owned(),
        uses: Some(u32::try_from(members)?),
        ttl: Some("1h".to_owned()),
        ..TokenRequest::default()
    };
    let token = mesh.client().create_token(&request).await?.token;
    let stop = CancellationToken::new();
    let mut keepers = JoinSet::new();
    for number in 0..members {
        let member = described(&format!("web-{number}"), Ipv4Addr::LOCALHOST);
        let joined = join(&token, &NewKey::plain()?, member).await?;
        keepers.spawn(keep(mesh.xds(), joined, stop.clone()));
        tokio::time::sleep(JOINS).await;
    }
    let old = mesh.client().ca().await?.root.serial;
    begin(&mesh, successor).await?;
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
    while let Some(kept) = keepers.join_next().await {
        kept??;
    }
    let [first, second, third] = ends[..] else { anyhow::bail!("stages were skipped: {ends:?}") };
    Ok([first, second - first, third - second])
}

/// Keeps an identity until `stop`, as a sidecar does: tells what it trusts, takes what it should, and renews when told to or when
/// half of the certificate's life is over.
async fn keep(xds: SocketAddr, mut joined: Joined, stop: CancellationToken) -> anyhow::Result<()> {
    let mut trusted = fingerprints(&joined.answer.bundle_der)?;
    let mut due = Instant::now() + LEAF / 2;
    loop {
        let report = ReportRequest { trusted_root_spki_sha256: trusted.clone() };
        let answer = JoinServiceClient::new(joined.channel(xds)).report(report).await?.into_inner();
        if !answer.bundle_der.is_empty() {
            trusted = fingerprints(&answer.bundle_der)?;
            continue;
        }
        if let Some(within) = answer.renew_within_seconds {
            due = due.min(Instant::now() + Duration::from_secs(within.into()));
        }
        let next = Instant::now() + Duration::from_secs(answer.report_after_seconds.into());
        if stop.run_until_cancelled(tokio::time::sleep_until(next.min(due))).await.is_none() {
            return Ok(());
        }
        if due <= Instant::now() {
            joined = joined.renew(xds).await?;
            due = Instant::now() + LEAF / 2;
        }
    }
}

fn fingerprints(roots: &[Vec<u8>]) -> anyhow::Result<Vec<Vec<u8>>> {
    let fingerprint = |root: &Vec<u8>| {
        let (_, read) = X509Certificate::from_der(root)?;
        anyhow::Ok(Sha256::digest(read.public_key().raw).to_vec())
    };
    roots.iter().map(fingerprint).collect()
}
