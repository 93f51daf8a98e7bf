//! `weft operator`: people and programs with tokens of their own, and what they may do.

use std::process::ExitCode;

use weft_api::rest::{AccessInfo, NewPrincipal};

use super::token::write_secret;
use crate::args::{ListArgs, OperatorCreate, OperatorName};
use crate::output::{self, out, outln};
use crate::replicas::ReplicaClients;

pub async fn create(replicas: &ReplicaClients, args: OperatorCreate) -> anyhow::Result<ExitCode> {
    let made = replicas.any(async |client| client.create_principal(&args.name).await).await?;
    show(&made, &args)?;
    if args.output.is_table() {
        eprintln!(
            "by itself it may do nothing: bind a Role to it (a RoleBinding with subjects: [{{principal: {}}}])",
            made.name
        );
    }
    Ok(ExitCode::SUCCESS)
}

pub async fn rotate(replicas: &ReplicaClients, args: OperatorCreate) -> anyhow::Result<ExitCode> {
    let made = replicas.any(async |client| client.rotate_principal(&args.name).await).await?;
    show(&made, &args)?;
    Ok(ExitCode::SUCCESS)
}

/// The token alone on standard output, so that it can be captured.
fn show(made: &NewPrincipal, args: &OperatorCreate) -> anyhow::Result<()> {
    if !args.output.is_table() {
        return output::print(args.output, made, &[], Vec::new);
    }
    eprintln!("the token of {}; it is shown only now", made.name);
    match &args.out {
        Some(path) => {
            write_secret(path, &made.token)?;
            eprintln!("written to {}", path.display());
        }
        None => outln!("{}", made.token),
    }
    Ok(())
}

pub async fn list(replicas: &ReplicaClients, args: ListArgs) -> anyhow::Result<ExitCode> {
    let list = replicas.any(async |client| client.principals().await).await?;
    output::print(args.output, &list, &["NAME", "ROLES", "TOKEN SINCE"], || {
        let row = |info: &weft_api::rest::PrincipalInfo| {
            let roles = if info.roles.is_empty() { "-".to_owned() } else { info.roles.join(",") };
            vec![info.name.clone(), roles, output::since(info.token_at)]
        };
        list.items.iter().map(row).collect()
    })?;
    Ok(ExitCode::SUCCESS)
}

pub async fn revoke(replicas: &ReplicaClients, args: OperatorName) -> anyhow::Result<ExitCode> {
    replicas.any(async |client| client.revoke_principal(&args.name).await).await?;
    outln!("{} is revoked: its token opens nothing, and its browsers are signed out", args.name);
    Ok(ExitCode::SUCCESS)
}

pub async fn whoami(replicas: &ReplicaClients, args: ListArgs) -> anyhow::Result<ExitCode> {
    let access = replicas.any(async |client| client.access().await).await?;
    if !args.output.is_table() {
        output::print(args.output, &access, &[], Vec::new)?;
    } else if access.is_operator {
        outln!("{}: may do everything", access.name);
    } else if access.rules.is_empty() {
        outln!("{}: no role is bound to it, so that it may do nothing", access.name);
    } else {
        outln!("{} may", access.name);
        out!("{}", output::table(&["VERBS", "KINDS", "NAMESPACES"], &rules(&access)));
    }
    Ok(ExitCode::SUCCESS)
}

fn rules(access: &AccessInfo) -> Vec<Vec<String>> {
    let words = |value: &serde_json::Value| {
        let words = value.as_array().into_iter().flatten().filter_map(|word| word.as_str());
        words.collect::<Vec<_>>().join(",")
    };
    let row =
        |rule: &serde_json::Value| ["verbs", "kinds", "namespaces"].map(|field| words(&rule[field])).to_vec();
    access.rules.iter().map(row).collect()
}
