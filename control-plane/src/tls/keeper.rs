//! Keeps a server's certificate fresh: renewed at 50 to 60 % of its life, and when the issuer or the bundle changes.

use std::sync::Arc;
use std::time::Duration;

use rustls::ServerConfig;
use time::OffsetDateTime;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use weft_api::Backoff;

use super::settings::{ServerTls, server_config};
use super::verifier::ClientCertificates;
use crate::ca::{Authority, CaError, ServerName, rotate_at, sleep_until};
use crate::clock::Clock;

const RETRY_FIRST: Duration = Duration::from_secs(1);
const RETRY_MOST: Duration = Duration::from_secs(60);

/// What a listener's TLS is made of.
#[derive(Debug, Clone)]
pub struct ListenerTls {
    /// Names and addresses in the certificate.
    pub names: Vec<ServerName>,
    /// Whether clients need a certificate.
    pub clients: ClientCertificates,
    /// Protocols, the preferred one first.
    pub alpn: &'static [&'static [u8]],
}

/// Why a listener has no TLS.
#[derive(Debug, thiserror::Error)]
pub enum ListenerTlsError {
    #[error(transparent)]
    Authority(#[from] CaError),
    /// A certificate that rustls refuses.
    #[error("cannot use the certificate: {0}")]
    Config(#[from] rustls::Error),
}

/// Makes the first configuration and starts the task that replaces it; the task ends with `shutdown`.
///
/// # Errors
/// When the first certificate cannot be made.
pub fn spawn_keeper(
    authority: Arc<Authority>,
    tls: ListenerTls,
    clock: Clock,
    shutdown: CancellationToken,
) -> Result<watch::Receiver<Arc<ServerConfig>>, ListenerTlsError> {
    let mut chain = authority.subscribe();
    chain.mark_unchanged();
    let (config, mut renew_at) = make(&authority, &tls, &clock)?;
    let (sender, receiver) = watch::channel(Arc::new(config));
    tokio::spawn(async move {
        let mut retry = Backoff::new(RETRY_FIRST, RETRY_MOST);
        loop {
            tokio::select! {
                () = sleep_until(&clock, renew_at) => {}
                Ok(()) = chain.changed() => {}
                () = shutdown.cancelled() => return,
            }
            match make(&authority, &tls, &clock) {
                Ok((config, next)) => {
                    renew_at = next;
                    retry.reset();
                    sender.send_replace(Arc::new(config));
                }
                Err(error) => {
                    tracing::warn!(
                        event = "server_certificate_not_renewed",
                        %error,
                        "cannot renew the control plane's certificate; the old one serves on"
                    );
                    renew_at = clock.now() + retry.next_wait();
                }
            }
        }
    });
    Ok(receiver)
}

fn make(
    authority: &Authority,
    tls: &ListenerTls,
    clock: &Clock,
) -> Result<(ServerConfig, OffsetDateTime), ListenerTlsError> {
    let identity = authority.issue_control_plane(&tls.names)?;
    let renew_at = rotate_at(identity.issued_at, identity.not_after);
    let config = server_config(
        ServerTls {
            chain: identity.chain,
            key: identity.key,
            bundle: &authority.bundle(),
            trust_domain: authority.trust_domain(),
            clients: tls.clients,
            alpn: tls.alpn,
        },
        clock,
    )?;
    Ok((config, renew_at))
}
