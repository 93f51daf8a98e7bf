//! The names of the authority's records, and how one is read.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use rustls_pki_types::CertificateDer;
use serde::de::DeserializeOwned;
use weft_store::Entry;

use super::super::CaError;

pub(in super::super) const PREFIX: &str = "mesh/";
pub(in super::super) const ROOT: &str = "mesh/root";
pub(in super::super) const ISSUER: &str = "mesh/issuer";
pub(in super::super) const NEXT: &str = "mesh/next";
pub(in super::super) const RETIRED: &str = "mesh/issuers/";
pub(in super::super) const ROTATION: &str = "mesh/rotation";
pub(in super::super) const NEXT_ROOT: &str = "mesh/next-root";
pub(in super::super) const NEXT_ROOT_ISSUER: &str = "mesh/next-root-issuer";
pub(in super::super) const OLD_ROOT: &str = "mesh/old-root";
pub(in super::super) const LEFT_ROOTS: &str = "mesh/roots/";
pub(in super::super) const REQUEST: &str = "mesh/csr";

pub(in super::super) fn read_json<T: DeserializeOwned>(entry: &Entry) -> Result<T, CaError> {
    serde_json::from_slice(&entry.value).map_err(|error| corrupt(&entry.key, error.to_string()))
}

pub(in super::super) fn from_base64(record: &str, text: &str) -> Result<CertificateDer<'static>, CaError> {
    let der = BASE64.decode(text).map_err(|error| corrupt(record, error.to_string()))?;
    Ok(CertificateDer::from(der))
}

pub(in super::super) fn missing(record: &str) -> CaError {
    corrupt(record, "it is missing".to_owned())
}

pub(in super::super) fn corrupt(record: &str, reason: String) -> CaError {
    CaError::CorruptRecord { record: record.to_owned(), reason }
}
