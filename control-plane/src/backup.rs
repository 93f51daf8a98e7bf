//! `backup`, `restore` and `store copy`: a mesh's whole state out of its store, and into an empty one.
//!
//! ```text
//!   running control plane ── GET /v1/backup ──┐                        ┌──▶ data directory, a new file
//!   data directory at rest ── its file ───────┼──▶ Backup ──▶ FILE ──▶ Backup
//!   etcd, running or not ── one listing ──────┘       └──── copy ──────┴──▶ etcd, below an empty prefix
//! ```
//!
//! A backup holds what the store holds: the keys of the authorities sealed, tokens as hashes. The key that opens the seal
//! is never in it. Who has both has the mesh, and a backup travels further than a data directory does.

mod filling;
mod taking;

use std::fs::File;
use std::io::BufReader;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail, ensure};
use weft_store::Backup;

use crate::args::{Args, SEAL_KEY, StoreCommand};
use crate::ca;
use crate::clock::Clock;
use crate::identity::lost_time::LostTime;
use crate::store_location::StoreLocation;

/// Writes the state into a new file, and says so.
///
/// # Errors
/// When the state cannot be read, or the file exists or cannot be written: then there is none of that name.
pub async fn back_up(args: &Args, file: &Path, clock: &Clock) -> anyhow::Result<String> {
    let place = StoreLocation::of(args)?;
    let backup = taking::write(&place, file, clock).await?;
    let seal_key = args.seal_key();
    Ok(format!(
        "{}: {} records of the mesh {} at revision {}, from {place}\n\
         the keys of its authorities are sealed: keep a copy of {} as well, apart from it; without that key the backup \
         cannot be used",
        file.display(),
        backup.snapshot.entries.len(),
        backup.name,
        backup.snapshot.revision,
        seal_key.display(),
    ))
}

/// Puts a backup into an empty place, and says what is left to do.
///
/// # Errors
/// When the file is not a whole backup, or the place is not empty or does not take it.
pub async fn restore(args: &Args, file: &Path, clock: &Clock) -> anyhow::Result<String> {
    let place = StoreLocation::of(args)?;
    let mut backup = read(file)?;
    let lost = LostTime::new(backup.taken_at, clock.unix_seconds());
    let mut said = format!(
        "{place}: {} records of the mesh {} as of {} ago, when it was at revision {}",
        backup.snapshot.entries.len(),
        backup.name,
        humantime::format_duration(lost.length()),
        backup.snapshot.revision,
    );
    lost.note(&mut backup.snapshot);
    let name = backup.name.clone();
    filling::fill(&place, backup.snapshot).await?;
    forget_seen(&seal_key_of(args, &place))?;
    said.push_str(&next_step(args, &place, &name));
    Ok(said)
}

/// What is restored is older than what this machine has seen, and that is meant.
fn forget_seen(seal_key: &Path) -> anyhow::Result<()> {
    let file = ca::seen_version_file(seal_key);
    match std::fs::remove_file(&file) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error)
            .with_context(|| format!("cannot remove {}, without which the mesh starts", file.display())),
        _ => Ok(()),
    }
}

fn seal_key_of(args: &Args, place: &StoreLocation) -> PathBuf {
    match (&args.seal_key, place) {
        (None, StoreLocation::Directory(directory)) => directory.join(SEAL_KEY),
        (Some(_), _) | (None, StoreLocation::Etcd(_)) => args.seal_key(),
    }
}

/// Carries out one of `store`'s commands, and says what is left to do.
///
/// # Errors
/// When the source is in use or cannot be read, or the destination is not empty or does not take it.
pub async fn store(args: &Args, command: &StoreCommand, clock: &Clock) -> anyhow::Result<String> {
    let StoreCommand::Copy { from, to } = command;
    let (source, destination) = (StoreLocation::read(args, from)?, StoreLocation::read(args, to)?);
    let snapshot = taking::at_rest(&source).await?;
    let backup = taking::of(snapshot, clock)?;
    let mut said = format!(
        "{destination}: {} records of the mesh {}, from {source} at revision {}, which is as it was: put it away, for of \
         two control planes on two copies each would be the mesh",
        backup.snapshot.entries.len(),
        backup.name,
        backup.snapshot.revision,
    );
    let name = backup.name.clone();
    filling::fill(&destination, backup.snapshot).await?;
    said.push_str(&next_step(args, &destination, &name));
    Ok(said)
}

/// What the place that was filled lacks for a start.
fn next_step(args: &Args, place: &StoreLocation, mesh: &str) -> String {
    let mut said = String::new();
    if mesh != args.trust_domain.as_str() {
        said.push_str(&format!("\nstart it with --trust-domain {mesh}"));
    }
    let seal_key = seal_key_of(args, place);
    if !seal_key.exists() {
        said.push_str(&format!(
            "\nbefore the start, put the mesh's seal key to {} (mode 0600), or name it with --seal-key",
            seal_key.display()
        ));
    }
    said
}

/// Reads a backup file, all of it, and what it says of itself.
fn read(file: &Path) -> anyhow::Result<Backup> {
    let open = File::open(file).with_context(|| format!("backup {}", file.display()))?;
    let backup =
        Backup::decode(BufReader::new(open)).with_context(|| format!("backup {}", file.display()))?;
    match ca::mesh_of(&backup.snapshot.entries)? {
        Some(mesh) => ensure!(
            mesh.as_str() == backup.name,
            "backup {}: it says that it is of {}, and holds the mesh {mesh}",
            file.display(),
            backup.name
        ),
        None => bail!("backup {}: there is no mesh in it", file.display()),
    }
    Ok(backup)
}
