//! `weft operator`: people and programs with tokens of their own, and what they may do.

use std::process::ExitCode;

use weft_api::rest::{AccessInfo, NewPrincipal};

use super::token::write_secret;
use crate::args::{ListArgs, OperatorCreate, OperatorName, OutputFormat};
use crate::output;
use crate::replicas::ReplicaClients;

pub async fn create(replicas: &ReplicaClients, args: OperatorCreate) -> anyhow::Result<ExitCode> {
    let made = replicas.any(async |client| client.create_principal(&args.name).await).await?;
    show(&made, &args)?;
    if matches!(args.output, OutputFormat::Table | OutputFormat::Wide) {
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
    if !matches!(args.output, OutputFormat::Table | OutputFormat::Wide) {
        return output::print(args.output, made, &[], Vec::new);
    }
    eprintln!("the token of {}; it is shown only now", made.name);
    match &args.out {
        Some(path) => {
            write_secret(path, &made.token)?;
            eprintln!("written to {}", path.display());
        }
        None => println!("{}", made.token),
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
    println!("{} is revoked: its token opens nothing, and its browsers are signed out", args.name);
    Ok(ExitCode::SUCCESS)
}

pub async fn whoami(replicas: &ReplicaClients, args: ListArgs) -> anyhow::Result<ExitCode> {
    let access = replicas.any(async |client| client.access().await).await?;
    if !matches!(args.output, OutputFormat::Table | OutputFormat::Wide) {
        output::print(args.output, &access, &[], Vec::new)?;
    } else if access.is_operator {
        println!("{}: may do everything", access.name);
    } else if access.rules.is_empty() {
        println!("{}: no role is bound to it, so that it may do nothing", access.name);
    } else {
        println!("{} may", access.name);
        print!("{}", output::table(&["VERBS", "KINDS", "NAMESPACES"], &rules(&access)));
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
