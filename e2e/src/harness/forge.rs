//! Certificates that nobody should believe.

use anyhow::Context as _;
use rcgen::{BasicConstraints, CertificateParams, DistinguishedName, Issuer, KeyPair, SanType};
use rustls::pki_types::{CertificateDer, PrivatePkcs8KeyDer};
use x509_parser::prelude::{FromDer as _, X509Certificate};

use super::Presented;

/// Somebody who signs certificates without being asked to.
#[derive(Debug)]
pub struct Forger {
    issuer: Issuer<'static, KeyPair>,
    chain: Vec<CertificateDer<'static>>,
}

impl Forger {
    /// An authority of its own. With a certificate of the true one, it takes that one's subject.
    ///
    /// # Errors
    /// When the subject cannot be read.
    pub fn stranger(named_like: Option<&CertificateDer<'_>>) -> anyhow::Result<Self> {
        let key = KeyPair::generate()?;
        let mut params = CertificateParams::new(Vec::new())?;
        params.is_ca = rcgen::IsCa::Ca(BasicConstraints::Unconstrained);
        if let Some(true_one) = named_like {
            params.distinguished_name = subject(true_one)?;
        }
        let root = params.self_signed(&key)?;
        Ok(Self { issuer: Issuer::new(params, key), chain: vec![root.der().clone()] })
    }

    /// A member of the mesh who signs with its own leaf, as if that were an authority's.
    ///
    /// # Errors
    /// When certificate or key cannot be read.
    pub fn insider(presented: &Presented) -> anyhow::Result<Self> {
        let key = KeyPair::try_from(&PrivatePkcs8KeyDer::from(presented.key_pkcs8().to_vec()))?;
        let leaf = presented.chain().first().context("an empty chain")?;
        Ok(Self { issuer: Issuer::from_ca_cert_der(leaf, key)?, chain: presented.chain().to_vec() })
    }

    /// A leaf with these URIs, and whatever else the test wants of it.
    ///
    /// # Errors
    /// When it cannot be encoded.
    pub fn leaf(
        &self,
        uris: &[&str],
        change: impl FnOnce(&mut CertificateParams),
    ) -> anyhow::Result<Presented> {
        let key = KeyPair::generate()?;
        let mut params = leaf_params(uris)?;
        change(&mut params);
        let leaf = params.signed_by(&key, &self.issuer)?;
        let chain = [leaf.der().clone()].into_iter().chain(self.chain.iter().cloned()).collect();
        Ok(Presented::new(chain, key.serialize_der()))
    }

    /// What a server outside of any mesh shows, by these DNS names.
    ///
    /// # Errors
    /// When a name is none.
    pub fn server(&self, names: &[&str]) -> anyhow::Result<Presented> {
        let names = names.iter().map(|name| Ok(SanType::DnsName((*name).try_into()?)));
        let names: Vec<SanType> = names.collect::<Result<_, rcgen::Error>>()?;
        self.leaf(&[], |params| params.subject_alt_names = names)
    }

    /// The certificate of the authority, for those who trust it.
    #[must_use]
    pub fn root_pem(&self) -> String {
        let root = self.chain.last().map(AsRef::as_ref).unwrap_or_default();
        // Envoy reads no long lines.
        let lines = root.chunks(48).map(|line| data_encoding::BASE64.encode(line) + "\n");
        let body: String = lines.collect();
        format!("-----BEGIN CERTIFICATE-----\n{body}-----END CERTIFICATE-----\n")
    }

    /// A certificate over somebody else's public key, after the leaf in a chain: as if this forger's mesh were the one
    /// that a join token pins.
    ///
    /// # Errors
    /// When the certificate cannot be read.
    pub fn over_the_key_of(
        &self,
        certificate: &CertificateDer<'_>,
    ) -> anyhow::Result<CertificateDer<'static>> {
        let (_, parsed) = X509Certificate::from_der(certificate)?;
        let key = rcgen::SubjectPublicKeyInfo::from_der(parsed.public_key().raw)?;
        let mut params = CertificateParams::new(Vec::new())?;
        params.is_ca = rcgen::IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name = subject(certificate)?;
        Ok(params.signed_by(&key, &self.issuer)?.der().clone())
    }
}

/// What a workload's leaf looks like, with these URIs.
///
/// # Errors
/// When a URI cannot stand in a certificate.
pub fn leaf_params(uris: &[&str]) -> anyhow::Result<CertificateParams> {
    let mut params = CertificateParams::new(Vec::new())?;
    params.distinguished_name = DistinguishedName::new();
    for uri in uris {
        params.subject_alt_names.push(SanType::URI((*uri).try_into()?));
    }
    params.key_usages = vec![rcgen::KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages =
        vec![rcgen::ExtendedKeyUsagePurpose::ServerAuth, rcgen::ExtendedKeyUsagePurpose::ClientAuth];
    Ok(params)
}

fn subject(certificate: &CertificateDer<'_>) -> anyhow::Result<DistinguishedName> {
    let (_, parsed) = X509Certificate::from_der(certificate)?;
    let mut subject = DistinguishedName::new();
    for attribute in parsed.subject().iter_attributes() {
        let kind = match attribute.attr_type().to_id_string().as_str() {
            "2.5.4.10" => rcgen::DnType::OrganizationName,
            "2.5.4.3" => rcgen::DnType::CommonName,
            other => anyhow::bail!("an attribute {other} in the subject"),
        };
        subject.push(kind, attribute.as_str()?);
    }
    Ok(subject)
}
