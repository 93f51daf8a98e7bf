//! Who is at the other end of a connection, read from a certificate that was verified.

use rustls_pki_types::CertificateDer;
use time::OffsetDateTime;
use weft_api::{Name, ServiceId, SpiffeId, TrustDomain, WorkloadId};
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::{FromDer as _, X509Certificate};

use crate::ca::Serial;

/// A verified peer: what its certificate says. Handlers find it in the request's extensions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Peer {
    pub spiffe: SpiffeId,
    /// Which workload it is; the control plane is none.
    pub workload: Option<WorkloadId>,
    /// Serial number of its certificate.
    pub serial: Serial,
    /// The name of who signed it, DER.
    pub issuer: Vec<u8>,
    /// When its certificate begins.
    pub not_before: OffsetDateTime,
    /// When its certificate ends. A connection may live longer: whoever issues anything new asks.
    pub not_after: OffsetDateTime,
}

impl Peer {
    /// The service of a workload.
    #[must_use]
    pub fn service(&self) -> Option<&ServiceId> {
        match &self.spiffe {
            SpiffeId::Service { service, .. } => Some(service),
            SpiffeId::ControlPlane { .. } => None,
        }
    }
}

/// Why a certificate, though signed by the mesh, is no identity in it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PeerError {
    #[error("the certificate is malformed")]
    Malformed,
    /// A CA's certificate.
    #[error("the certificate is that of a CA, not of a workload")]
    Authority,
    /// No URI, or several.
    #[error("the certificate has {0} URI names; an identity has exactly one")]
    UriNames(usize),
    /// Not one of our identities.
    #[error("{0:?} is no identity of the mesh {1}")]
    Foreign(String, TrustDomain),
    /// The DNS name does not fit the identity.
    #[error(
        "the certificate does not name its workload: it needs one DNS name WORKLOAD.SERVICE.NAMESPACE.{0}"
    )]
    Workload(TrustDomain),
}

/// Reads the identity in a certificate, by the rules of SPIFFE X.509-SVID.
///
/// # Errors
/// When there is not exactly one URI SAN, it is of another trust domain, the certificate is a CA's, or a workload's
/// DNS name does not fit its service.
pub fn identify(certificate: &CertificateDer<'_>, trust_domain: &TrustDomain) -> Result<Peer, PeerError> {
    let (rest, parsed) = X509Certificate::from_der(certificate).map_err(|_| PeerError::Malformed)?;
    if !rest.is_empty() {
        return Err(PeerError::Malformed);
    }
    let usage = parsed.key_usage().map_err(|_| PeerError::Malformed)?;
    if parsed.is_ca() || usage.is_some_and(|usage| usage.value.key_cert_sign() || usage.value.crl_sign()) {
        return Err(PeerError::Authority);
    }
    let names = parsed.subject_alternative_name().map_err(|_| PeerError::Malformed)?;
    let names = names.map_or(&[][..], |names| &names.value.general_names);
    let uris: Vec<&str> = names.iter().filter_map(as_uri).collect();
    let [uri] = uris[..] else { return Err(PeerError::UriNames(uris.len())) };
    let foreign = || PeerError::Foreign(uri.chars().take(200).collect(), trust_domain.clone());
    let spiffe: SpiffeId = uri.parse().map_err(|_| foreign())?;
    if spiffe.trust_domain() != trust_domain {
        return Err(foreign());
    }
    let workload = match &spiffe {
        SpiffeId::ControlPlane { .. } => None,
        SpiffeId::Service { service, .. } => {
            let dns: Vec<&str> = names.iter().filter_map(as_dns).collect();
            let named = workload_of(&dns, service, trust_domain);
            Some(named.ok_or_else(|| PeerError::Workload(trust_domain.clone()))?)
        }
    };
    let serial = Serial::from_bytes(parsed.raw_serial());
    let issuer = parsed.issuer().as_raw().to_vec();
    let (not_before, not_after) = (parsed.validity().not_before, parsed.validity().not_after);
    Ok(Peer {
        spiffe,
        workload,
        serial,
        issuer,
        not_before: not_before.to_datetime(),
        not_after: not_after.to_datetime(),
    })
}

fn as_uri<'a>(name: &GeneralName<'a>) -> Option<&'a str> {
    if let GeneralName::URI(uri) = name { Some(uri) } else { None }
}

fn as_dns<'a>(name: &GeneralName<'a>) -> Option<&'a str> {
    if let GeneralName::DNSName(dns) = name { Some(dns) } else { None }
}

fn workload_of(dns: &[&str], service: &ServiceId, trust_domain: &TrustDomain) -> Option<WorkloadId> {
    let [name] = dns else { return None };
    let suffix = format!(".{}.{}.{trust_domain}", service.name, service.namespace);
    let workload = Name::try_new(name.strip_suffix(&suffix)?).ok()?;
    Some(WorkloadId::new(service.namespace.clone(), workload))
}
