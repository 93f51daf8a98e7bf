//! An authority of a user's own, whose key the mesh never sees: made and used with openssl, as people do.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, ensure};

/// A root on a disk of its own.
#[derive(Debug)]
pub struct OfflineRoot {
    dir: PathBuf,
}

impl OfflineRoot {
    /// Makes one in a new directory below `dir`.
    ///
    /// # Errors
    /// When openssl is missing or refuses.
    pub fn create(dir: &Path, name: &str) -> anyhow::Result<Self> {
        let root = Self { dir: dir.join(name) };
        std::fs::create_dir(&root.dir)?;
        root.openssl("ecparam -name prime256v1 -genkey -noout -out root.key")?;
        root.openssl(&format!(
            "req -x509 -new -key root.key -days 3650 -subj /O=Example/CN={name} \
             -addext keyUsage=critical,keyCertSign,cRLSign -out root.pem"
        ))?;
        Ok(root)
    }

    /// Signs a request as it asks, for as many days; its certificate, then the root's.
    ///
    /// # Errors
    /// When openssl refuses.
    pub fn sign(&self, request: &str, days: u32) -> anyhow::Result<String> {
        self.sign_with(request, &format!("-days {days} -copy_extensions copyall"))
    }

    /// The same with whatever options of `openssl x509 -req` the test wants.
    ///
    /// # Errors
    /// When openssl refuses.
    pub fn sign_with(&self, request: &str, options: &str) -> anyhow::Result<String> {
        std::fs::write(self.dir.join("issuer.csr"), request)?;
        self.openssl(&format!(
            "x509 -req -in issuer.csr -CA root.pem -CAkey root.key {options} -out issuer.pem"
        ))?;
        Ok([self.read("issuer.pem")?, self.read("root.pem")?].concat())
    }

    /// Makes an intermediate: the file of its chain, and that of its key.
    ///
    /// # Errors
    /// When openssl refuses.
    pub fn intermediate(&self) -> anyhow::Result<(PathBuf, PathBuf)> {
        self.openssl("ecparam -name secp384r1 -genkey -noout -out intermediate.key")?;
        self.openssl(
            "req -new -key intermediate.key -subj /O=Example/CN=Intermediate -out intermediate.csr",
        )?;
        let extensions =
            "basicConstraints=critical,CA:TRUE,pathlen:1\nkeyUsage=critical,keyCertSign,cRLSign\n";
        std::fs::write(self.dir.join("extensions"), extensions)?;
        let chain = self.sign_with(&self.read("intermediate.csr")?, "-days 365 -extfile extensions")?;
        std::fs::write(self.dir.join("chain.pem"), chain)?;
        Ok((self.dir.join("chain.pem"), self.dir.join("intermediate.key")))
    }

    fn read(&self, file: &str) -> anyhow::Result<String> {
        std::fs::read_to_string(self.dir.join(file)).context(file.to_owned())
    }

    fn openssl(&self, arguments: &str) -> anyhow::Result<()> {
        let output =
            Command::new("openssl").args(arguments.split_whitespace()).current_dir(&self.dir).output();
        let output = output.context("openssl cannot be run")?;
        let words = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "openssl {arguments}: {words}");
        Ok(())
    }
}
