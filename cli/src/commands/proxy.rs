//! `weft proxy`: who is connected, and what each was sent, took and refused.

use std::process::ExitCode;

use weft_api::client::Client;
use weft_api::rest::{ProxyStatus, Sync};

use crate::args::{Format, Listing, ProxyStatus as StatusArgs};
use crate::output;

pub async fn list(client: &Client, args: Listing) -> anyhow::Result<ExitCode> {
    let proxies = client.proxies().await?;
    if proxies.items.is_empty() && matches!(args.output, Format::Table | Format::Wide) {
        println!("no proxies; make a token with `weft token create` and start `weft-proxy run --join TOKEN`");
        return Ok(ExitCode::SUCCESS);
    }
    output::print(args.output, &proxies, &PROXY_HEAD, || proxies.items.iter().map(proxy_row).collect())?;
    Ok(ExitCode::SUCCESS)
}

/// Head of the table of proxies.
pub const PROXY_HEAD: [&str; 7] = ["PROXY", "SERVICE", "KIND", "SYNC", "HEALTH", "CONNECTED", "CERTIFICATE"];

/// One proxy as a row.
pub fn proxy_row(proxy: &ProxyStatus) -> Vec<String> {
    let certificate = proxy.certificate.as_ref().map_or("-".to_owned(), |certificate| {
        format!(
            "{} old, {} left",
            output::since(certificate.issued_at),
            output::until(certificate.expires_at)
        )
    });
    vec![
        proxy.id.clone(),
        proxy.service.clone(),
        proxy.proxy.clone(),
        proxy.sync.to_string(),
        proxy.health.clone(),
        output::since(proxy.connected_at),
        certificate,
    ]
}

pub async fn status(client: &Client, args: StatusArgs) -> anyhow::Result<ExitCode> {
    let proxy = client.proxy(&args.id).await?;
    output::print(args.output, &proxy, &["TYPE", "SENT", "TAKEN", "SYNC"], || {
        let row = |(name, status): (&String, &weft_api::rest::TypeStatus)| {
            vec![name.clone(), status.sent.to_string(), status.acked.to_string(), status.sync.to_string()]
        };
        proxy.types.iter().map(row).collect()
    })?;
    if matches!(args.output, Format::Table | Format::Wide) {
        for (name, status) in &proxy.types {
            for refusal in &status.refused {
                println!("\n{name} refused {}:\n  {}", refusal.resources.join(", "), refusal.message);
                if !refusal.policies.is_empty() {
                    println!("  from {}", refusal.policies.join(", "));
                }
            }
        }
    }
    let refused = proxy.sync == Sync::Refused;
    Ok(if refused { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

pub async fn config(client: &Client, args: StatusArgs) -> anyhow::Result<ExitCode> {
    let config = client.proxy_config(&args.id).await?;
    let format = if args.output == Format::Json { Format::Json } else { Format::Yaml };
    output::print(format, &config, &[], Vec::new)?;
    Ok(ExitCode::SUCCESS)
}
