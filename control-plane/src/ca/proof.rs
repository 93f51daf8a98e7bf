//! Whether members would believe what a chain signs: a leaf of each kind is made and verified, as members verify.

use rustls_pki_types::{CertificateDer, UnixTime};
use time::OffsetDateTime;
use weft_api::{Name, ServiceId};

use super::chain::SigningChain;
use super::profile::{self, Validity};
use super::{AuthoritySettings, CaError};

/// Signs a leaf of a workload and one of a control plane, and asks whether who trusts `root` alone believes both. `vouched` is sent
/// along.
///
/// # Errors
/// When a leaf cannot be made.
pub(super) fn prove(
    chain: &SigningChain,
    settings: &AuthoritySettings,
    root: &CertificateDer<'_>,
    vouched: Option<&CertificateDer<'_>>,
    now: OffsetDateTime,
) -> Result<Result<(), webpki::Error>, CaError> {
    let validity = Validity::starting(now, settings.leaf_life, Some(chain.issuer.not_after));
    let key = profile::new_key()?;
    let (service, name) = sample();
    let workload = profile::workload(&settings.trust_domain, &service, &name, validity)?;
    let control_plane = profile::control_plane(&settings.trust_domain, &settings.server_names, validity)?;
    let mut above = chain.above_leaves();
    above.extend(vouched.map(|certificate| certificate.clone().into_owned()));
    for leaf in [workload, control_plane] {
        let leaf = chain.sign(&leaf, &key)?;
        if let Err(error) = verify(&leaf.certificate, &above, root, now) {
            return Ok(Err(error));
        }
    }
    Ok(Ok(()))
}

/// A workload as there may be many.
fn sample() -> (ServiceId, Name) {
    ("weft/weft".parse().expect("a valid name"), Name::try_new("weft").expect("a valid name"))
}

fn verify(
    leaf: &CertificateDer<'_>,
    above: &[CertificateDer<'_>],
    root: &CertificateDer<'_>,
    now: OffsetDateTime,
) -> Result<(), webpki::Error> {
    let anchors = [webpki::anchor_from_trusted_cert(root)?];
    let leaf = webpki::EndEntityCert::try_from(leaf)?;
    let seconds = u64::try_from(now.unix_timestamp()).unwrap_or_default();
    let now = UnixTime::since_unix_epoch(std::time::Duration::from_secs(seconds));
    let algorithms = rustls::crypto::aws_lc_rs::default_provider().signature_verification_algorithms;
    for usage in [webpki::KeyUsage::server_auth(), webpki::KeyUsage::client_auth()] {
        leaf.verify_for_usage(algorithms.all, &anchors, above, now, usage, None, None)?;
    }
    Ok(())
}
