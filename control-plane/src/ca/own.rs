//! The user's own authority from files: a root, or an intermediate with its chain, and its key.

use std::fmt;
use std::path::Path;

use rcgen::{KeyPair, PublicKeyData as _};
use rustls_pki_types::PrivateKeyDer;
use rustls_pki_types::pem::PemObject as _;
use sha2::{Digest as _, Sha256};
use time::OffsetDateTime;
use weft_api::rest::RootOrigin;
use zeroize::Zeroizing;

use super::fitness::{Below, FitChain, Fitness, MAX_CHAIN_BYTES};
use super::records::{AuthorityRecord, sealed};
use super::seal::SealKey;
use super::unfit::Unfit;
use super::{AuthoritySettings, CaError, SealError};
use crate::private_file;

/// A root of the user's own, and the key that signs issuers below it.
pub struct OwnAuthority {
    pub(super) chain: FitChain,
    /// The name of its file, for messages.
    pub(super) file: String,
    key: KeyPair,
}

impl OwnAuthority {
    /// Reads `--ca-cert` and `--ca-key`, and checks each field.
    ///
    /// # Errors
    /// Names the file and the field that does not fit, and what to do.
    pub fn read(
        certificate: &Path,
        key: &Path,
        settings: &AuthoritySettings,
        now: OffsetDateTime,
    ) -> Result<Self, CaError> {
        let file = certificate.display().to_string();
        let unreadable =
            |reason: String| Unfit::new(&file, "file", reason, "name a file of certificates (PEM)");
        let length = std::fs::metadata(certificate).map_err(|error| unreadable(error.to_string()))?.len();
        if length > u64::try_from(MAX_CHAIN_BYTES).unwrap_or(u64::MAX) {
            return Err(unreadable(format!("has {length} bytes; the most is {MAX_CHAIN_BYTES}")).into());
        }
        let pem = std::fs::read_to_string(certificate).map_err(|error| unreadable(error.to_string()))?;
        let chain = Fitness::of(settings, Below::Issuers, now).check(&pem, &file)?;
        let key = read_key(key)?;
        let spki: [u8; 32] = Sha256::digest(key.subject_public_key_info()).into();
        if spki != chain.lowest().spki_sha256 {
            let reason = "it is not the key of --ca-key";
            let remedy = "name the key of the first certificate in the file";
            return Err(Unfit::new(&file, "subjectPublicKeyInfo", reason, remedy).into());
        }
        Ok(Self { chain, file, key })
    }

    /// Its record. Issuers below it carry what stands between.
    pub(super) fn record(
        &self,
        name: &str,
        settings: &AuthoritySettings,
        generation: u64,
        seal: &SealKey,
    ) -> AuthorityRecord {
        let root = &self.chain.root().certificate;
        let chain: Vec<_> = [root].into_iter().chain(self.chain.below_root()).collect();
        let key = sealed(name, &self.key, seal);
        AuthorityRecord::of(&settings.trust_domain, generation, RootOrigin::Files, &chain, Some(key))
    }
}

impl fmt::Debug for OwnAuthority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OwnAuthority").field("root", &self.chain.root().serial).finish_non_exhaustive()
    }
}

fn read_key(path: &Path) -> Result<KeyPair, CaError> {
    let refused =
        |reason: &str, remedy: String| Unfit::new(path.display().to_string(), "key", reason, remedy);
    let name = "name the file of the CA's key (PEM)".to_owned();
    let text = private_file::read(path).map_err(SealError::from)?;
    let text = text.ok_or_else(|| refused("there is no such file", name.clone()))?;
    let text = Zeroizing::new(String::from_utf8_lossy(&text).into_owned());
    if text.contains("ENCRYPTED") {
        let remedy = format!(
            "decrypt it into a file of mode 0600: (umask 077; openssl pkey -in {} -out KEY)",
            path.display()
        );
        return Err(refused("it is encrypted, and a control plane starts with nobody there", remedy).into());
    }
    if text.matches("PRIVATE KEY-----").count() != 2 {
        return Err(refused("the file has to hold one private key and no other", name).into());
    }
    let key = PrivateKeyDer::from_pem_slice(text.as_bytes());
    let key = key.ok().and_then(|key| KeyPair::try_from(&key).ok());
    let kinds = "use ECDSA on P-256 or P-384, or RSA of 2048 to 4096 bits, as PEM".to_owned();
    Ok(key.ok_or_else(|| refused("it cannot be read, or is of a kind that is not taken", kinds))?)
}

#[cfg(test)]
mod tests;
