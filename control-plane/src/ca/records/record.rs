//! A root or an issuer with its key, as a record.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use rcgen::{Issuer, KeyPair};
use rustls_pki_types::{CertificateDer, PrivatePkcs8KeyDer};
use serde::{Deserialize, Serialize};
use time::OffsetDateTime;
use weft_api::TrustDomain;
use weft_api::rest::RootOrigin;
use zeroize::Zeroizing;

use super::super::chain::{SigningChain, ValidCertificate};
use super::super::crl::RevocationList;
use super::super::seal::{SealKey, Sealed};
use super::super::{AuthoritySettings, CaError, Serial, profile};
use super::entry::{corrupt, from_base64};
use crate::clock::Clock;

/// A root that the mesh made, or an issuer right below a root.
const FORMAT: u32 = 1;
/// Certificates stand between, or the key is elsewhere: versions that know neither must not sign by it.
const FORMAT_OF_OTHERS: u32 = 2;
/// The key is sealed with a version, which releases before it cannot open.
const FORMAT_WITH_VERSION: u32 = 3;

/// A root or an issuer, with its key, as JSON.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(in super::super) struct AuthorityRecord {
    format: u32,
    pub(in super::super) trust_domain: TrustDomain,
    pub(in super::super) generation: u64,
    /// DER, base64.
    pub(super) certificate: String,
    /// Certificates between an issuer and its root, the lowest one first, DER, base64. Those of a root stand above each issuer
    /// that is made here, and the first of them signs it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    between: Vec<String>,
    /// The key of an issuer; of a root the one that signs issuers, and none where that is kept elsewhere.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    sealed_key: Option<Sealed>,
    /// Who made a root; nothing is read of it for an issuer.
    #[serde(default)]
    pub(in super::super) origin: RootOrigin,
    /// Of a root that came after another: how the other vouches for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(in super::super) vouched: Option<Vouched>,
}

/// A root signed by the one before it, so that whoever knows the mesh by that one finds the way to this one.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(in super::super) struct Vouched {
    /// Serial number of the root before.
    pub(in super::super) by: Serial,
    /// DER, base64: the subject and the key of the root, signed by the one before.
    pub(in super::super) certificate: String,
}

/// A root that left: what is needed to find the way from it.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct LeftRoot {
    /// DER, base64.
    pub(super) certificate: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) vouched: Option<Vouched>,
}

impl AuthorityRecord {
    /// A root of the mesh's own making.
    pub(in super::super) fn new_root(
        name: &str,
        settings: &AuthoritySettings,
        generation: u64,
        seal: &SealKey,
        clock: &Clock,
    ) -> Result<Self, CaError> {
        let key = profile::new_key()?;
        let validity = profile::Validity::starting(clock.now(), settings.root_life, None);
        let certificate = profile::root(&settings.trust_domain, validity)?.self_signed(&key)?;
        let (chain, key) = ([certificate.der()], sealed(name, &key, seal));
        Ok(Self::of(&settings.trust_domain, generation, RootOrigin::Mesh, &chain, Some(key)))
    }

    /// A record of `chain`: of a root itself, then those between it and issuers, or of an issuer itself, then those above it.
    pub(in super::super) fn of(
        trust_domain: &TrustDomain,
        generation: u64,
        origin: RootOrigin,
        chain: &[&CertificateDer<'_>],
        sealed_key: Option<Sealed>,
    ) -> Self {
        let mut chain = chain.iter().map(|certificate| BASE64.encode(certificate));
        let (certificate, between) = (chain.next().unwrap_or_default(), chain.collect::<Vec<_>>());
        Self {
            format: format_of(&between, sealed_key.as_ref()),
            trust_domain: trust_domain.clone(),
            generation,
            certificate,
            between,
            sealed_key,
            origin,
            vouched: None,
        }
    }

    /// A new issuer below `root`, whose record has the name `of_root`.
    pub(in super::super) fn new_issuer(
        name: &str,
        (of_root, root): (&str, &Self),
        generation: u64,
        life: time::Duration,
        seal: &SealKey,
        clock: &Clock,
    ) -> Result<Self, CaError> {
        let between = root.between(of_root)?;
        let (above, end) = (root.valid(of_root)?, root.end(of_root)?);
        let signer = between.first().unwrap_or(&above.certificate);
        let signer = Issuer::from_ca_cert_der(signer, root.open_key(of_root, seal)?)?;
        let key = profile::new_key()?;
        let validity = profile::Validity::starting(clock.now(), life, Some(end));
        let certificate = profile::issuer(&root.trust_domain, validity)?.signed_by(&key, &signer)?;
        let chain: Vec<_> = [certificate.der()].into_iter().chain(&between).collect();
        let key = sealed(name, &key, seal);
        Ok(Self::of(&root.trust_domain, generation, RootOrigin::default(), &chain, Some(key)))
    }

    /// Whether issuers below this root can be made here.
    pub(in super::super) fn signs(&self) -> bool {
        self.sealed_key.is_some()
    }

    /// Whether it is a root that signs by its own key, and not by that of one below it.
    pub(in super::super) fn signs_itself(&self) -> bool {
        self.signs() && self.between.is_empty()
    }

    /// Whether it signs with the same certificates as another.
    pub(in super::super) fn is_same(&self, other: &Self) -> bool {
        self.certificate == other.certificate && self.between == other.between
    }

    /// Its certificate; `name` is that of its record.
    pub(in super::super) fn valid(&self, name: &str) -> Result<ValidCertificate, CaError> {
        ValidCertificate::try_from_der(self.der(name)?)
    }

    pub(in super::super) fn der(&self, name: &str) -> Result<CertificateDer<'static>, CaError> {
        from_base64(name, &self.certificate)
    }

    fn between(&self, name: &str) -> Result<Vec<CertificateDer<'static>>, CaError> {
        self.between.iter().map(|certificate| from_base64(name, certificate)).collect()
    }

    /// Of an issuer and those above it, the one right below the root.
    pub(super) fn highest(&self, name: &str) -> Result<ValidCertificate, CaError> {
        match self.between.last() {
            Some(highest) => ValidCertificate::try_from_der(from_base64(name, highest)?),
            None => self.valid(name),
        }
    }

    /// The first end among its own certificates.
    fn end(&self, name: &str) -> Result<OffsetDateTime, CaError> {
        let mut end = self.valid(name)?.not_after;
        for certificate in self.between(name)? {
            end = end.min(ValidCertificate::try_from_der(certificate)?.not_after);
        }
        Ok(end)
    }

    /// An issuer that signs below `root`.
    pub(in super::super) fn signing(
        &self,
        name: &str,
        root: CertificateDer<'static>,
        seal: &SealKey,
    ) -> Result<SigningChain, CaError> {
        let (between, key) = (self.between(name)?, self.open_key(name, seal)?);
        SigningChain::try_new(root, self.der(name)?, between, key, self.generation)
    }

    /// The same under another name: what is sealed is bound to the name of its record.
    pub(in super::super) fn moved(&self, from: &str, to: &str, seal: &SealKey) -> Result<Self, CaError> {
        let reseal = |key: &Sealed| Ok::<_, CaError>(seal.seal(to, &seal.open(from, key)?));
        let sealed_key = self.sealed_key.as_ref().map(reseal).transpose()?;
        Ok(Self {
            format: format_of(&self.between, sealed_key.as_ref()),
            trust_domain: self.trust_domain.clone(),
            generation: self.generation,
            certificate: self.certificate.clone(),
            between: self.between.clone(),
            sealed_key,
            origin: self.origin,
            vouched: self.vouched.clone(),
        })
    }

    /// What is kept of a root that leaves: its key is not.
    pub(in super::super) fn left(&self) -> Vec<u8> {
        let left = LeftRoot { certificate: self.certificate.clone(), vouched: self.vouched.clone() };
        serde_json::to_vec(&left).expect("strings always encode")
    }

    /// The empty list of this issuer, and under which key it is stored.
    pub(in super::super) fn first_list(
        &self,
        name: &str,
        seal: &SealKey,
        clock: &Clock,
    ) -> Result<(String, RevocationList), CaError> {
        let list = RevocationList::empty(&self.der(name)?, self.open_key(name, seal)?, clock.now())?;
        Ok((RevocationList::key(&list.issuer), list))
    }

    pub(in super::super) fn encode(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("strings and numbers always encode")
    }

    pub(super) fn check_format(&self, name: &str) -> Result<(), CaError> {
        if (FORMAT..=FORMAT_WITH_VERSION).contains(&self.format) {
            return Ok(());
        }
        let reason = format!("format {} is not known, only {FORMAT} to {FORMAT_WITH_VERSION}", self.format);
        Err(corrupt(name, reason))
    }

    pub(in super::super) fn open_key(&self, record: &str, seal: &SealKey) -> Result<KeyPair, CaError> {
        let key = self.sealed_key.as_ref().ok_or(CaError::KeyElsewhere)?;
        let der = seal.open(record, key)?;
        Ok(KeyPair::try_from(&PrivatePkcs8KeyDer::from(der.as_slice()))?)
    }
}

fn format_of(between: &[String], key: Option<&Sealed>) -> u32 {
    match key {
        Some(key) if key.version().is_some() => FORMAT_WITH_VERSION,
        Some(_) if between.is_empty() => FORMAT,
        Some(_) | None => FORMAT_OF_OTHERS,
    }
}

/// A key as it stands in a record.
pub(in super::super) fn sealed(name: &str, key: &KeyPair, seal: &SealKey) -> Sealed {
    seal.seal(name, &Zeroizing::new(key.serialize_der()))
}
