//! Where the programs are.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::bail;
use weft_api::OLDEST_ENVOY;

use super::short_or_long;

/// Minor version of the Envoy that all other tests run, as `scripts/install` has it.
const NEWEST_ENVOY: u32 = 40;

/// A program of this workspace, built with the profile of the running test.
///
/// # Errors
/// When it has not been built; the text says how.
pub fn ours(name: &str) -> anyhow::Result<PathBuf> {
    let exe = std::env::current_exe()?;
    // target/PROFILE/deps/TEST: the programs are two up.
    let path = exe.ancestors().nth(2).unwrap_or(Path::new(".")).join(name);
    if path.is_file() {
        return Ok(path);
    }
    bail!("{} is missing: run the tests by `make test`, which builds all programs first", path.display())
}

/// Programs of this tree, or of the commit before it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Age {
    /// Those that are tested.
    #[default]
    Now,
    /// Those that `scripts/upgrade` has built, in the folder that `WEFT_BEFORE` names.
    Before,
}

impl Age {
    /// A program of this workspace.
    ///
    /// # Errors
    /// When it has not been built; the text says how.
    pub fn program(self, name: &str) -> anyhow::Result<PathBuf> {
        match self {
            Self::Now => ours(name),
            Self::Before => {
                let folder = std::env::var_os("WEFT_BEFORE").map(PathBuf::from).unwrap_or_default();
                let path = folder.join(name);
                anyhow::ensure!(path.is_file(), "{} is missing: run `scripts/upgrade`", path.display());
                Ok(path)
            }
        }
    }
}

/// The stock Envoy: where `make` installs it, else on PATH.
///
/// # Errors
/// When there is none; the text says how to get one.
pub fn envoy() -> anyhow::Result<PathBuf> {
    let pythons = root().join(".venv/lib").read_dir().into_iter().flatten().flatten();
    let installed = pythons.map(|python| python.path().join("site-packages/envoy/_bin/envoy"));
    match installed.chain(on_path("envoy")).find(|path| path.is_file()) {
        Some(path) => Ok(path),
        None => {
            bail!("there is no Envoy in .venv or on PATH: run the tests by `make test`, which installs it")
        }
    }
}

/// The Envoys that an owner may have, by version: the oldest that is served and the newest, and in the soak every minor
/// between them.
///
/// # Errors
/// When one of them is missing; the text says how to get them.
pub fn envoys() -> anyhow::Result<Vec<(String, PathBuf)>> {
    let dirs = root().join(".tools/envoy").read_dir().into_iter().flatten().flatten();
    let mut found: BTreeMap<u32, (String, PathBuf)> = BTreeMap::new();
    for dir in dirs {
        let version = dir.file_name().to_string_lossy().into_owned();
        let numbers: Vec<u32> = version.split('.').filter_map(|part| part.parse().ok()).collect();
        let program = dir.path().join("envoy/_bin/envoy");
        if let ([1, minor, _], true) = (&numbers[..], program.is_file()) {
            found.insert(*minor, (version, program));
        }
    }
    let oldest = OLDEST_ENVOY.1;
    let older = short_or_long(1, NEWEST_ENVOY - oldest);
    let mut envoys = Vec::new();
    for minor in oldest..oldest + older {
        match found.remove(&minor) {
            Some(envoy) => envoys.push(envoy),
            None => bail!(
                "there is no Envoy 1.{minor} in .tools/envoy: run the tests by `make test` or `make soak`, which install it"
            ),
        }
    }
    envoys.push((format!("1.{NEWEST_ENVOY}"), envoy()?));
    Ok(envoys)
}

/// etcd, from the distribution.
///
/// # Errors
/// When there is none; the text says how to get one.
pub fn etcd() -> anyhow::Result<PathBuf> {
    let usual = PathBuf::from("/usr/bin/etcd");
    match on_path("etcd").into_iter().chain([usual]).find(|path| path.is_file()) {
        Some(path) => Ok(path),
        None => bail!("there is no etcd: run the tests by `make test`, which installs it"),
    }
}

/// The OpenTelemetry collector, Rotel.
///
/// # Errors
/// When there is none; the text says how to get one.
pub fn collector() -> anyhow::Result<PathBuf> {
    let path = root().join(".tools/rotel/rotel/rotel-agent");
    anyhow::ensure!(
        path.is_file(),
        "there is no OpenTelemetry collector in .tools/rotel: run the tests by `make test`, which installs it"
    );
    Ok(path)
}

/// A program of the system, which may be among those of the administrator.
///
/// # Errors
/// When there is none; the text says how to get one.
pub fn system(name: &str) -> anyhow::Result<PathBuf> {
    let usual = ["/usr/bin", "/usr/sbin", "/bin", "/sbin"].map(|folder| Path::new(folder).join(name));
    match usual.into_iter().chain(on_path(name)).find(|path| path.is_file()) {
        Some(path) => Ok(path),
        None => bail!("there is no {name}: run the tests by `make test`, which installs it"),
    }
}

/// What makes a program see a time of day that is off by so much; how time passes stays as it is. Envoy does not start so.
///
/// # Errors
/// When the library for it is missing; the text says how to get it.
pub(super) fn clock_off_by(offset: &str) -> anyhow::Result<[(&'static str, String); 3]> {
    let library = faketime()?.display().to_string();
    let monotonic = ("FAKETIME_DONT_FAKE_MONOTONIC", "1".to_owned());
    Ok([("LD_PRELOAD", library), ("FAKETIME", offset.to_owned()), monotonic])
}

fn faketime() -> anyhow::Result<PathBuf> {
    let architectures = Path::new("/usr/lib").read_dir().into_iter().flatten().flatten();
    let mut found = architectures.map(|folder| folder.path().join("faketime/libfaketimeMT.so.1"));
    match found.find(|path| path.is_file()) {
        Some(path) => Ok(path),
        None => bail!("there is no libfaketime: run the tests by `make test`, which installs it"),
    }
}

/// The repository.
pub(super) fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap_or(Path::new("."))
}

fn on_path(name: &str) -> Vec<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).map(|folder| folder.join(name)).collect()
}
