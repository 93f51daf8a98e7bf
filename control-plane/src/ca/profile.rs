//! The form of every certificate that the mesh issues, and nothing else.
//!
//! ```text
//! root (1 year) ── signs ── issuer (30 days, pathLen 0) ── signs ── leaf (24 h)
//! ```
//!
//! SPIFFE X.509-SVID: exactly one URI SAN; a CA's names the trust domain without a path; an empty subject makes the
//! SAN critical. URI name constraints stay out: rustls-webpki refuses every one (RUSTSEC-2026-0098).

use std::net::IpAddr;

use data_encoding::HEXLOWER;
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, DnValue, ExtendedKeyUsagePurpose, IsCa,
    KeyIdMethod, KeyPair, KeyUsagePurpose, PKCS_ECDSA_P256_SHA256, SanType, SerialNumber,
};
use rustls_pki_types::CertificateDer;
use time::{Duration, OffsetDateTime};
use weft_api::{Name, ServiceId, SpiffeId, TrustDomain, names};
use x509_parser::der_parser::asn1_rs::Tag;
use x509_parser::extensions::ParsedExtension;
use x509_parser::prelude::{FromDer as _, X509Certificate};
use x509_parser::x509::X509Name;

/// Life of the root.
pub const ROOT_LIFE: Duration = Duration::days(365);
/// Life of an issuer.
pub const ISSUER_LIFE: Duration = Duration::days(30);
/// An issuer with less life than this signs nothing new.
pub(super) const LEAST_LEFT: Duration = Duration::minutes(10);
/// How far before its making a certificate begins, for peers whose clocks are behind.
pub const BACKDATE: Duration = Duration::seconds(120);

/// From when to when a certificate holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Validity {
    pub not_before: OffsetDateTime,
    /// The last second in which it is valid.
    pub not_after: OffsetDateTime,
}

impl Validity {
    /// `life` from now, begun a little earlier, cut to what the issuer has left.
    #[must_use]
    pub fn starting(now: OffsetDateTime, life: Duration, issuer_not_after: Option<OffsetDateTime>) -> Self {
        let now = now.replace_nanosecond(0).expect("0 is a valid nanosecond");
        let wanted = now + life;
        Self { not_before: now - BACKDATE, not_after: issuer_not_after.map_or(wanted, |end| wanted.min(end)) }
    }
}

/// A new P-256 key.
///
/// # Errors
/// When the system has no randomness.
pub fn new_key() -> Result<KeyPair, rcgen::Error> {
    KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)
}

/// A root for a trust domain.
///
/// # Errors
/// When the trust domain cannot stand in a certificate.
pub fn root(trust_domain: &TrustDomain, validity: Validity) -> Result<CertificateParams, rcgen::Error> {
    authority(trust_domain, "root", validity, BasicConstraints::Unconstrained)
}

/// A root as another one signs it, which so says that it is the mesh's too: the same name and key.
///
/// # Errors
/// When its name cannot be written again.
pub(super) fn vouched(
    root: &CertificateDer<'_>,
    validity: Validity,
) -> Result<CertificateParams, rcgen::Error> {
    let unreadable = || rcgen::Error::CouldNotParseCertificate;
    let (_, parsed) = X509Certificate::from_der(root).map_err(|_| unreadable())?;
    let mut params = CertificateParams::default();
    params.distinguished_name = name_of(parsed.subject()).ok_or_else(unreadable)?;
    params.serial_number = Some(new_serial());
    (params.not_before, params.not_after) = (validity.not_before, validity.not_after);
    let basic = parsed.basic_constraints().map_err(|_| unreadable())?;
    let length = basic.and_then(|basic| basic.value.path_len_constraint);
    let length = length.map(|length| BasicConstraints::Constrained(u8::try_from(length).unwrap_or(u8::MAX)));
    params.is_ca = IsCa::Ca(length.unwrap_or(BasicConstraints::Unconstrained));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params.use_authority_key_identifier_extension = true;
    for extension in parsed.extensions() {
        if let ParsedExtension::SubjectKeyIdentifier(id) = extension.parsed_extension() {
            params.key_identifier_method = KeyIdMethod::PreSpecified(id.0.to_vec());
        }
    }
    Ok(params)
}

/// A name, to be written again as it is; none of one that has anything unusual.
fn name_of(name: &X509Name<'_>) -> Option<DistinguishedName> {
    let mut written = DistinguishedName::new();
    for attribute in name.iter_rdn().flat_map(|rdn| rdn.iter()) {
        let value = attribute.attr_value();
        let text = std::str::from_utf8(value.data).ok()?;
        let value = match value.header.tag() {
            Tag::Utf8String => DnValue::Utf8String(text.to_owned()),
            Tag::PrintableString => DnValue::PrintableString(text.try_into().ok()?),
            Tag::Ia5String => DnValue::Ia5String(text.try_into().ok()?),
            _ => return None,
        };
        written.push(DnType::from_oid(&attribute.attr_type().iter()?.collect::<Vec<_>>()), value);
    }
    Some(written)
}

/// The request for an issuer's certificate, which the owner of an offline root signs.
///
/// # Errors
/// When the trust domain cannot stand in a certificate.
pub(super) fn requested_issuer(trust_domain: &TrustDomain) -> Result<CertificateParams, rcgen::Error> {
    let now = Validity { not_before: OffsetDateTime::UNIX_EPOCH, not_after: OffsetDateTime::UNIX_EPOCH };
    let mut params = issuer(trust_domain, now)?;
    // The owner of the root says these.
    params.serial_number = None;
    params.use_authority_key_identifier_extension = false;
    Ok(params)
}

/// An issuer below the root: it signs leaves only.
///
/// # Errors
/// When the trust domain cannot stand in a certificate.
pub fn issuer(trust_domain: &TrustDomain, validity: Validity) -> Result<CertificateParams, rcgen::Error> {
    authority(trust_domain, "issuer", validity, BasicConstraints::Constrained(0))
}

/// A workload's leaf: its service in the one URI, its own name in the one DNS name.
///
/// # Errors
/// When a name cannot stand in a certificate.
pub fn workload(
    trust_domain: &TrustDomain,
    service: &ServiceId,
    workload: &Name,
    validity: Validity,
) -> Result<CertificateParams, rcgen::Error> {
    let uri = SpiffeId::service(trust_domain, service).to_string();
    let dns = names::workload_dns_san(workload, service, trust_domain);
    leaf(&uri, vec![SanType::DnsName(dns.try_into()?)], validity)
}

/// The control plane's own leaf, with the names under which it is reached.
///
/// # Errors
/// When a name cannot stand in a certificate.
pub fn control_plane(
    trust_domain: &TrustDomain,
    server_names: &[ServerName],
    validity: Validity,
) -> Result<CertificateParams, rcgen::Error> {
    let names = server_names.iter().map(|name| match name {
        ServerName::Dns(name) => Ok(SanType::DnsName(name.as_str().try_into()?)),
        ServerName::Ip(address) => Ok(SanType::IpAddress(*address)),
    });
    let names = names.collect::<Result<Vec<_>, rcgen::Error>>()?;
    leaf(&SpiffeId::control_plane(trust_domain).to_string(), names, validity)
}

/// A name or address of the control plane.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum ServerName {
    Dns(String),
    Ip(IpAddr),
}

impl ServerName {
    /// Reads an address or a DNS name, as `--xds-name` takes them.
    ///
    /// # Errors
    /// Says what is wrong with the name.
    pub fn try_new(text: &str) -> Result<Self, String> {
        if let Ok(address) = text.trim_matches(['[', ']']).parse() {
            return Ok(Self::Ip(address));
        }
        match rustls_pki_types::DnsName::try_from(text) {
            Ok(name) => Ok(Self::Dns(name.to_lowercase_owned().as_ref().to_owned())),
            Err(_) => Err(format!("{text:?} is neither a DNS name nor an IP address")),
        }
    }
}

fn authority(
    trust_domain: &TrustDomain,
    role: &str,
    validity: Validity,
    constraints: BasicConstraints,
) -> Result<CertificateParams, rcgen::Error> {
    let serial = new_serial();
    // Two authorities of one mesh must not share a name, or path building confuses them.
    let id = HEXLOWER.encode(&serial.as_ref()[..4]);
    let mut params = base(&format!("spiffe://{trust_domain}"), Vec::new(), validity)?;
    params.distinguished_name.push(DnType::OrganizationName, trust_domain.as_str());
    params.distinguished_name.push(DnType::CommonName, format!("weft {role} {id}"));
    params.serial_number = Some(serial);
    params.is_ca = IsCa::Ca(constraints);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    Ok(params)
}

fn leaf(uri: &str, other_names: Vec<SanType>, validity: Validity) -> Result<CertificateParams, rcgen::Error> {
    let mut params = base(uri, other_names, validity)?;
    params.serial_number = Some(new_serial());
    params.is_ca = IsCa::ExplicitNoCa;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages =
        vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
    Ok(params)
}

fn base(uri: &str, other_names: Vec<SanType>, validity: Validity) -> Result<CertificateParams, rcgen::Error> {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.not_before = validity.not_before;
    params.not_after = validity.not_after;
    params.subject_alt_names = vec![SanType::URI(uri.try_into()?)];
    params.subject_alt_names.extend(other_names);
    params.use_authority_key_identifier_extension = true;
    Ok(params)
}

/// 159 random bits: 20 bytes, the most that RFC 5280 allows, with the sign bit clear.
fn new_serial() -> SerialNumber {
    let mut bytes: [u8; 20] = rand::random();
    bytes[0] &= 0x7f;
    SerialNumber::from_slice(&bytes)
}
