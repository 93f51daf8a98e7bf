//! What a peer's certificate is checked against: `CertificateValidationContext`.

use base64::Engine as _;
use data_encoding::HEXLOWER_PERMISSIVE;
use envoy_types::pb::envoy::extensions::transport_sockets::tls::v3::subject_alt_name_matcher::SanType;
use envoy_types::pb::envoy::extensions::transport_sockets::tls::v3::{
    CertificateValidationContext, SubjectAltNameMatcher,
};
use weft_routing::decode::matcher;
use weft_routing::rejection::{Notes, Rejection, Within as _, refuse};

use super::fields;
use crate::runtime::{SanMatch, TlsError, TrustSpec};

/// Reads a validation context.
pub(super) fn trust(
    context: &CertificateValidationContext,
    notes: &mut Notes,
) -> Result<TrustSpec, Rejection> {
    refuse(&context.ca_certificate_provider_instance, "ca_certificate_provider_instance")?;
    refuse(&context.system_root_certs, "system_root_certs")?;
    refuse(&context.verify_certificate_spki, "verify_certificate_spki")?;
    refuse(&context.match_subject_alt_names, "match_subject_alt_names")?;
    refuse(&context.custom_validator_config, "custom_validator_config")?;
    refuse(&context.max_verify_depth, "max_verify_depth")?;
    refuse(context.allow_expired_certificate, "allow_expired_certificate")?;
    refuse(context.trust_chain_verification != 0, "trust_chain_verification")?;
    let sct = fields::flag(context.require_signed_certificate_timestamp.as_ref());
    refuse(sct, "require_signed_certificate_timestamp")?;
    notes.ignored(&context.watched_directory, "tls.watched_directory");
    notes.ignored(context.suppress_client_ca_list, "tls.suppress_client_ca_list");
    let roots = fields::data(context.trusted_ca.as_ref(), "trusted_ca")?.unwrap_or_default();
    let crls = fields::data(context.crl.as_ref(), "crl")?.unwrap_or_default();
    let mut trust = TrustSpec::from_pem(&roots, &crls).map_err(|error| {
        let field = if let TlsError::Unreadable { what, .. } = &error { what } else { "trusted_ca" };
        Rejection::new(field, error.to_string())
    })?;
    trust.only_leaf_crl = context.only_verify_leaf_cert_crl;
    for (index, given) in context.match_typed_subject_alt_names.iter().enumerate() {
        let decoded = san(given).within(|| format!("match_typed_subject_alt_names[{index}]"))?;
        trust.sans.push(decoded);
    }
    for hash in &context.verify_certificate_hash {
        trust.certificate_hashes.push(sha256(hash)?);
    }
    Ok(trust)
}

fn san(given: &SubjectAltNameMatcher) -> Result<SanMatch, Rejection> {
    let pattern = given.matcher.as_ref().ok_or_else(|| Rejection::new("matcher", "is missing"))?;
    let pattern = matcher::string(pattern).within(|| "matcher")?;
    match SanType::try_from(given.san_type) {
        Ok(SanType::Uri) => Ok(SanMatch::Uri(pattern)),
        Ok(SanType::Dns) => Ok(SanMatch::Dns(pattern)),
        Ok(SanType::IpAddress | SanType::Email) => Ok(SanMatch::Other(pattern)),
        Ok(SanType::OtherName) => Err(Rejection::unsupported("san_type OTHER_NAME")),
        Ok(SanType::Unspecified) | Err(_) => Err(Rejection::new("san_type", "unknown value")),
    }
}

/// `verify_certificate_hash`: hexadecimal, with or without colons, or base64.
fn sha256(text: &str) -> Result<[u8; 32], Rejection> {
    let wrong = || Rejection::new("verify_certificate_hash", format!("{text:?} is not a SHA-256 hash"));
    let digits = text.replace(':', "");
    let hex = HEXLOWER_PERMISSIVE.decode(digits.as_bytes()).ok().filter(|bytes| bytes.len() == 32);
    let bytes = match hex {
        Some(bytes) => bytes,
        None => base64::engine::general_purpose::STANDARD.decode(text).map_err(|_| wrong())?,
    };
    bytes.try_into().map_err(|_| wrong())
}
