//! Two control planes on one etcd: whichever is away, workloads join, renew and take changes by the other.

use std::time::Duration;

use anyhow::{Context as _, ensure};
use weft_e2e::harness::{Mesh, Options, Pair, Sidecar, StoreKind, Workload, until};

use crate::shop::{Callers, catalog, start_catalog};

/// Renewed every ten seconds or so.
const LEAF_TTL: &str = "20s";
const SOON: Duration = Duration::from_secs(60);

#[tokio::test]
async fn no_replica_is_missed_while_another_runs() {
    let options = Options::new(StoreKind::Etcd).replicas(2).leaf_ttl(LEAF_TTL);
    Mesh::run(options, async |mesh: &mut Mesh| {
        let callers = Callers::start(mesh).await?;
        let mut servers = Vec::new();
        for beside in Sidecar::ALL {
            servers.push(start_catalog(mesh, beside, "v1").await?);
        }
        let xds = [mesh.replica(0)?.xds().to_string(), mesh.replica(1)?.xds().to_string()];
        everybody_knows_both(&servers, &xds)?;
        until("traffic passes", SOON, async || {
            for pair in Pair::ALL {
                callers.of(pair).calls().get(&format!("http://{}/", catalog(pair.server))).await?.tree()?;
            }
            Ok(())
        })
        .await?;
        for away in [0, 1] {
            let serves = 1 - away;
            mesh.use_api_of(serves)?;
            // Made by one of two, good at either.
            let token = mesh.token(&format!("shop/{}", catalog(Sidecar::Weft))).await?;
            ensure!(xds.iter().all(|xds| control_planes(&token.token).is_ok_and(|list| list.contains(xds))));
            mesh.replica(away)?.kill()?;
            let ids: Vec<&str> = callers.ids().into_iter().chain(servers.iter().map(Workload::id)).collect();
            mesh.in_sync(&ids).await.with_context(|| format!("without replica {away}"))?;
            takes_changes(mesh, &callers, away).await?;
            renews(mesh, &ids).await.with_context(|| format!("without replica {away}"))?;
            let version = format!("joined-without-{away}");
            let joined = start_catalog(mesh, Sidecar::Weft, &version).await?;
            mesh.in_sync(&[joined.id()]).await?;
            joined.leave().await?;
            mesh.replica(away)?.start().await?;
        }
        Ok(())
    })
    .await;
}

fn control_planes(token: &str) -> anyhow::Result<String> {
    Ok(token.parse::<weft_api::JoinToken>()?.control_planes.to_string())
}

fn everybody_knows_both(servers: &[Workload], xds: &[String]) -> anyhow::Result<()> {
    for server in servers {
        let kept = std::fs::read_to_string(server.identity_dir().join("workload.json"))?;
        ensure!(xds.iter().all(|xds| kept.contains(xds)), "{}: {kept}", server.id());
    }
    let envoy = servers.iter().find(|server| server.identity_dir().join("envoy.yaml").exists());
    let bootstrap = std::fs::read_to_string(envoy.context("no Envoy")?.identity_dir().join("envoy.yaml"))?;
    for xds in xds {
        let (address, _) = xds.split_once(':').context("IP:PORT")?;
        ensure!(bootstrap.contains(address), "{address}: {bootstrap}");
    }
    Ok(())
}

async fn takes_changes(mesh: &Mesh, callers: &Callers, away: usize) -> anyhow::Result<()> {
    for server in Sidecar::ALL {
        let name = catalog(server);
        mesh.apply(&format!(
            r"
apiVersion: weft.dev/v1
kind: HTTPRoute
metadata: {{name: {name}-without, namespace: shop}}
spec:
  parentRefs: [{{kind: Service, name: {name}, port: 80}}]
  rules:
  - filters:
    - type: ResponseHeaderModifier
      responseHeaderModifier: {{set: [{{name: x-without, value: '{away}'}}]}}
    backendRefs: [{{name: {name}, port: 80}}]
"
        ))
        .await?;
    }
    for pair in Pair::ALL {
        let answer = callers.of(pair).calls().get(&format!("http://{}/", catalog(pair.server))).await?;
        let without = answer.headers.get("x-without").and_then(|value| value.to_str().ok());
        ensure!(answer.status == 200, "{pair}: {} {}", answer.status, answer.body);
        ensure!(without == Some(away.to_string().as_str()), "{pair}: {without:?} without replica {away}");
    }
    Ok(())
}

async fn renews(mesh: &Mesh, ids: &[&str]) -> anyhow::Result<()> {
    let before = mesh.proxies().await?;
    until("every certificate is renewed", SOON, async || {
        let now = mesh.proxies().await?;
        for id in ids {
            let serial = |proxies: &std::collections::BTreeMap<String, weft_api::rest::ProxyStatus>| {
                proxies.get(*id).and_then(|proxy| Some(proxy.certificate.as_ref()?.serial.clone()))
            };
            let (before, now) = (serial(&before), serial(&now));
            ensure!(now.is_some() && now != before, "{id} still has {before:?}");
        }
        Ok(())
    })
    .await
}
