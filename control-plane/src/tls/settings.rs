//! One TLS profile for everything the control plane serves.

use std::sync::Arc;

use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, UnixTime};
use rustls::server::NoServerSessionStorage;
use rustls::time_provider::TimeProvider;
use rustls::{ServerConfig, version};
use weft_api::TrustDomain;

use super::verifier::{ClientCertificates, ClientVerifier};
use crate::clock::Clock;

/// aws-lc-rs with TLS 1.3 suites and the mesh's three key exchanges, the post-quantum one first.
#[must_use]
pub fn provider() -> Arc<CryptoProvider> {
    let mut provider = aws_lc_rs::default_provider();
    provider.cipher_suites.retain(|suite| suite.tls13().is_some());
    provider.kx_groups = vec![
        aws_lc_rs::kx_group::X25519MLKEM768,
        aws_lc_rs::kx_group::X25519,
        aws_lc_rs::kx_group::SECP256R1,
    ];
    Arc::new(provider)
}

/// What a server shows and whom it believes.
#[derive(Debug)]
pub struct ServerTls<'a> {
    /// Certificates to send, the leaf first.
    pub chain: Vec<CertificateDer<'static>>,
    /// Key of the leaf.
    pub key: PrivateKeyDer<'static>,
    /// Roots that client certificates are verified against.
    pub bundle: &'a [CertificateDer<'static>],
    /// Trust domain of clients.
    pub trust_domain: &'a TrustDomain,
    /// Whether clients need one.
    pub clients: ClientCertificates,
    /// Protocols, the preferred one first.
    pub alpn: &'a [&'a [u8]],
}

/// Makes a server configuration: TLS 1.3 only, no resumption (a resumed session would skip the verifier).
///
/// # Errors
/// When the key is not the certificate's, or the bundle is unreadable.
pub fn server_config(tls: ServerTls<'_>, clock: &Clock) -> Result<ServerConfig, rustls::Error> {
    let provider = provider();
    let verifier =
        ClientVerifier::try_new(tls.bundle, tls.trust_domain.clone(), tls.clients, Arc::clone(&provider))?;
    let mut config = ServerConfig::builder_with_details(provider, Arc::new(ClockTime(clock.clone())))
        .with_protocol_versions(&[&version::TLS13])?
        .with_client_cert_verifier(verifier)
        .with_single_cert(tls.chain, tls.key)?;
    config.alpn_protocols = tls.alpn.iter().map(|protocol| protocol.to_vec()).collect();
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    config.max_early_data_size = 0;
    Ok(config)
}

#[derive(Debug)]
struct ClockTime(Clock);

impl TimeProvider for ClockTime {
    fn current_time(&self) -> Option<UnixTime> {
        let seconds = u64::try_from(self.0.unix_seconds()).ok()?;
        Some(UnixTime::since_unix_epoch(std::time::Duration::from_secs(seconds)))
    }
}
