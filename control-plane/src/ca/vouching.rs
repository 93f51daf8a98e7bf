//! How the root until now vouches for the one after it: by its signature.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use rcgen::{Issuer, SubjectPublicKeyInfo};
use time::OffsetDateTime;

use super::profile::{self, Validity};
use super::proof::prove;
use super::records::{AuthorityRecord, NEXT_ROOT, NEXT_ROOT_ISSUER, ROOT, Vouched};
use super::seal::SealKey;
use super::{AuthoritySettings, CaError};

/// How `before`, the root until now, vouches for `root`, whose first issuer is `issuer`. None where its key is not here, or
/// where nobody would believe it: a root that was made elsewhere may say how long a chain below it may be, or have a name
/// that cannot be written again.
pub(super) fn vouched(
    (before, root, issuer): (&AuthorityRecord, &AuthorityRecord, &AuthorityRecord),
    settings: &AuthoritySettings,
    seal: &SealKey,
    now: OffsetDateTime,
) -> Result<Option<Vouched>, CaError> {
    if !before.signs_itself() {
        return Ok(None);
    }
    let (old, new) = (before.valid(ROOT)?, root.valid(NEXT_ROOT)?);
    let validity = Validity::starting(now, new.not_after - now, Some(old.not_after));
    let Ok(params) = profile::vouched(&new.certificate, validity) else { return Ok(None) };
    let Ok(key) = SubjectPublicKeyInfo::from_der(new.public_key()?.as_slice()) else { return Ok(None) };
    let signer = Issuer::from_ca_cert_der(&old.certificate, before.open_key(ROOT, seal)?)?;
    let certificate = params.signed_by(&key, &signer)?;
    let chain = issuer.signing(NEXT_ROOT_ISSUER, new.certificate, seal)?;
    let believed = prove(&chain, settings, &old.certificate, Some(certificate.der()), now)?;
    let vouched = Vouched { by: old.serial, certificate: BASE64.encode(certificate.der()) };
    Ok(believed.is_ok().then_some(vouched))
}
