//! Finding the API, its roots and its token.
//!
//! What is given counts. What is not is sought where a control plane of this machine leaves it: in its data directory.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use weft_api::client::Client;

use crate::args::Access;
use crate::replicas::Replicas;

/// Data directory of a control plane that was started here without flags.
const LOCAL_DATA: &str = "weft-data";
const TOKEN: &str = "operator.token";
const ROOTS: &str = "ca.pem";
const API: &str = "api.url";
/// Where a control plane that was started without flags serves.
const DEFAULT_API: &str = "http://127.0.0.1:7400";

/// A client of the first replica, with the token that applies here.
pub fn client(access: &Access) -> anyhow::Result<Client> {
    Ok(clients(access)?.swap_remove(0))
}

/// The control plane, as what is given or found names its replicas.
pub fn replicas(access: &Access) -> anyhow::Result<Replicas> {
    clients(access).map(Replicas::new)
}

fn clients(access: &Access) -> anyhow::Result<Vec<Client>> {
    let data = data_dir(access);
    let api = match &access.api {
        Some(api) => api.clone(),
        None => local_api(&data)?,
    };
    let roots = match &access.ca {
        Some(path) => roots(path).with_context(|| format!("--ca {}", path.display()))?,
        None if api.contains("https://") => local_roots(&data)?,
        None => Vec::new(),
    };
    let token = token(access, &data)?;
    api.split(',').map(|api| Ok(Client::try_new(api.trim(), &token, &roots)?)).collect()
}

/// The directory that the token's file is in, where that is a control plane's; else the one in the current directory.
fn data_dir(access: &Access) -> PathBuf {
    let given =
        access.token_file.as_deref().filter(|path| path.file_name().is_some_and(|name| name == TOKEN));
    given.and_then(Path::parent).map_or_else(|| PathBuf::from(LOCAL_DATA), Path::to_owned)
}

fn local_api(data: &Path) -> anyhow::Result<String> {
    let path = data.join(API);
    match std::fs::read_to_string(&path) {
        Ok(text) => Ok(text.trim().to_owned()),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(DEFAULT_API.to_owned()),
        Err(error) => Err(error).with_context(|| path.display().to_string()),
    }
}

fn local_roots(data: &Path) -> anyhow::Result<Vec<CertificateDer<'static>>> {
    let path = data.join(ROOTS);
    if path.exists() { roots(&path).with_context(|| path.display().to_string()) } else { Ok(Vec::new()) }
}

fn roots(path: &Path) -> anyhow::Result<Vec<CertificateDer<'static>>> {
    let roots: Vec<_> = CertificateDer::pem_file_iter(path)?.collect::<Result<_, _>>()?;
    anyhow::ensure!(!roots.is_empty(), "there is no certificate in it; give the control plane's {ROOTS}");
    Ok(roots)
}

fn token(access: &Access, data: &Path) -> anyhow::Result<String> {
    if let Some(path) = &access.token_file {
        return read(path);
    }
    if let Ok(token) = std::env::var("WEFT_TOKEN") {
        return Ok(token);
    }
    let local = data.join(TOKEN);
    if local.exists() {
        return read(&local);
    }
    bail!(
        "no operator token: set WEFT_TOKEN, give --token-file, or run where the control plane's {} is",
        local.display()
    )
}

/// Reads a token file.
pub fn read(path: &Path) -> anyhow::Result<String> {
    let text = std::fs::read_to_string(path).with_context(|| format!("token file {}", path.display()))?;
    Ok(text.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn access(token_file: Option<&Path>) -> Access {
        Access { api: None, token_file: token_file.map(Path::to_owned), ca: None }
    }

    #[test]
    fn api_of_a_control_plane_is_found_beside_its_token() {
        let dir = tempfile::tempdir().unwrap();
        let token = dir.path().join(TOKEN);
        std::fs::write(&token, "weftop.x").unwrap();
        let found = |access: &Access| client(access).map(|client| client.api().to_owned());
        assert_eq!(found(&access(Some(&token))).unwrap(), DEFAULT_API);
        std::fs::write(dir.path().join(API), "https://10.0.0.1:7400\n").unwrap();
        assert_eq!(found(&access(Some(&token))).unwrap(), "https://10.0.0.1:7400");
        let given = Access { api: Some("http://127.0.0.1:9".to_owned()), ..access(Some(&token)) };
        assert_eq!(found(&given).unwrap(), "http://127.0.0.1:9");
        let two = Access { api: Some("http://127.0.0.1:9,http://127.0.0.1:10".to_owned()), ..given };
        let two = clients(&two).unwrap().into_iter().map(|client| client.api().to_owned());
        assert_eq!(two.collect::<Vec<_>>(), ["http://127.0.0.1:9", "http://127.0.0.1:10"]);
    }

    #[test]
    fn file_without_a_root_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let (token, ca) = (dir.path().join(TOKEN), dir.path().join("empty.pem"));
        std::fs::write(&token, "weftop.x").unwrap();
        std::fs::write(&ca, "").unwrap();
        let api = Some("https://10.0.0.1:7400".to_owned());
        let error = client(&Access { api, ca: Some(ca.clone()), ..access(Some(&token)) }).unwrap_err();
        assert!(format!("{error:#}").contains(&ca.display().to_string()), "{error:#}");
    }
}
