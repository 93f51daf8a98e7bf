//! What a certificate says about whoever holds it.

use std::sync::{Arc, OnceLock};
use std::time::{Duration, SystemTime};

use data_encoding::HEXLOWER;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use rustls_pki_types::CertificateDer;
use weft_routing::rbac::PeerNames;
use x509_parser::asn1_rs::Header;
use x509_parser::prelude::{FromDer, GeneralName, ParsedExtension, X509Certificate, X509Extension};

/// Everything but what RFC 3986 calls unreserved.
const NOT_UNRESERVED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// A certificate that cannot be used to tell who its holder is.
#[derive(Debug, thiserror::Error)]
pub enum PeerCertificateError {
    /// Not an X.509 certificate.
    #[error("certificate cannot be parsed: {0}")]
    Malformed(String),
    /// The chain is empty.
    #[error("certificate chain is empty")]
    Empty,
}

/// What a revocation list knows a certificate by.
#[derive(Debug)]
pub(crate) struct CertificateId {
    /// The issuer's name, encoded as in a list.
    pub(crate) issuer: Box<[u8]>,
    /// The identifier of the issuer's key, where the certificate has it.
    pub(crate) key_id: Option<Box<[u8]>>,
    /// The encoded serial number.
    pub(crate) serial: Box<[u8]>,
}

impl CertificateId {
    pub(crate) fn of(certificate: &X509Certificate<'_>) -> Self {
        Self {
            issuer: name_of(certificate).into(),
            key_id: key_id(certificate.extensions()),
            serial: certificate.raw_serial().into(),
        }
    }
}

/// The parsed leaf of a certificate chain: ours or a peer's.
#[derive(Debug)]
pub struct PeerCertificate {
    /// The chain as it was presented, leaf first.
    pub chain: Vec<CertificateDer<'static>>,
    /// Whom it names, in all ways that rules ask for.
    pub names: PeerNames,
    /// IP and e-mail names, as text.
    pub other_sans: Vec<Arc<str>>,
    /// The issuer in RFC 2253 form.
    pub issuer: String,
    /// The serial number in lower-case hex, as in `%DOWNSTREAM_PEER_SERIAL%`.
    pub serial: String,
    /// SHA-256 of the leaf's DER, in lower-case hex.
    pub fingerprint: String,
    /// When it becomes valid.
    pub not_before: SystemTime,
    pub not_after: SystemTime,
    /// Whether it may sign certificates; such a leaf is refused.
    pub is_ca: bool,
    pub(crate) issued: CertificateId,
    pem: OnceLock<String>,
}

impl PeerCertificate {
    /// Parses the leaf of `chain`.
    ///
    /// # Errors
    /// The chain is empty or its first certificate is not X.509.
    pub fn parse(chain: &[CertificateDer<'_>]) -> Result<Self, PeerCertificateError> {
        let leaf = chain.first().ok_or(PeerCertificateError::Empty)?;
        let (_, parsed) = X509Certificate::from_der(leaf)
            .map_err(|error| PeerCertificateError::Malformed(error.to_string()))?;
        let mut peer = Self {
            chain: chain.iter().map(|der| der.clone().into_owned()).collect(),
            names: PeerNames { subject: rfc2253(parsed.subject()), ..PeerNames::default() },
            other_sans: Vec::new(),
            issuer: rfc2253(parsed.issuer()),
            serial: HEXLOWER.encode(parsed.raw_serial()),
            fingerprint: HEXLOWER
                .encode(aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, leaf).as_ref()),
            not_before: instant(parsed.validity().not_before.timestamp()),
            not_after: instant(parsed.validity().not_after.timestamp()),
            is_ca: parsed.is_ca(),
            issued: CertificateId::of(&parsed),
            pem: OnceLock::new(),
        };
        for extension in parsed.extensions() {
            if let ParsedExtension::SubjectAlternativeName(names) = extension.parsed_extension() {
                names.general_names.iter().for_each(|name| peer.add_name(name));
            }
        }
        Ok(peer)
    }

    /// The SPIFFE id: the only URI name, when it is one.
    pub fn spiffe_id(&self) -> Option<&Arc<str>> {
        match self.names.uri_sans.as_slice() {
            [only] if only.starts_with("spiffe://") => Some(only),
            _ => None,
        }
    }

    /// How a log names it: by its SPIFFE id, else by its subject, and by its serial number. Whoever made the certificate
    /// chose them: they are cut, and nothing in them can be taken for anything else.
    pub fn described(&self) -> String {
        const LONGEST: usize = 128;
        let short = |text: &str| text.chars().take(LONGEST).flat_map(char::escape_debug).collect::<String>();
        let name = self.spiffe_id().map_or(self.names.subject.as_str(), |id| id);
        format!("{} (serial {})", short(name), short(&self.serial))
    }

    /// The leaf as PEM, encoded for a URL as XFCC's `Cert` wants it. Made once, on first use.
    pub fn url_encoded_pem(&self) -> &str {
        self.pem.get_or_init(|| self.chain.first().map(|der| url_encoded(&pem(der))).unwrap_or_default())
    }

    /// The whole chain as URL-encoded PEM.
    pub fn url_encoded_chain(&self) -> String {
        self.chain.iter().map(|der| url_encoded(&pem(der))).collect()
    }

    fn add_name(&mut self, name: &GeneralName<'_>) {
        match name {
            GeneralName::URI(uri) => self.names.uri_sans.push(Arc::from(*uri)),
            GeneralName::DNSName(dns) => self.names.dns_sans.push(Arc::from(*dns)),
            GeneralName::RFC822Name(mail) => self.other_sans.push(Arc::from(*mail)),
            GeneralName::IPAddress(bytes) => {
                let text = match bytes.len() {
                    4 => <[u8; 4]>::try_from(*bytes).ok().map(|b| std::net::IpAddr::from(b).to_string()),
                    16 => <[u8; 16]>::try_from(*bytes).ok().map(|b| std::net::IpAddr::from(b).to_string()),
                    _ => None,
                };
                self.other_sans.extend(text.map(Arc::from));
            }
            GeneralName::OtherName(..)
            | GeneralName::X400Address(_)
            | GeneralName::DirectoryName(_)
            | GeneralName::EDIPartyName(_)
            | GeneralName::RegisteredID(_)
            | GeneralName::Invalid(..) => {}
        }
    }
}

/// The name of a certificate's issuer without the outermost tag and length, as lists have it.
fn name_of<'a>(certificate: &'a X509Certificate<'_>) -> &'a [u8] {
    let raw = certificate.issuer().as_raw();
    match Header::from_der(raw) {
        Ok((rest, _)) => rest,
        Err(_) => raw,
    }
}

/// The identifier of the key that signed a certificate or a revocation list, where it says it.
pub(crate) fn key_id(extensions: &[X509Extension<'_>]) -> Option<Box<[u8]>> {
    extensions.iter().find_map(|extension| match extension.parsed_extension() {
        ParsedExtension::AuthorityKeyIdentifier(identifier) => {
            identifier.key_identifier.as_ref().map(|id| id.0.into())
        }
        _ => None,
    })
}

fn instant(timestamp: i64) -> SystemTime {
    u64::try_from(timestamp)
        .map_or(SystemTime::UNIX_EPOCH, |s| SystemTime::UNIX_EPOCH + Duration::from_secs(s))
}

/// RFC 2253 writes the most specific part first, X.509 the least.
fn rfc2253(name: &x509_parser::x509::X509Name<'_>) -> String {
    let registry = x509_parser::objects::oid_registry();
    let mut parts: Vec<String> = name
        .iter_attributes()
        .map(|attribute| {
            let kind = x509_parser::objects::oid2abbrev(attribute.attr_type(), registry)
                .map_or_else(|_| attribute.attr_type().to_id_string(), str::to_owned);
            let value = attribute.as_str().unwrap_or_default();
            let mut escaped = String::with_capacity(value.len());
            for c in value.chars() {
                if matches!(c, ',' | '+' | '"' | '\\' | '<' | '>' | ';') {
                    escaped.push('\\');
                }
                escaped.push(c);
            }
            format!("{kind}={escaped}")
        })
        .collect();
    parts.reverse();
    parts.join(",")
}

fn pem(der: &[u8]) -> String {
    use base64::Engine as _;
    let body = base64::engine::general_purpose::STANDARD.encode(der);
    let mut text = String::from("-----BEGIN CERTIFICATE-----\n");
    for line in body.as_bytes().chunks(64) {
        text.push_str(&String::from_utf8_lossy(line));
        text.push('\n');
    }
    text.push_str("-----END CERTIFICATE-----\n");
    text
}

fn url_encoded(text: &str) -> String {
    utf8_percent_encode(text, NOT_UNRESERVED).to_string()
}
