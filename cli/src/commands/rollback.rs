//! `weft rollback`: the policies as they were.

use std::process::ExitCode;

use weft_api::client::RollbackOptions;

use super::apply;
use crate::args::Rollback;
use crate::output::outln;
use crate::replicas::ReplicaClients;

pub async fn run(replicas: &ReplicaClients, args: Rollback) -> anyhow::Result<ExitCode> {
    let options =
        RollbackOptions { dry_run: args.dry_run, wait: args.wait, message: args.message, if_revision: None };
    let result = replicas.rollback(args.to, &options).await?;
    if result.documents.is_empty() && args.output.is_table() {
        outln!("nothing differs from revision {}", args.to);
        return Ok(ExitCode::SUCCESS);
    }
    apply::show(&result, args.output)
}
