//! The day after: a mesh whose store is lost and restored, and one that moves to another store, under load all the while.

use std::time::Duration;

use anyhow::{Context as _, ensure};
use weft_e2e::harness::{CONVERGES, Etcd, Mesh, Options, Pair, Sidecar, StoreKind, Workload, until};

use crate::shop::{Callers, catalog, start_catalog};
use crate::steady::{Loads, rate, rotated, serials};

/// Long enough for an outage, short enough to see certificates renewed before and after it.
const LEAF_TTL: &str = "60s";
const OUTAGE: Duration = Duration::from_secs(3);

#[tokio::test]
async fn mesh_whose_data_directory_is_lost_goes_on_from_a_backup() {
    Mesh::run(Options::new(StoreKind::Embedded).leaf_ttl(LEAF_TTL), async |mesh: &mut Mesh| {
        let shop = Shop::start(mesh).await?;
        // Not used before the mesh is lost.
        let token = mesh.token(&format!("shop/{}", catalog(Sidecar::Weft))).await?.token;
        let before = serials(mesh, &shop.ids()).await?;
        let file = mesh.dir().join("mesh.backup");
        let file = file.to_str().context("a path in UTF-8")?;
        let said = mesh.control_plane().run(&["backup", file]).await?;
        ensure!(said.contains("seal.key"), "{said}");
        // No certificate that is in use when the mesh is lost stands in the backup.
        rotated(mesh, &shop.ids(), &before, 1).await.context("between backup and loss")?;
        shop.loads.without_failure().context("while the backup was taken")?;

        let (data, kept) = (mesh.control_plane().data().to_owned(), mesh.dir().join("kept.key"));
        std::fs::copy(data.join("seal.key"), &kept)?;
        mesh.control_plane().kill()?;
        std::fs::remove_dir_all(&data)?;
        shop.loads.next_era(OUTAGE.as_secs() * u64::from(rate())).await.context("without a control plane")?;
        mesh.control_plane().run(&["restore", file]).await?;
        std::fs::copy(&kept, data.join("seal.key"))?;
        mesh.control_plane().start().await?;

        shop.goes_on(mesh).await?;
        let service = format!("shop/{}", catalog(Sidecar::Weft));
        let late = mesh.workload(&service).named("late").serving().with_token(&token).start().await?;
        mesh.in_sync(&[late.id()]).await.context("joined with a token from before")?;
        shop.loads.end_without_failure().await
    })
    .await;
}

#[tokio::test]
async fn mesh_moves_from_the_embedded_store_to_etcd() {
    Mesh::run(Options::new(StoreKind::Embedded).leaf_ttl(LEAF_TTL), async |mesh: &mut Mesh| {
        let shop = Shop::start(mesh).await?;
        let address = mesh.next_address();
        let etcd = Etcd::start(mesh.dir(), address).await?;
        mesh.control_plane().end().await?;
        let data = mesh.control_plane().data().to_owned();
        let copy =
            ["store", "copy", "--from", data.to_str().context("a path in UTF-8")?, "--to", etcd.endpoint()];
        mesh.control_plane().run(&copy).await?;
        std::fs::rename(data.join("weft.redb"), data.join("weft.redb.moved"))?;
        mesh.control_plane().move_to(&etcd);
        mesh.control_plane().start().await?;
        shop.goes_on(mesh).await?;
        ensure!(!data.join("weft.redb").exists(), "it serves from the old store");
        shop.loads.end_without_failure().await
    })
    .await;
}

/// A caller and a server beside each sidecar, and a load on each pair.
pub struct Shop {
    callers: Callers,
    servers: Vec<Workload>,
    loads: Loads,
}

impl Shop {
    pub async fn start(mesh: &mut Mesh) -> anyhow::Result<Self> {
        let callers = Callers::start(mesh).await?;
        let mut servers = Vec::new();
        for beside in Sidecar::ALL {
            servers.push(start_catalog(mesh, beside, "v1").await?);
        }
        let loads = Loads::start(&callers).await?;
        let shop = Self { callers, servers, loads };
        mesh.in_sync(&shop.ids()).await?;
        Ok(shop)
    }

    fn ids(&self) -> Vec<&str> {
        self.callers.ids().into_iter().chain(self.servers.iter().map(Workload::id)).collect()
    }

    /// One more server, which is restarted with the others.
    pub fn add(&mut self, server: Workload) {
        self.servers.push(server);
    }

    /// Restarts what stands beside the servers, one after the other.
    pub async fn restart_servers(&mut self, mesh: &Mesh) -> anyhow::Result<()> {
        for number in 0..self.servers.len() {
            self.all_are_called(mesh).await?;
            self.servers[number].restart(mesh).await?;
            mesh.in_sync(&[self.servers[number].id()]).await?;
            self.loads.next_era(50).await?;
        }
        Ok(())
    }

    /// Waits until the callers know every server as one to call: while one of them is away, another one answers.
    async fn all_are_called(&self, mesh: &Mesh) -> anyhow::Result<()> {
        until("every server is called", CONVERGES, async || {
            for pair in Pair::ALL {
                let cluster = format!("shop/{}/http", catalog(pair.server));
                let endpoints = mesh.endpoints(self.callers.of(pair).id(), &cluster).await?;
                let healthy = endpoints.values().filter(|status| *status == "HEALTHY").count();
                ensure!(healthy == self.servers.len() / Sidecar::ALL.len(), "{pair}: {endpoints:?}");
            }
            Ok(())
        })
        .await?;
        mesh.in_sync(&self.callers.ids()).await
    }

    /// Stops sending and fails when any request failed.
    pub async fn end_without_failure(self) -> anyhow::Result<()> {
        self.loads.end_without_failure().await
    }

    /// Everybody is connected, takes changes and renews, and no request has failed.
    pub async fn goes_on(&self, mesh: &Mesh) -> anyhow::Result<()> {
        mesh.in_sync(&self.ids()).await.context("afterwards")?;
        let now = serials(mesh, &self.ids()).await?;
        mesh.apply(
            "{apiVersion: weft.dev/v1, kind: Service, metadata: {name: new, namespace: shop}, \
             spec: {ports: [{name: http, port: 80, protocol: HTTP}]}}",
        )
        .await
        .context("a change afterwards")?;
        rotated(mesh, &self.ids(), &now, 1).await.context("afterwards")?;
        self.loads.next_era(200).await.context("afterwards")?;
        self.loads.without_failure()
    }
}
