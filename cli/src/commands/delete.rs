//! `weft delete`.

use std::process::ExitCode;

use weft_api::client::Client;

use crate::args::Delete;
use crate::output;

pub async fn run(client: &Client, args: Delete) -> anyhow::Result<ExitCode> {
    let result = client.delete(args.kind.plural(), &args.namespace, &args.name).await?;
    output::print(args.output, &result, &["KIND", "NAMESPACE", "NAME", "RESULT"], || {
        vec![vec![args.kind.to_string(), args.namespace.clone(), args.name.clone(), "deleted".to_owned()]]
    })?;
    Ok(ExitCode::SUCCESS)
}
