//! Where a control plane's state is: in a file of its data directory, or in etcd.

use std::fmt;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use weft_store::{EtcdConfig, EtcdTls, Location};

use crate::args::Args;

/// Name of the embedded store's file in the data directory.
pub const FILE: &str = "weft.redb";

/// Makes the data directory, which only its owner may enter, unless there is one.
///
/// # Errors
/// When it cannot be made.
pub fn make_data_dir(dir: &Path) -> anyhow::Result<()> {
    use std::os::unix::fs::DirBuilderExt as _;
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(dir)
        .with_context(|| format!("--data-dir {}: cannot be made", dir.display()))
}

/// A place for a store.
#[derive(Debug, Clone)]
pub enum StoreLocation {
    Directory(PathBuf),
    Etcd(Box<EtcdConfig>),
}

impl StoreLocation {
    /// What `--etcd` says, else `--data-dir`.
    ///
    /// # Errors
    /// When a TLS file cannot be read.
    pub fn of(args: &Args) -> anyhow::Result<Self> {
        if args.etcd.is_empty() {
            return Ok(Self::Directory(args.data_dir.clone()));
        }
        Self::etcd(args, args.etcd.clone())
    }

    /// What a word says: the URLs of an etcd, with the TLS files, prefix and user of the flags, else a directory.
    ///
    /// # Errors
    /// When a TLS file cannot be read.
    pub fn read(args: &Args, word: &str) -> anyhow::Result<Self> {
        if word.starts_with("http://") || word.starts_with("https://") {
            return Self::etcd(args, word.split(',').map(str::to_owned).collect());
        }
        Ok(Self::Directory(word.into()))
    }

    /// As the store takes it.
    #[must_use]
    pub fn location(self) -> Location {
        match self {
            Self::Directory(directory) => Location::Embedded(directory.join(FILE)),
            Self::Etcd(config) => Location::Etcd(config),
        }
    }

    fn etcd(args: &Args, endpoints: Vec<String>) -> anyhow::Result<Self> {
        let read = |flag: &str, path: &Path| {
            std::fs::read(path).with_context(|| format!("{flag} {}", path.display()))
        };
        let mut config = EtcdConfig::new(endpoints);
        config.prefix.clone_from(&args.etcd_prefix);
        if let Some(ca) = &args.etcd_ca {
            let identity = match (&args.etcd_cert, &args.etcd_key) {
                (Some(cert), Some(key)) => Some((read("--etcd-cert", cert)?, read("--etcd-key", key)?)),
                _ => None,
            };
            config.tls =
                Some(EtcdTls { ca_pem: read("--etcd-ca", ca)?, identity_pem: identity, server_name: None });
        }
        if let (Some(user), Some(password)) = (&args.etcd_user, &args.etcd_password) {
            config.user = Some((user.clone(), password.clone()));
        }
        Ok(Self::Etcd(Box::new(config)))
    }
}

impl fmt::Display for StoreLocation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Directory(directory) => write!(f, "{}", directory.join(FILE).display()),
            Self::Etcd(config) => {
                write!(f, "etcd at {}, prefix {}", config.endpoints.join(","), config.prefix)
            }
        }
    }
}
