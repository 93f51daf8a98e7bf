//! `weft delete`.

use std::io::{IsTerminal as _, Write as _};
use std::process::ExitCode;

use weft_api::client::DeleteOptions;

use super::apply;
use super::name::full_name;
use crate::args::{ChangeFlags, Delete, DeliveryFlags};
use crate::output::outln;
use crate::replicas::ReplicaClients;

pub async fn run(replicas: &ReplicaClients, args: Delete) -> anyhow::Result<ExitCode> {
    let (namespace, name) = full_name(&args.name, &args.namespace);
    let kind = args.kind.plural();
    let ChangeFlags { dry_run, message, delivery: DeliveryFlags { wait, output } } = args.change;
    if !dry_run && !args.yes && output.is_table() && std::io::stdin().is_terminal() {
        let tried = DeleteOptions { dry_run: true, ..DeleteOptions::default() };
        let would =
            replicas.any(async |client| client.delete_with(kind, namespace, name, &tried).await).await?;
        if !would.warnings.is_empty() {
            for warning in &would.warnings {
                eprintln!("warning: {warning}");
            }
            if !is_confirmed(&format!("delete {} {namespace}/{name} all the same?", args.kind))? {
                outln!("nothing was deleted");
                return Ok(ExitCode::FAILURE);
            }
        }
    }
    let options = DeleteOptions { dry_run, wait, message };
    let result =
        replicas.any(async |client| client.delete_with(kind, namespace, name, &options).await).await?;
    apply::show(&result, output)
}

fn is_confirmed(question: &str) -> anyhow::Result<bool> {
    eprint!("{question} [y/N] ");
    std::io::stderr().flush()?;
    let mut answer = String::new();
    std::io::stdin().read_line(&mut answer)?;
    Ok(matches!(answer.trim(), "y" | "Y" | "yes"))
}
