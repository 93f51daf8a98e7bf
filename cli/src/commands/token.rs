//! `weft token`: what workloads join with.

use std::io::Write as _;
use std::path::Path;
use std::process::ExitCode;

use anyhow::Context as _;
use weft_api::client::Client;
use weft_api::rest::TokenRequest;

use crate::args::{Format, Listing, TokenCreate, TokenRevoke};
use crate::output;

pub async fn create(client: &Client, args: TokenCreate) -> anyhow::Result<ExitCode> {
    let request = TokenRequest {
        service: args.service,
        ttl: Some(args.ttl),
        uses: Some(args.uses),
        allow_labels: args.allow_labels,
        allow_addresses: args.allow_addresses,
        allow_no_proxy: args.allow_no_proxy,
    };
    if let Some(path) = &args.out {
        // Found out before a token exists that nobody could use.
        anyhow::ensure!(!path.is_dir(), "--out {} is a directory; name a file in it", path.display());
    }
    let token = client.create_token(&request).await?;
    if let Some(path) = &args.out {
        write(path, &token.token).with_context(|| format!("--out {}", path.display()))?;
    }
    if matches!(args.output, Format::Table | Format::Wide) {
        // The token alone on standard output, so that it can be captured.
        eprintln!(
            "token {} for {}, {} use(s), {} left; it is shown only now",
            token.info.id,
            token.info.service,
            token.info.uses_left,
            output::until(token.info.expires_at)
        );
        match &args.out {
            Some(path) => eprintln!("written to {}", path.display()),
            None => println!("{}", token.token),
        }
    } else {
        output::print(args.output, &token, &[], Vec::new)?;
    }
    Ok(ExitCode::SUCCESS)
}

/// For its owner only, and whole or not at all.
fn write(path: &Path, token: &str) -> anyhow::Result<()> {
    let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty());
    let mut file = tempfile::NamedTempFile::new_in(directory.unwrap_or(Path::new(".")))?;
    writeln!(file, "{token}")?;
    file.as_file().sync_all()?;
    file.persist(path)?;
    Ok(())
}

pub async fn list(client: &Client, args: Listing) -> anyhow::Result<ExitCode> {
    let tokens = client.tokens().await?;
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

pub async fn revoke(client: &Client, args: TokenRevoke) -> anyhow::Result<ExitCode> {
    client.revoke_token(&args.id).await?;
    println!("token {} revoked", args.id);
    Ok(ExitCode::SUCCESS)
}
