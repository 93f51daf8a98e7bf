//! The seal key is replaced under load, while certificates are issued and a replica dies in the middle of it.
//!
//! Leaves live for 20 s here, so that some are issued all the time.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use weft_e2e::harness::{CONVERGES, Mesh, Options, StoreKind, until};

use crate::shop::{Callers, ids, start_both_versions};
use crate::steady::Loads;

/// A replica that died is waited for until its lease ends.
const GONE: Duration = Duration::from_secs(60);

#[tokio::test]
async fn seal_key_is_replaced_under_load_while_a_replica_dies_on_etcd() {
    let options = Options::new(StoreKind::Etcd).replicas(2).leaf_ttl("20s");
    Mesh::run(options, async |mesh: &mut Mesh| {
        let callers = Callers::start(mesh).await?;
        let servers = start_both_versions(mesh).await?;
        mesh.in_sync(&ids(&callers, &servers)).await?;
        let loads = Loads::start(&callers).await?;
        let (file, id) = (mesh.dir().join("seal.key"), callers.ids()[0].to_owned());
        let serial = serial(mesh, &id).await?;

        for (round, delay) in [0, 10].into_iter().enumerate() {
            put_before_the_others(&file, u8::try_from(round)? + 1)?;
            // Whether it is killed before, amid or after the transaction is chance: what follows is the same.
            let (asked, dies) = (mesh.replica(0)?.client()?, Duration::from_millis(delay));
            let asking = tokio::spawn(async move { asked.reseal().await });
            tokio::time::sleep(dies).await;
            mesh.replica(0)?.kill()?;
            drop(asking.await);
            mesh.use_api_of(1)?;
            until("the other one does it, or finds it done", GONE, async || {
                Ok(mesh.client().reseal().await?)
            })
            .await?;
            let seal = mesh.client().ca().await?.seal.context("a status")?;
            let old =
                seal.keys.iter().filter(|key| key.id != seal.sealing).map(|key| key.records).sum::<usize>();
            ensure!(old == 0 && seal.problem.is_none(), "{seal:#?}");
            leave_the_first(&file)?;
            mesh.replica(0)?.start().await.context("it starts with the new key alone")?;
        }
        until("a certificate was issued meanwhile", CONVERGES, async || {
            ensure!(self::serial(mesh, &id).await? != serial, "still the same");
            Ok(())
        })
        .await?;
        let said = mesh.weft(&["ca", "reseal"]).await?;
        ensure!(said.contains("put a new one before it"), "{said}");
        let status = mesh.weft(&["ca", "status"]).await?;
        ensure!(status.contains("SEAL KEY") && status.contains("seals"), "{status}");
        loads.end_without_failure().await
    })
    .await;
}

async fn serial(mesh: &Mesh, id: &str) -> anyhow::Result<String> {
    let status = mesh.proxies().await?.remove(id).context("it is there")?;
    Ok(status.certificate.context("it has a certificate")?.serial)
}

fn put_before_the_others(file: &Path, byte: u8) -> anyhow::Result<()> {
    let old = fs::read_to_string(file)?;
    replace(file, &format!("{}\n{old}", data_encoding::HEXLOWER.encode(&[byte; 32])))
}

fn leave_the_first(file: &Path) -> anyhow::Result<()> {
    let text = fs::read_to_string(file)?;
    replace(file, &format!("{}\n", text.lines().next().context("a line")?))
}

/// As an operator does it: a replica that reads meanwhile finds the one or the other.
fn replace(file: &Path, text: &str) -> anyhow::Result<()> {
    let new = file.with_extension("new");
    fs::write(&new, text)?;
    fs::set_permissions(&new, fs::Permissions::from_mode(0o600))?;
    Ok(fs::rename(new, file)?)
}
