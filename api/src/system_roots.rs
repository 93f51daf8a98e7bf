//! Where a machine keeps the certificates of the authorities that it trusts.

use std::path::{Path, PathBuf};

/// Names the file in place of the system's own, as OpenSSL has it.
const VARIABLE: &str = "SSL_CERT_FILE";
/// Debian, Fedora, Red Hat, SUSE, Alpine and the BSDs, in this order.
const FILES: [&str; 5] = [
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/ssl/cert.pem",
];

/// The file with all of them, in PEM; none on a machine that has none.
#[must_use]
pub fn file() -> Option<PathBuf> {
    let named = std::env::var_os(VARIABLE).map(PathBuf::from);
    let known = FILES.into_iter().map(PathBuf::from);
    named.into_iter().chain(known).find(|path: &PathBuf| Path::is_file(path))
}
