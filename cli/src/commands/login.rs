//! `weft login`: keeps what later commands need to talk to a control plane, from any directory of this machine.

use std::fs::File;
use std::io::Read as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context as _, bail};
use weft_api::Context;

use crate::access;
use crate::args::{Access, Login};
use crate::contexts::{ContextName, Contexts};
use crate::output::outln;

/// No file of a control plane is larger.
const LARGEST: u64 = 1 << 20;

/// Logs in with a file of the control plane's, or with what is given and found. Nothing is kept before the control plane
/// has taken the token.
pub async fn run(given: &Access, args: Login) -> anyhow::Result<ExitCode> {
    let context = match &args.file {
        Some(path) => read(path).with_context(|| path.display().to_string())?,
        None => access::find(given)?,
    };
    let name = match args.name {
        Some(name) => name,
        None => ContextName::of_api(&context.api)?,
    };
    let contexts = Contexts::of_user().context("contexts lie in the home directory, and HOME is not set")?;
    if let Some(other) = contexts.read(&name)?.filter(|other| other.api != context.api) {
        bail!("the context {name} is of {}; give another --name, or remove that one", other.api);
    }
    access::connect(&context)?.tokens().await?;
    contexts.store(&name, &context)?;
    contexts.choose(&name)?;
    outln!("logged in to {}: the context {name} is in use", context.api);
    Ok(ExitCode::SUCCESS)
}

/// `operator.context`, as the control plane writes it.
fn read(path: &Path) -> anyhow::Result<Context> {
    let file = File::open(path)?;
    if file.metadata()?.mode() & 0o077 != 0 {
        eprintln!(
            "weft: {} is open to others on this machine, and holds a token: remove it now",
            path.display()
        );
    }
    let mut text = String::new();
    file.take(LARGEST).read_to_string(&mut text)?;
    serde_json::from_str(&text).context("is not what a control plane writes as operator.context")
}
