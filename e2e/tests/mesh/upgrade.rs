//! Two versions at once: the programs of this tree with those of the commit before, which `scripts/upgrade` builds.

use anyhow::Context as _;
use weft_e2e::harness::{Age, Mesh, Options, Sidecar, StoreKind};

use crate::backup::Shop;
use crate::shop::start_catalog;

const LEAF_TTL: &str = "40s";

/// First the control plane, on the data that it has; then what stands beside the applications, one after the other.
#[tokio::test]
#[ignore = "needs the programs of the commit before: scripts/upgrade builds them and runs this"]
async fn upgrade_of_the_control_plane_and_then_of_each_proxy_fails_no_request() {
    Mesh::run(
        Options::new(StoreKind::Embedded).of(Age::Before).leaf_ttl(LEAF_TTL),
        async |mesh: &mut Mesh| {
            let mut shop = Shop::start(mesh).await?;
            mesh.control_plane().end().await?;
            mesh.control_plane().change_to(Age::Now);
            mesh.control_plane().start().await?;
            shop.goes_on(mesh).await.context("a newer control plane with older proxies")?;
            for beside in Sidecar::ALL {
                let joined = start_catalog(mesh, beside, "joined")
                    .await
                    .context("an older proxy joins a newer one")?;
                mesh.in_sync(&[joined.id()]).await?;
                // While one is away, the other of the same service answers.
                shop.add(joined);
            }
            mesh.change_proxies_to(Age::Now);
            shop.restart_servers(mesh).await.context("newer proxies in the place of older ones")?;
            shop.goes_on(mesh).await.context("with everything newer")?;
            shop.end_without_failure().await
        },
    )
    .await;
}

/// A control plane that is upgraded last, or goes back.
#[tokio::test]
#[ignore = "needs the programs of the commit before: scripts/upgrade builds them and runs this"]
async fn upgrade_of_proxies_first_and_the_way_back_fail_no_request() {
    Mesh::run(
        Options::new(StoreKind::Embedded).of(Age::Before).leaf_ttl(LEAF_TTL),
        async |mesh: &mut Mesh| {
            mesh.change_proxies_to(Age::Now);
            let shop = Shop::start(mesh).await.context("newer proxies join an older control plane")?;
            shop.goes_on(mesh).await.context("newer proxies with an older control plane")?;
            for age in [Age::Now, Age::Before] {
                mesh.control_plane().end().await?;
                mesh.control_plane().change_to(age);
                mesh.control_plane().start().await?;
                shop.goes_on(mesh).await.with_context(|| format!("after a start of {age:?}"))?;
            }
            shop.end_without_failure().await
        },
    )
    .await;
}
