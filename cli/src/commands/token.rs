//! `weft token`: what workloads join with.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context as _;
use weft_api::rest::TokenRequest;

use crate::args::{ListArgs, TokenCreate, TokenRevoke};
use crate::output::{self, outln};
use crate::replicas::ReplicaClients;

pub async fn create(replicas: &ReplicaClients, args: TokenCreate) -> anyhow::Result<ExitCode> {
    let out = Out::try_new(args.out.as_deref(), &args.services)?;
    for service in &args.services {
        let request = TokenRequest {
            service: service.clone(),
            ttl: Some(args.ttl.clone()),
            uses: Some(args.uses),
            allow_labels: args.allow_labels.clone(),
            allow_addresses: args.allow_addresses.clone(),
            allow_no_proxy: args.allow_no_proxy,
            ahead: args.ahead,
        };
        let token = replicas.any(async |client| client.create_token(&request).await).await?;
        let path = out.path(&token.info.service);
        if let Some(path) = &path {
            write_secret(path, &token.token).with_context(|| format!("--out {}", path.display()))?;
        }
        if args.output.is_table() {
            // The token alone on standard output, so that it can be captured.
            eprintln!(
                "token {} for {}, {} use(s), {} left; it is shown only now",
                token.info.id,
                token.info.service,
                token.info.uses_left,
                output::until(token.info.expires_at)
            );
            match &path {
                Some(path) => eprintln!("written to {}", path.display()),
                None => outln!("{}", token.token),
            }
        } else {
            output::print(args.output, &token, &[], Vec::new)?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// Where the tokens that were made go: `--out`, or the terminal.
enum Out {
    Screen,
    File(PathBuf),
    Directory(PathBuf),
}

impl Out {
    /// What is wrong with `--out` is found out before a token exists that nobody could use.
    fn try_new(out: Option<&Path>, services: &[String]) -> anyhow::Result<Self> {
        Ok(match out {
            None if services.len() == 1 => Self::Screen,
            None => anyhow::bail!("--out: tokens of several services need a directory to be written to"),
            Some(path) if path.is_dir() => Self::Directory(path.to_owned()),
            Some(path) if services.len() == 1 => Self::File(path.to_owned()),
            Some(path) => {
                anyhow::bail!(
                    "--out {}: is no directory; tokens of several services need one",
                    path.display()
                )
            }
        })
    }

    fn path(&self, service: &str) -> Option<PathBuf> {
        match self {
            Self::Screen => None,
            Self::File(path) => Some(path.clone()),
            Self::Directory(path) => Some(path.join(format!("{}.token", service.replace('/', ".")))),
        }
    }
}

/// For its owner only, and whole or not at all.
/// Into a file of mode 0600, whole or not at all.
pub fn write_secret(path: &Path, token: &str) -> anyhow::Result<()> {
    let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty());
    let mut file = tempfile::NamedTempFile::new_in(directory.unwrap_or(Path::new(".")))?;
    writeln!(file, "{token}")?;
    file.as_file().sync_all()?;
    file.persist(path)?;
    Ok(())
}

pub async fn list(replicas: &ReplicaClients, args: ListArgs) -> anyhow::Result<ExitCode> {
    let tokens = replicas.any(async |client| client.tokens().await).await?;
    output::print(args.output, &tokens, &["ID", "SERVICE", "USES LEFT", "EXPIRES IN", "LABELS"], || {
        let row = |token: &weft_api::rest::TokenInfo| {
            vec![
                token.id.clone(),
                token.service.clone(),
                token.uses_left.to_string(),
                output::until(token.expires_at),
                token.allow_labels.join(","),
            ]
        };
        tokens.items.iter().map(row).collect()
    })?;
    Ok(ExitCode::SUCCESS)
}

pub async fn revoke(replicas: &ReplicaClients, args: TokenRevoke) -> anyhow::Result<ExitCode> {
    replicas.any(async |client| client.revoke_token(&args.id).await).await?;
    outln!("token {} revoked", args.id);
    Ok(ExitCode::SUCCESS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_of_several_services_go_into_a_directory() {
        let dir = tempfile::tempdir().unwrap();
        let (one, two) = (["shop/web".to_owned()], ["shop/web".to_owned(), "shop/cart".to_owned()]);
        assert_eq!(Out::try_new(None, &one).unwrap().path("shop/web"), None);
        let file = dir.path().join("web.token");
        assert_eq!(Out::try_new(Some(&file), &one).unwrap().path("shop/web"), Some(file.clone()));
        let out = Out::try_new(Some(dir.path()), &two).unwrap();
        assert_eq!(out.path("shop/cart"), Some(dir.path().join("shop.cart.token")));
        for out in [None, Some(file.as_path())] {
            let error = Out::try_new(out, &two).map(drop).unwrap_err().to_string();
            assert!(error.starts_with("--out"), "{error}");
        }
    }
}
