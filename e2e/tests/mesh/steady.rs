//! Changes under a steady load, in every pair at once: not one request fails, and what was asked for happens.
//!
//! Certificates live for 20 s here, so they rotate several times while all this goes on.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use weft_e2e::harness::{CONVERGES, Mesh, Options, Pair, Sidecar, StoreKind, Workload, short_or_long, until};
use weft_e2e::load::{Era, Load, LoadTarget};

use crate::shop::{Callers, catalog, service, start_catalog};

/// Requests by which a split must show. With 4,000, three points are more than six standard deviations.
fn sample() -> u64 {
    if cfg!(debug_assertions) { 1_800 } else { short_or_long(4_000, 20_000) }
}

/// Requests a second in each pair. An unoptimised build on a small machine carries fewer.
pub fn rate() -> u32 {
    if cfg!(debug_assertions) { 60 } else { short_or_long(250, 1_000) }
}

const LEAF_TTL: &str = "20s";
const ROTATES: Duration = Duration::from_secs(60);

#[tokio::test]
async fn changes_under_load_fail_no_request_on_the_embedded_store() {
    Mesh::run(Options::new(StoreKind::Embedded).leaf_ttl(LEAF_TTL), changes_under_load).await;
}

#[tokio::test]
async fn changes_under_load_fail_no_request_on_etcd() {
    Mesh::run(Options::new(StoreKind::Etcd).leaf_ttl(LEAF_TTL), changes_under_load).await;
}

/// The load of every pair.
pub struct Loads(BTreeMap<Pair, Load>);

async fn changes_under_load(mesh: &mut Mesh) -> anyhow::Result<()> {
    let callers = Callers::start(mesh).await?;
    let others = Sidecar::ALL.map(|server| service(&other(server)));
    mesh.apply(&others.join("\n---\n")).await?;
    let mut servers = Vec::new();
    for beside in Sidecar::ALL {
        for version in ["v1", "v2"] {
            servers.push(start_catalog(mesh, beside, version).await?);
        }
        let other = format!("shop/{}", other(beside));
        servers.push(mesh.workload(&other).serving().beside(beside).start().await?);
    }
    let ids: Vec<&str> = callers.ids().into_iter().chain(servers.iter().map(Workload::id)).collect();
    mesh.in_sync(&ids).await?;
    let serials = serials(mesh, &ids).await?;

    let loads = Loads::start(&callers).await?;
    splits_traffic(mesh, &loads).await.context("split")?;
    moves_to_another_service_and_back(mesh, &loads).await.context("move")?;
    adds_and_removes_endpoints(mesh, &loads).await.context("endpoints")?;
    rotated(mesh, &ids, &serials, 2).await.context("rotation")?;
    shows_edges(mesh).await.context("edges")?;
    loads.end_without_failure().await
}

impl Loads {
    /// Starts one for each pair, once it gets an answer.
    pub async fn start(callers: &Callers) -> anyhow::Result<Self> {
        let mut loads = BTreeMap::new();
        for pair in Pair::ALL {
            let (caller, url) = (callers.of(pair), format!("http://{}/echo", catalog(pair.server)));
            let what = format!("{pair}: an answer");
            let calls = caller.calls();
            until(&what, CONVERGES, async || {
                let answer = calls.get(&url).await?;
                ensure!(answer.status == 200, "{} {}", answer.status, answer.body);
                Ok(())
            })
            .await?;
            let target = LoadTarget { name: pair.to_string(), sidecar: caller.outbound(), url, rate: rate() };
            loads.insert(pair, Load::start(target));
        }
        Ok(Self(loads))
    }

    /// Draws a line, waits for so many requests behind it, and returns them.
    pub async fn next_era(&self, requests: u64) -> anyhow::Result<BTreeMap<Pair, Era>> {
        let numbers: Vec<usize> = self.0.values().map(Load::next_era).collect();
        let mut eras = BTreeMap::new();
        for ((pair, load), number) in self.0.iter().zip(numbers) {
            eras.insert(*pair, load.reach(number, requests).await?);
        }
        self.without_failure()?;
        Ok(eras)
    }

    /// Fails when a request has failed so far.
    pub fn without_failure(&self) -> anyhow::Result<()> {
        let failed = self.0.iter().map(|(pair, load)| (pair, load.tally()));
        let failed: Vec<String> = failed
            .filter(|(_, tally)| tally.failed() > 0)
            .map(|(pair, tally)| format!("{pair}: {tally}"))
            .collect();
        ensure!(failed.is_empty(), "requests failed\n{}", failed.join("\n"));
        Ok(())
    }

    /// Stops sending and fails when any request failed.
    pub async fn end_without_failure(self) -> anyhow::Result<()> {
        let mut failed = Vec::new();
        for (pair, load) in self.0 {
            let tally = load.stop().await;
            println!("{pair}: {tally}");
            ensure!(tally.answered() > 0, "{pair}: there was no load");
            if tally.failed() > 0 {
                failed.push(format!("{pair}: {tally}"));
            }
        }
        ensure!(failed.is_empty(), "requests failed\n{}", failed.join("\n"));
        Ok(())
    }
}

/// The service that traffic is moved to.
fn other(beside: Sidecar) -> String {
    format!("other-{}", beside.word())
}

fn split(server: Sidecar) -> String {
    let name = catalog(server);
    format!(
        r"
apiVersion: weft.dev/v1
kind: HTTPRoute
metadata: {{name: {name}, namespace: shop}}
spec:
  parentRefs: [{{kind: Service, name: {name}, port: 80}}]
  rules:
  - backendRefs:
    - {{name: {name}, port: 80, subset: v1, weight: 90}}
    - {{name: {name}, port: 80, subset: v2, weight: 10}}
"
    )
}

fn moved(server: Sidecar) -> String {
    let (name, other) = (catalog(server), other(server));
    format!(
        r"
apiVersion: weft.dev/v1
kind: HTTPRoute
metadata: {{name: {name}, namespace: shop}}
spec:
  parentRefs: [{{kind: Service, name: {name}, port: 80}}]
  rules:
  - backendRefs: [{{name: {other}, port: 80}}]
"
    )
}

async fn splits_traffic(mesh: &Mesh, loads: &Loads) -> anyhow::Result<()> {
    mesh.apply(&Sidecar::ALL.map(split).join("\n---\n")).await?;
    for (pair, era) in loads.next_era(sample()).await? {
        let minor = era.percent(&format!("{}-v2", catalog(pair.server)));
        ensure!((minor - 10.0).abs() <= 3.0, "{pair}: {minor:.1} % instead of 10: {era:?}");
        let major = era.percent(&format!("{}-v1", catalog(pair.server)));
        ensure!((major + minor - 100.0).abs() < 1e-6, "{pair}: others answered: {era:?}");
    }
    Ok(())
}

async fn moves_to_another_service_and_back(mesh: &Mesh, loads: &Loads) -> anyhow::Result<()> {
    mesh.apply(&Sidecar::ALL.map(moved).join("\n---\n")).await?;
    for (pair, era) in loads.next_era(200).await? {
        let share = era.percent(&format!("{}-v1", other(pair.server)));
        ensure!(share >= 100.0, "{pair}: the other service got {share:.1} %: {era:?}");
    }
    for server in Sidecar::ALL {
        mesh.client().delete("httproute", "shop", &catalog(server)).await?;
    }
    for pair in Pair::ALL {
        let name = format!("{}-v1", other(pair.server));
        until(&format!("{pair}: the route is gone"), CONVERGES, async || {
            let load = &loads.0[&pair];
            let era = load.reach(load.next_era(), 20).await?;
            ensure!(era.percent(&name) == 0.0, "{era:?}");
            Ok(())
        })
        .await?;
    }
    loads.without_failure()
}

async fn adds_and_removes_endpoints(mesh: &mut Mesh, loads: &Loads) -> anyhow::Result<()> {
    for turn in 0..short_or_long(1, 5) {
        let mut added = Vec::new();
        for beside in Sidecar::ALL {
            let name = format!("{}-extra{turn}", catalog(beside));
            let service = format!("shop/{}", catalog(beside));
            added.push(mesh.workload(&service).named(&name).serving().beside(beside).start().await?);
        }
        for pair in Pair::ALL {
            let name = format!("{}-extra{turn}", catalog(pair.server));
            answers_come(loads, pair, &name, true).await?;
        }
        if turn == 0 {
            comes_back_after_a_restart(mesh, loads, &mut added).await?;
        }
        for workload in added {
            let id = workload.id().to_owned();
            workload.leave().await.with_context(|| format!("{id} leaves"))?;
        }
        for pair in Pair::ALL {
            let name = format!("{}-extra{turn}", catalog(pair.server));
            answers_come(loads, pair, &name, false).await?;
        }
        loads.without_failure()?;
    }
    Ok(())
}

/// A sidecar that is restarted says goodbye, finds its identity again, and gets requests as before.
async fn comes_back_after_a_restart(
    mesh: &Mesh,
    loads: &Loads,
    added: &mut [Workload],
) -> anyhow::Result<()> {
    for workload in added.iter_mut() {
        let id = workload.id().to_owned();
        workload.restart(mesh).await.with_context(|| format!("{id} restarts"))?;
    }
    let ids: Vec<&str> = added.iter().map(Workload::id).collect();
    until("those that are back are healthy", CONVERGES, async || {
        let proxies = mesh.proxies().await?;
        let sick: Vec<_> =
            ids.iter().filter(|id| proxies.get(**id).is_none_or(|proxy| proxy.health != "Healthy")).collect();
        ensure!(sick.is_empty(), "{sick:?}");
        Ok(())
    })
    .await?;
    for pair in Pair::ALL {
        let name = format!("{}-extra0", catalog(pair.server));
        answers_come(loads, pair, &name, true).await?;
    }
    Ok(())
}

/// Waits until a workload gets its share of the load, or none.
async fn answers_come(loads: &Loads, pair: Pair, workload: &str, wanted: bool) -> anyhow::Result<()> {
    let what = format!("{pair}: {workload} answers: {wanted}");
    until(&what, CONVERGES, async || {
        let load = &loads.0[&pair];
        let era = load.reach(load.next_era(), 100).await?;
        ensure!((era.percent(workload) > 0.0) == wanted, "{era:?}");
        Ok(())
    })
    .await
}

/// The serial number of each proxy's certificate.
pub async fn serials(mesh: &Mesh, ids: &[&str]) -> anyhow::Result<BTreeMap<String, String>> {
    let mut serials = BTreeMap::new();
    for (id, proxy) in mesh.proxies().await?.into_iter().filter(|(id, _)| ids.contains(&id.as_str())) {
        let certificate = proxy.certificate.with_context(|| format!("{id} has no certificate"))?;
        serials.insert(id, certificate.serial);
    }
    Ok(serials)
}

/// Waits until each proxy has a certificate that it did not have before, so many times over.
pub async fn rotated(
    mesh: &Mesh,
    ids: &[&str],
    before: &BTreeMap<String, String>,
    times: usize,
) -> anyhow::Result<()> {
    let mut before = before.clone();
    for time in 0..times {
        before = until(&format!("rotation {time} of all certificates"), ROTATES, async || {
            let now = serials(mesh, ids).await?;
            let gone: Vec<_> = ids.iter().filter(|id| !now.contains_key(**id)).collect();
            ensure!(gone.is_empty(), "not there any more: {gone:?}");
            let same: Vec<&String> =
                now.iter().filter(|(id, s)| before.get(*id) == Some(s)).map(|(id, _)| id).collect();
            ensure!(same.is_empty(), "still the same: {same:?}");
            Ok(now)
        })
        .await?;
    }
    Ok(())
}

/// Every pair is an edge of the picture, with a rate, no errors, percentiles, and mutual TLS.
async fn shows_edges(mesh: &Mesh) -> anyhow::Result<()> {
    for pair in Pair::ALL {
        let source = format!("shop/web-{}", pair.caller.word());
        let destination = format!("shop/{}", catalog(pair.server));
        until(&format!("{pair}: the edge"), CONVERGES, async || {
            let edges = mesh.client().edges().await?.items;
            let found = edges
                .iter()
                .find(|edge| {
                    edge.source == source
                        && edge.destination == destination
                        && edge.port == "http"
                        && edge.subset.is_none()
                })
                .with_context(|| format!("not among {edges:?}"))?;
            let expected = f64::from(rate());
            ensure!(
                found.rate > expected * 0.5 && found.rate < expected * 1.5,
                "the rate is wrong: {found:?}"
            );
            ensure!(found.success == Some(1.0), "the success is wrong: {found:?}");
            ensure!(found.mtls, "no mutual TLS: {found:?}");
            let (p50, p99) = (found.p50_ms.context("no p50")?, found.p99_ms.context("no p99")?);
            ensure!(p50 > 0.0 && p50 <= p99 && p99 < 10_000.0, "percentiles are wrong: {found:?}");
            Ok(())
        })
        .await?;
    }
    Ok(())
}
