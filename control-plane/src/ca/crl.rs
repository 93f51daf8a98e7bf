//! Revocation lists: one for each issuer under which a leaf may live, signed by that issuer.
//!
//! ```text
//! mesh/crls/ISSUER-SERIAL     the list as it is in everybody's bundle, and what stands on it
//! ```
//!
//! A verifier that has any list wants a valid one of every issuer in use (stock Envoy does), so lists must never be a
//! reason to refuse anybody: an issuer's list is there, empty, before its first leaf; it is valid for longer than the
//! issuer; and a mesh that was made before there were lists has none in its bundle until no leaf lives under an issuer
//! that cannot have one any more.

use std::collections::BTreeSet;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use rcgen::{CertificateRevocationListParams, Issuer, KeyIdMethod, KeyPair, RevokedCertParams, SerialNumber};
use rustls_pki_types::CertificateDer;
use serde::{Deserialize, Serialize};
use time::{Duration, OffsetDateTime};
use weft_store::Entry;

use super::{BACKDATE, CaError, Serial, ValidCertificate};

/// What all keys of lists begin with.
pub(super) const PREFIX: &str = "mesh/crls/";

/// How much longer than its issuer a list is valid, for verifiers whose clocks are ahead.
const MARGIN: Duration = Duration::days(1);

/// A list as stored.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RevocationList {
    /// Whose leaves it is about.
    pub issuer: Serial,
    /// Unix seconds of the issuer's end, after which nobody needs the list.
    pub issuer_ends_at: i64,
    /// From which moment it stands in the bundle, in Unix seconds; 0 is always.
    #[serde(default)]
    pub in_force_from: i64,
    /// Counts the lists of an issuer.
    pub number: u64,
    /// The leaves that are revoked.
    pub revoked: BTreeSet<Serial>,
    /// DER, base64.
    der: String,
}

impl RevocationList {
    /// The first list of an issuer: nothing is on it.
    pub(super) fn empty(
        certificate: &CertificateDer<'_>,
        key: KeyPair,
        now: OffsetDateTime,
    ) -> Result<Self, CaError> {
        Self::sign(certificate, key, now, 1, BTreeSet::new(), 0)
    }

    /// The next list, with these leaves on it.
    pub(super) fn next(
        &self,
        certificate: &CertificateDer<'_>,
        key: KeyPair,
        now: OffsetDateTime,
        revoked: BTreeSet<Serial>,
    ) -> Result<Self, CaError> {
        Self::sign(certificate, key, now, self.number + 1, revoked, self.in_force_from)
    }

    fn sign(
        certificate: &CertificateDer<'_>,
        key: KeyPair,
        now: OffsetDateTime,
        number: u64,
        revoked: BTreeSet<Serial>,
        in_force_from: i64,
    ) -> Result<Self, CaError> {
        let issuer = ValidCertificate::try_from_der(certificate.clone().into_owned())?;
        let now = now.replace_nanosecond(0).expect("0 is a valid nanosecond");
        let entry = |serial: &Serial| RevokedCertParams {
            serial_number: SerialNumber::from_slice(&serial.to_bytes()),
            revocation_time: now,
            reason_code: None,
            invalidity_date: None,
        };
        let list = CertificateRevocationListParams {
            this_update: now - BACKDATE,
            next_update: issuer.not_after + MARGIN,
            crl_number: SerialNumber::from(number),
            issuing_distribution_point: None,
            revoked_certs: revoked.iter().map(entry).collect(),
            // Whoever made the issuer's certificate chose the id, and verifiers look for a list with the same.
            key_identifier_method: issuer
                .subject_key()
                .map_or(KeyIdMethod::Sha256, |id| KeyIdMethod::PreSpecified(id.to_vec())),
        };
        let list = list.signed_by(&Issuer::from_ca_cert_der(certificate, key)?)?;
        Ok(Self {
            issuer: issuer.serial,
            issuer_ends_at: issuer.not_after.unix_timestamp(),
            in_force_from,
            number,
            revoked,
            der: BASE64.encode(list.der()),
        })
    }

    /// Reads a stored list.
    pub(super) fn decode(entry: &Entry) -> Result<Self, CaError> {
        serde_json::from_slice(&entry.value).map_err(|error| CaError::CorruptRecord {
            record: entry.key.to_string(),
            reason: error.to_string(),
        })
    }

    pub(super) fn encode(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("strings and numbers always encode")
    }

    /// The list itself, DER.
    #[must_use]
    pub fn der(&self) -> Vec<u8> {
        BASE64.decode(&self.der).unwrap_or_default()
    }

    pub(super) fn key(issuer: &Serial) -> String {
        format!("{PREFIX}{issuer}")
    }
}
