//! Two control planes on one etcd: each says of an object which proxies refused it, and in which words, though each proxy is
//! connected to one of them only.

use anyhow::{Context as _, ensure};
use weft_api::rest::{ConditionStatus, ObjectStatus};
use weft_e2e::harness::{CONVERGES, Mesh, Options, Sidecar, StoreKind, until};

use crate::shop::{SERVICES, catalog, service, start_catalog};

/// An address of a documentation network: nobody can listen there.
const ELSEWHERE: &str = "203.0.113.7:5432";

#[tokio::test]
async fn both_replicas_say_which_proxies_refused_an_object_and_why() {
    Mesh::run(Options::new(StoreKind::Etcd).replicas(2), told_by_both).await;
}

async fn told_by_both(mesh: &mut Mesh) -> anyhow::Result<()> {
    let server = catalog(Sidecar::Weft);
    mesh.apply(&[SERVICES, &service(&server)].join("\n---\n")).await?;
    let _instance = start_catalog(mesh, Sidecar::Weft, "v1").await?;
    let mut callers = Vec::new();
    for sidecar in Sidecar::ALL {
        let name = format!("web-{}", sidecar.word());
        callers.push((name.clone(), mesh.workload(&format!("shop/{name}")).beside(sidecar).start().await?));
    }
    // Three proxies, each connected to one of the two: what one replica counts alone would be less.
    until("all three have it", CONVERGES, async || {
        let counts = status_of(mesh, &server).await?.proxies.context("no counts")?;
        ensure!(counts.targeted == 3 && counts.acked == 3, "{counts:?}");
        Ok(())
    })
    .await?;
    for (service, caller) in &callers {
        let workload = caller.id().trim_start_matches("shop/");
        mesh.apply(&format!(
            "apiVersion: weft.dev/v1\nkind: Workload\nmetadata: {{name: {workload}, namespace: shop}}\n\
             spec: {{address: {}, services: [{service}], upstreams: [{{service: {server}, port: tcp, bind: '{ELSEWHERE}'}}]}}\n",
            caller.address(),
        ))
        .await?;
    }
    for replica in [0, 1] {
        mesh.use_api_of(replica)?;
        until(&format!("replica {replica} tells both refusals"), CONVERGES, async || {
            let status = status_of(mesh, &server).await?;
            let programmed =
                status.conditions.iter().find(|one| one.kind == "Programmed").context("no condition")?;
            let is_refused = programmed.status == ConditionStatus::False && programmed.reason == "Refused";
            ensure!(is_refused, "{status:?}");
            let counts = status.proxies.as_ref().context("no counts")?;
            ensure!(counts.nacked == 2 && counts.unheard == 0, "{counts:?}");
            for (_, caller) in &callers {
                let laggard = counts.laggards.iter().find(|one| one.proxy == caller.id());
                let words =
                    laggard.and_then(|one| one.error.as_deref()).with_context(|| format!("{counts:?}"))?;
                ensure!(words.contains("203.0.113.7"), "not in the proxy's own words: {words}");
            }
            Ok(())
        })
        .await?;
    }
    Ok(())
}

async fn status_of(mesh: &Mesh, service: &str) -> anyhow::Result<ObjectStatus> {
    let object = mesh.client().object("services", "shop", service).await?;
    Ok(serde_json::from_value(object.status.context("no status")?)?)
}
