//! `weft delete`.

use std::process::ExitCode;

use crate::args::Delete;
use crate::output;
use crate::replicas::ReplicaClients;

pub async fn run(replicas: &ReplicaClients, args: Delete) -> anyhow::Result<ExitCode> {
    let (kind, namespace, name) = (args.kind.plural(), &args.namespace, &args.name);
    let result = replicas.any(async |client| client.delete(kind, namespace, name).await).await?;
    output::print(args.output, &result, &["KIND", "NAMESPACE", "NAME", "RESULT"], || {
        vec![vec![args.kind.to_string(), args.namespace.clone(), args.name.clone(), "deleted".to_owned()]]
    })?;
    Ok(ExitCode::SUCCESS)
}
