//! `weft rollback`: the policies as they were.

use std::process::ExitCode;

use weft_api::client::RollbackOptions;

use super::apply;
use crate::args::{ChangeFlags, DeliveryFlags, Rollback};
use crate::output::outln;
use crate::replicas::ReplicaClients;

pub async fn run(replicas: &ReplicaClients, args: Rollback) -> anyhow::Result<ExitCode> {
    let ChangeFlags { dry_run, message, delivery: DeliveryFlags { wait, output } } = args.change;
    let options = RollbackOptions { dry_run, wait, message, if_revision: None };
    let result = replicas.any(async |client| client.rollback(args.to, &options).await).await?;
    if result.documents.is_empty() && output.is_table() {
        outln!("nothing differs from revision {}", args.to);
        return Ok(ExitCode::SUCCESS);
    }
    apply::show(&result, output)
}
