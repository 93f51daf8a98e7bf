//! How to reach an etcd cluster.

use std::fmt;
use std::time::Duration;

use etcd_client::{Certificate, Identity, TlsOptions};

use crate::error::OpenError;
use crate::txn::TxnLimits;

/// etcd's `--max-request-bytes` and `--max-txn-ops` unless someone changed them.
const REQUEST_BYTES: usize = 3 << 19;
const TXN_OPS: usize = 128;

/// Room for the frame around a transaction.
const FRAME_BYTES: usize = 8 << 10;

/// How to reach an etcd cluster, and what it takes.
#[derive(Clone)]
pub struct EtcdConfig {
    /// `http://HOST:PORT` or `https://HOST:PORT`, one for each member that should be used.
    pub endpoints: Vec<String>,
    /// What all keys begin with, so that several meshes and other users share a cluster.
    pub prefix: String,
    /// TLS, for `https` endpoints.
    pub tls: Option<EtcdTls>,
    /// Name and password, where the cluster has authentication enabled.
    pub user: Option<(String, String)>,
    /// How long a call may take; 5 s.
    pub request_timeout: Duration,
    /// How often followers list anew, see [`Store::resync_interval`](crate::Store::resync_interval); 5 minutes.
    pub resync: Duration,
    /// The cluster's `--max-request-bytes`; 1.5 MiB.
    pub max_request_bytes: usize,
    /// The cluster's `--max-txn-ops`; 128.
    pub max_txn_ops: usize,
}

/// TLS towards etcd, as PEM texts.
#[derive(Clone, Default)]
pub struct EtcdTls {
    /// The authorities that may have signed the servers' certificates.
    pub ca_pem: Vec<u8>,
    /// Own certificate chain and key, where the cluster asks for one.
    pub identity_pem: Option<(Vec<u8>, Vec<u8>)>,
    /// The name in the servers' certificates, if it is not the host of the endpoint.
    pub server_name: Option<String>,
}

impl EtcdConfig {
    /// These endpoints, the prefix `weft/`, and defaults for the rest.
    pub fn new(endpoints: impl IntoIterator<Item = impl Into<String>>) -> Self {
        Self {
            endpoints: endpoints.into_iter().map(Into::into).collect(),
            prefix: "weft/".into(),
            tls: None,
            user: None,
            request_timeout: Duration::from_secs(5),
            resync: Duration::from_secs(300),
            max_request_bytes: REQUEST_BYTES,
            max_txn_ops: TXN_OPS,
        }
    }

    pub(super) fn check(&self) -> Result<(), OpenError> {
        let refuse = |reason: String| Err(OpenError::Config { reason });
        if self.endpoints.is_empty() {
            return refuse("no endpoint: give at least one, such as http://127.0.0.1:2379".into());
        }
        for endpoint in &self.endpoints {
            let secure = endpoint.starts_with("https://");
            if !secure && !endpoint.starts_with("http://") {
                return refuse(format!("endpoint {endpoint:?} must begin with http:// or https://"));
            }
            if secure && self.tls.is_none() {
                return refuse(format!("endpoint {endpoint:?} needs the authority of its certificate (tls)"));
            }
            if !secure && self.tls.is_some() {
                return refuse(format!("endpoint {endpoint:?} must be https:// as TLS files are given"));
            }
        }
        if self.prefix.len() > 255 {
            return refuse("the prefix is longer than 255 bytes".into());
        }
        Ok(())
    }

    pub(super) fn limits(&self) -> TxnLimits {
        // A guarded key travels twice, and every key with the prefix.
        let prefixes = 3 * self.max_txn_ops * self.prefix.len();
        let max_txn_bytes = self.max_request_bytes.saturating_sub(FRAME_BYTES + prefixes);
        let max_value = max_txn_bytes.saturating_sub(FRAME_BYTES);
        TxnLimits { max_value, max_ops: self.max_txn_ops, max_txn_bytes }
    }
}

impl EtcdTls {
    pub(super) fn options(&self) -> TlsOptions {
        let mut options = TlsOptions::new().ca_certificate(Certificate::from_pem(&self.ca_pem));
        if let Some((chain, key)) = &self.identity_pem {
            options = options.identity(Identity::from_pem(chain, key));
        }
        if let Some(name) = &self.server_name {
            options = options.domain_name(name);
        }
        options
    }
}

// By hand: neither password nor key may end in a log.
impl fmt::Debug for EtcdConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EtcdConfig")
            .field("endpoints", &self.endpoints)
            .field("prefix", &self.prefix)
            .field("tls", &self.tls)
            .field("user", &self.user.as_ref().map(|(name, _)| name))
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for EtcdTls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EtcdTls").field("server_name", &self.server_name).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn says_what_is_wrong_with_an_endpoint() {
        let reason = |config: EtcdConfig| config.check().unwrap_err().to_string();
        assert!(reason(EtcdConfig::new([] as [&str; 0])).contains("no endpoint"));
        assert!(reason(EtcdConfig::new(["localhost:2379"])).contains("must begin with http://"));
        assert!(reason(EtcdConfig::new(["https://localhost:2379"])).contains("needs the authority"));
        let mut plain = EtcdConfig::new(["http://localhost:2379"]);
        assert!(plain.check().is_ok());
        plain.tls = Some(EtcdTls::default());
        assert!(reason(plain).contains("must be https://"));
    }

    #[test]
    fn shows_no_secret_when_printed() {
        let mut config = EtcdConfig::new(["https://localhost:2379"]);
        config.user = Some(("weft".into(), "hunter2".into()));
        config.tls =
            Some(EtcdTls { identity_pem: Some((b"CERT".into(), b"KEY".into())), ..EtcdTls::default() });
        let shown = format!("{config:?}");
        assert!(shown.contains("weft") && !shown.contains("hunter2") && !shown.contains("75"), "{shown}");
    }
}
