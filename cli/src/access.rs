//! Finding the API's token.

use std::path::Path;

use anyhow::{Context as _, bail};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use weft_api::client::Client;

use crate::args::Access;

/// Where a control plane on this machine leaves the token.
const LOCAL_TOKEN: &str = "weft-data/operator.token";

/// A client with the token that applies here.
pub fn client(access: &Access) -> anyhow::Result<Client> {
    let roots = match &access.ca {
        Some(path) => CertificateDer::pem_file_iter(path)
            .and_then(Iterator::collect::<Result<Vec<_>, _>>)
            .with_context(|| format!("--ca {}", path.display()))?,
        None => Vec::new(),
    };
    Ok(Client::try_new(&access.api, &token(access)?, &roots)?)
}

fn token(access: &Access) -> anyhow::Result<String> {
    if let Some(path) = &access.token_file {
        return read(path);
    }
    if let Ok(token) = std::env::var("WEFT_TOKEN") {
        return Ok(token);
    }
    let local = Path::new(LOCAL_TOKEN);
    if local.exists() {
        return read(local);
    }
    bail!(
        "no operator token: set WEFT_TOKEN, give --token-file, or run where the control plane's {LOCAL_TOKEN} is"
    )
}

/// Reads a token file.
pub fn read(path: &Path) -> anyhow::Result<String> {
    let text = std::fs::read_to_string(path).with_context(|| format!("token file {}", path.display()))?;
    Ok(text.trim().to_owned())
}
