//! Revocation lists of a trust bundle, read once and shared by every context that uses the bundle.
//!
//! The rule, and why it is lenient (Envoy refuses in both cases): a certificate whose issuer has no list passes, and a
//! list that is past its `nextUpdate` is used as it is. Lists come with the trust bundle from the control plane; its
//! outage must refuse nobody, and neither must an issuer that is newer than the bundle at hand. What that costs is
//! bounded: a leaf lives for a day, and one that is on a list stays refused however old the list is.

use std::sync::Arc;

use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, CertificateRevocationListDer};
use webpki::{BorrowedCertRevocationList, CertRevocationList, OwnedCertRevocationList};
use x509_parser::prelude::{CertificateRevocationList as ParsedList, FromDer, X509Certificate};

use super::tls_error::{TlsError, unreadable};
use crate::peer::{CertificateId, key_id};

/// `crl` of a validation context.
#[derive(Debug, Default)]
pub struct RevocationLists {
    lists: Vec<List>,
    digest: Vec<u8>,
}

#[derive(Debug)]
struct List {
    /// Of several issuers of one name, whose list it is.
    key_id: Option<Box<[u8]>>,
    list: CertRevocationList<'static>,
}

impl RevocationLists {
    /// Lists of any issuers, one after the other in PEM. Nothing at all is no lists.
    ///
    /// # Errors
    /// There is something that is not a revocation list, or none in what should hold some.
    pub fn from_pem(pem: &[u8]) -> Result<Arc<Self>, TlsError> {
        let lists = CertificateRevocationListDer::pem_slice_iter(pem)
            .collect::<Result<Vec<_>, _>>()
            .map_err(|error| unreadable("crl")(error.to_string()))?;
        if lists.is_empty() && !pem.trim_ascii().is_empty() {
            return Err(unreadable("crl")("there is no X509 CRL in PEM in it".to_owned()));
        }
        Self::from_der(&lists)
    }

    /// The same from DER.
    ///
    /// # Errors
    /// One is not a revocation list.
    pub fn from_der(lists: &[CertificateRevocationListDer<'_>]) -> Result<Arc<Self>, TlsError> {
        let mut context = aws_lc_rs::digest::Context::new(&aws_lc_rs::digest::SHA256);
        let mut read = Vec::with_capacity(lists.len());
        for (index, der) in lists.iter().enumerate() {
            context.update(&der.len().to_be_bytes());
            context.update(der);
            let wrong = |reason: String| unreadable("crl")(format!("list {index}: {reason}"));
            let list = BorrowedCertRevocationList::from_der(der).and_then(|list| list.to_owned());
            let list: OwnedCertRevocationList = list.map_err(|error| wrong(error.to_string()))?;
            let (_, parsed) = ParsedList::from_der(der).map_err(|error| wrong(error.to_string()))?;
            read.push(List { key_id: key_id(parsed.extensions()), list: list.into() });
        }
        let digest = if read.is_empty() { Vec::new() } else { context.finish().as_ref().to_vec() };
        Ok(Arc::new(Self { lists: read, digest }))
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.lists.is_empty()
    }

    /// Equal for equal lists.
    pub(crate) fn digest(&self) -> &[u8] {
        &self.digest
    }

    /// The lists that may be of issuers in this chain. A verifier looks for a list by its issuer's name alone, and takes
    /// one of another key for a forgery.
    pub(super) fn of<'a>(&'a self, chain: &[&CertificateDer<'_>]) -> Vec<&'a CertRevocationList<'static>> {
        if self.lists.is_empty() {
            return Vec::new();
        }
        let parsed = chain.iter().filter_map(|der| X509Certificate::from_der(der).ok());
        let issued: Vec<CertificateId> = parsed.map(|(_, parsed)| CertificateId::of(&parsed)).collect();
        let may_be = |list: &&List| issued.iter().any(|one| list.is_of_issuer_of(one));
        self.lists.iter().filter(may_be).map(|list| &list.list).collect()
    }

    /// Whether a certificate is on a list of its issuer's.
    pub(crate) fn revoke(&self, certificate: &CertificateId) -> bool {
        self.lists.iter().any(|list| {
            list.is_of_issuer_of(certificate)
                && matches!(list.list.find_serial(&certificate.serial), Ok(Some(_)))
        })
    }
}

impl List {
    fn is_of_issuer_of(&self, certificate: &CertificateId) -> bool {
        *self.list.issuer() == *certificate.issuer && same_key(&self.key_id, &certificate.key_id)
    }
}

fn same_key(one: &Option<Box<[u8]>>, other: &Option<Box<[u8]>>) -> bool {
    match (one, other) {
        (Some(one), Some(other)) => one == other,
        // Who does not say is known by name.
        (None, _) | (_, None) => true,
    }
}
