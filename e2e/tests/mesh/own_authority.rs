//! Authorities of the user's own: a root that is offline and signs the mesh's issuer, and an intermediate from files. No request
//! fails on the way there and back.
//!
//! Leaves live for 20 s here, so that an old root is out of use soon.

use anyhow::{Context as _, ensure};
use weft_api::rest::{CaState, RootOrigin};
use weft_e2e::harness::{Mesh, OfflineRoot, Options, Pair, Sidecar, StoreKind, Workload, until};

use crate::root_rotation::ROTATED;
use crate::shop::{Callers, catalog, ids, start_catalog};
use crate::steady::Loads;

const LEAF_TTL: &str = "20s";

#[tokio::test]
async fn mesh_moves_to_an_offline_root_and_back_under_load() {
    Mesh::run(Options::new(StoreKind::Embedded).leaf_ttl(LEAF_TTL), async |mesh: &mut Mesh| {
        let callers = Callers::start(mesh).await?;
        let servers = start_servers(mesh).await?;
        mesh.in_sync(&ids(&callers, &servers)).await?;
        let token = mesh.token("shop/catalog-weft").await?;
        let loads = Loads::start(&callers).await?;
        let ours = mesh.client().ca().await?.root.serial;

        let root = OfflineRoot::create(mesh.dir(), "offline")?;
        let request = mesh.weft(&["ca", "csr"]).await?;
        ensure!(request == mesh.weft(&["ca", "csr"]).await? && !request.contains("PRIVATE"), "{request}");
        let said = import(mesh, &root.sign(&request, 365)?).await?;
        ensure!(said.contains("stage 3 of 3") && said.contains("Offline"), "{said}");
        ensure!(!said.contains("vouch"), "our root's key is here: {said}");
        let now = mesh.client().ca().await?;
        ensure!(now.root.serial != ours && now.root.origin == RootOrigin::Offline, "{now:#?}");
        ensure!(now.roots.len() == 1 && now.issuers.len() == 1, "{now:#?}");

        // A token of our root finds the way to theirs, and both kinds of sidecar are believed below it.
        let late = mesh.workload("shop/catalog-weft").named("catalog-late").with_token(&token.token);
        let late = late.serving().start().await.context("a join with a token of our root")?;
        mesh.in_sync(&[late.id()]).await?;
        loads.next_era(200).await?;

        // Another issuer below the same root is no rotation.
        let request = mesh.weft(&["ca", "csr"]).await?;
        import(mesh, &root.sign(&request, 365)?).await?;
        let now = mesh.client().ca().await?;
        ensure!(now.rotation.is_none() && now.roots.len() == 1 && now.issuers.len() == 2, "{now:#?}");
        ensure!(now.issuers.iter().any(|issuer| issuer.state == CaState::Coming), "{now:#?}");

        let said = mesh.weft(&["ca", "rotate", "--spread=5s", "--wait=120s"]).await?;
        ensure!(said.contains("stage 3 of 3") && said.contains("Mesh"), "{said}");
        ensure!(said.contains("does not vouch"), "their root's key is not here: {said}");
        let now = mesh.client().ca().await?;
        ensure!(now.root.origin == RootOrigin::Mesh && now.roots.len() == 1, "{now:#?}");
        loads.next_era(200).await?;
        loads.end_without_failure().await
    })
    .await;
}

#[tokio::test]
async fn mesh_is_founded_below_an_intermediate_from_files() {
    let dir = tempfile::tempdir().expect("a directory");
    let root = OfflineRoot::create(dir.path(), "owner").expect("a root");
    let (chain, key) = root.intermediate().expect("an intermediate");
    let options = Options::new(StoreKind::Embedded)
        .flag("--ca-cert", &chain.display().to_string())
        .flag("--ca-key", &key.display().to_string());
    Mesh::run(options, async |mesh: &mut Mesh| {
        let callers = Callers::start(mesh).await?;
        let servers = start_servers(mesh).await?;
        mesh.in_sync(&ids(&callers, &servers)).await?;
        for pair in Pair::ALL {
            let url = format!("http://{}/", catalog(pair.server));
            until(&format!("{pair}"), ROTATED, async || {
                let answer = callers.of(pair).calls().get(&url).await?;
                ensure!(answer.status == 200, "{answer:?}");
                Ok(())
            })
            .await?;
        }
        let now = mesh.client().ca().await?;
        ensure!(now.root.origin == RootOrigin::Files && now.rotation.is_none(), "{now:#?}");
        let own = std::fs::read_to_string(&chain)?;
        let trusted = std::fs::read_to_string(mesh.dir().join("data/ca.pem"))?;
        let body = |pem: &str| pem.split_whitespace().collect::<String>();
        ensure!(body(&own).ends_with(&body(&trusted)), "members trust the root alone: {trusted}");
        mesh.control_plane().end().await?;
        mesh.control_plane().start().await?;
        let again = mesh.client().ca().await?;
        ensure!(again.root.serial == now.root.serial && again.rotation.is_none(), "{again:#?}");
        Ok(())
    })
    .await;
}

async fn start_servers(mesh: &mut Mesh) -> anyhow::Result<Vec<Workload>> {
    let mut servers = Vec::new();
    for beside in Sidecar::ALL {
        servers.push(start_catalog(mesh, beside, "v1").await?);
    }
    Ok(servers)
}

/// Imports a chain as an operator does, and waits.
async fn import(mesh: &Mesh, chain: &str) -> anyhow::Result<String> {
    let file = mesh.dir().join("signed.pem");
    std::fs::write(&file, chain)?;
    let file = file.display().to_string();
    mesh.weft(&["ca", "import", &file, "--spread=5s", "--wait=120s"]).await
}
