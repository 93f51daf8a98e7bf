//! `weft ui`: a link that opens the page of a control plane, signed in.

use std::process::{Command, ExitCode, Stdio};

use anyhow::{Context as _, bail};
use weft_api::client::ApiClient;

use crate::args::Ui;
use crate::output::outln;

/// Makes a link that is good once, for a minute, and prints it; the token stays here.
pub async fn run(client: &ApiClient, args: &Ui) -> anyhow::Result<ExitCode> {
    let code = client.login_code().await?.code;
    let link = format!("{}/ui/login#{code}", client.api());
    outln!("{link}");
    eprintln!("this link signs one browser in, once, within a minute");
    if client.api().starts_with("https://") {
        eprintln!(
            "the browser has to trust the API's certificate: the mesh's roots are in the control plane's ca.pem"
        );
    }
    if args.open {
        open(&link)?;
    }
    Ok(ExitCode::SUCCESS)
}

/// Hands it to the browser that the machine has.
fn open(link: &str) -> anyhow::Result<()> {
    let program = std::env::var_os("BROWSER").unwrap_or_else(|| "xdg-open".into());
    let mut command = Command::new(&program);
    command.arg(link).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    let status = command.status().with_context(|| {
        format!(
            "{} cannot be started: open the link yourself, or name a program in BROWSER",
            program.display()
        )
    })?;
    if !status.success() {
        bail!("{} failed: open the link yourself", program.display());
    }
    Ok(())
}
