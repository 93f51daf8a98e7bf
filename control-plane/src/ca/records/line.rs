//! The line of the mesh's roots: each is signed by the one before it, so that whoever knows the mesh by an old one finds the way to
//! the newest.

use std::collections::BTreeSet;

use rustls_pki_types::CertificateDer;
use time::OffsetDateTime;
use weft_store::Entry;

use super::super::chain::ValidCertificate;
use super::super::{CaError, Serial};
use super::entry::{LEFT_ROOTS, ROOT, from_base64, read_json};
use super::record::{AuthorityRecord, LeftRoot};
use super::{CaRecords, decode};

/// How many roots a server sends at most, from its own back to the oldest by which somebody may know the mesh.
const LONGEST_LINE: usize = 8;

impl CaRecords {
    /// What a server that is signed under a root sends behind its issuer: the root, signed by the one before it, and so on
    /// back to the oldest that has not ended. The last one is signed by itself.
    pub(super) fn line_of(
        &self,
        root: &AuthorityRecord,
        now: OffsetDateTime,
    ) -> Result<Vec<CertificateDer<'static>>, CaError> {
        let mut line = Vec::new();
        // A root may come back that vouched for one of those that stand before it now.
        let mut passed = BTreeSet::from([root.valid(ROOT)?.serial]);
        let mut current = LeftRoot { certificate: root.certificate.clone(), vouched: root.vouched.clone() };
        while line.len() + 1 < LONGEST_LINE
            && let Some(vouched) = &current.vouched
            && passed.insert(vouched.by.clone())
            && let Some(before) = self.root_with(&vouched.by, now)?
        {
            line.push(from_base64(LEFT_ROOTS, &vouched.certificate)?);
            current = before;
        }
        line.push(from_base64(LEFT_ROOTS, &current.certificate)?);
        Ok(line)
    }

    /// A root that is or was in the mesh, by its serial number, if it has not ended.
    fn root_with(&self, serial: &Serial, now: OffsetDateTime) -> Result<Option<LeftRoot>, CaError> {
        let kept = [Some(&self.root), self.old_root.as_ref()];
        let mut known = Vec::new();
        for entry in kept.into_iter().flatten() {
            let AuthorityRecord { certificate, vouched, .. } = decode(entry)?;
            known.push(LeftRoot { certificate, vouched });
        }
        for entry in &self.left {
            known.push(read_json(entry)?);
        }
        for root in known {
            let read = ValidCertificate::try_from_der(from_base64(LEFT_ROOTS, &root.certificate)?)?;
            if read.serial == *serial && read.not_after > now {
                return Ok(Some(root));
            }
        }
        Ok(None)
    }

    /// Whether this root was the mesh's and left.
    pub(in super::super) fn has_left(&self, root: &Serial) -> bool {
        self.left.iter().any(|entry| entry.key.as_str().trim_start_matches(LEFT_ROOTS) == root.as_str())
    }

    /// Roots that left and have ended, which nobody knows the mesh by any more.
    pub(in super::super) fn ended_roots(&self, now: OffsetDateTime) -> Vec<String> {
        let has_ended = |entry: &&Entry| {
            let root = read_json::<LeftRoot>(entry).ok();
            let read = root.and_then(|root| from_base64(&entry.key, &root.certificate).ok());
            let read = read.and_then(|der| ValidCertificate::try_from_der(der).ok());
            read.is_none_or(|root| root.not_after <= now)
        };
        self.left.iter().filter(has_ended).map(|entry| entry.key.to_string()).collect()
    }
}
