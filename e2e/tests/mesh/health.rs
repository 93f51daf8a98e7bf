//! A Service's `healthCheck` is run by each sidecar on its own application, and EDS carries the result.

use std::time::Duration;

use anyhow::{Context as _, ensure};
use weft_e2e::harness::{CONVERGES, Calls, Mesh, Options, Pair, Sidecar, StoreKind, Workload, until};

use crate::shop::{Callers, catalog, start_catalog};

#[tokio::test]
async fn sick_applications_get_no_requests_on_the_embedded_store() {
    Mesh::run(Options::new(StoreKind::Embedded), sick_applications_get_no_requests).await;
}

#[tokio::test]
async fn sick_applications_get_no_requests_on_etcd() {
    Mesh::run(Options::new(StoreKind::Etcd), sick_applications_get_no_requests).await;
}

const NOTICED: Duration = Duration::from_secs(30);

async fn sick_applications_get_no_requests(mesh: &mut Mesh) -> anyhow::Result<()> {
    let callers = Callers::start(mesh).await?;
    mesh.apply(&Sidecar::ALL.map(checked).join("\n---\n")).await?;
    for beside in Sidecar::ALL {
        let _first = start_catalog(mesh, beside, "v1").await?;
        let second = start_catalog(mesh, beside, "v2").await?;
        all_get_requests(&callers, beside, &[&_first, &second]).await.context("in health")?;
        status_becomes(mesh, &callers, &second, beside, "HEALTHY").await?;

        Calls::direct().get(&format!("{}/fault?status=503", second.app())).await?;
        status_becomes(mesh, &callers, &second, beside, "UNHEALTHY").await.context("the fault")?;
        ensure!(mesh.client().proxy(second.id()).await?.health == "Unhealthy", "the API says otherwise");
        gets_nothing(&callers, beside, &second).await?;

        Calls::direct().get(&format!("{}/fault", second.app())).await?;
        status_becomes(mesh, &callers, &second, beside, "HEALTHY").await.context("the recovery")?;
        all_get_requests(&callers, beside, &[&_first, &second]).await.context("recovered")?;
    }
    Ok(())
}

/// `catalog-…` with a check on a path that planted faults strike.
fn checked(server: Sidecar) -> String {
    let name = catalog(server);
    format!(
        r"
apiVersion: weft.dev/v1
kind: Service
metadata: {{name: {name}, namespace: shop}}
spec:
  ports:
  - {{name: http, port: 80, protocol: HTTP}}
  healthCheck:
    http: {{path: /status/200}}
    interval: 1s
    timeout: 1s
    healthyThreshold: 1
    unhealthyThreshold: 2
"
    )
}

async fn status_becomes(
    mesh: &Mesh,
    callers: &Callers,
    server: &Workload,
    beside: Sidecar,
    wanted: &str,
) -> anyhow::Result<()> {
    let cluster = format!("shop/{}/http", catalog(beside));
    let caller = callers.of(Pair { caller: Sidecar::Weft, server: beside });
    until(&format!("{} is {wanted} in EDS", server.id()), NOTICED, async || {
        let endpoints = mesh.endpoints(caller.id(), &cluster).await?;
        let status = endpoints.get(&server.inbound().to_string());
        ensure!(status.is_some_and(|status| status == wanted), "{endpoints:?}");
        Ok(())
    })
    .await
}

async fn all_get_requests(callers: &Callers, beside: Sidecar, servers: &[&Workload]) -> anyhow::Result<()> {
    for caller in Sidecar::ALL {
        let calls = callers.of(Pair { caller, server: beside }).calls();
        for server in servers {
            until(&format!("{} answers {}", server.id(), caller.word()), CONVERGES, async || {
                let tree = calls.get(&format!("http://{}/", catalog(beside))).await?.tree()?;
                ensure!(tree.workload == server.name(), "{} answered", tree.workload);
                Ok(())
            })
            .await?;
        }
    }
    Ok(())
}

async fn gets_nothing(callers: &Callers, beside: Sidecar, sick: &Workload) -> anyhow::Result<()> {
    for caller in Sidecar::ALL {
        let calls = callers.of(Pair { caller, server: beside }).calls();
        let url = format!("http://{}/", catalog(beside));
        until(&format!("{} gets no request from {}", sick.id(), caller.word()), CONVERGES, async || {
            for _ in 0..40 {
                let tree = calls.get(&url).await?.tree()?;
                ensure!(tree.workload != sick.name(), "it does");
            }
            Ok(())
        })
        .await?;
    }
    Ok(())
}
