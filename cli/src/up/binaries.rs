//! Finding the other programs.

use std::env;
use std::path::{Path, PathBuf};

use anyhow::bail;

/// A program of ours: beside this one, else on PATH.
pub fn find(name: &str) -> anyhow::Result<PathBuf> {
    let beside = env::current_exe().ok().and_then(|exe| exe.parent().map(|folder| folder.join(name)));
    match beside.into_iter().chain(on_path(name)).find(|path| path.is_file()) {
        Some(path) => Ok(path),
        None => bail!("{name} is neither beside this program nor on PATH: run `make build`"),
    }
}

/// The stock Envoy: as given, else where `make` installs it, else on PATH.
pub fn find_envoy(given: Option<&Path>) -> anyhow::Result<Option<PathBuf>> {
    if let Some(path) = given {
        if !path.is_file() {
            bail!("--envoy {}: no such file", path.display());
        }
        return Ok(Some(path.to_owned()));
    }
    let installed = Path::new(".venv/lib").read_dir().into_iter().flatten().flatten();
    let installed = installed.map(|python| python.path().join("site-packages/envoy/_bin/envoy"));
    Ok(installed.chain(on_path("envoy")).find(|path| path.is_file()))
}

fn on_path(name: &str) -> Vec<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    env::split_paths(&path).map(|folder| folder.join(name)).collect()
}
