//! `weft context`: the control planes that this user has logged in to.

use std::process::ExitCode;

use anyhow::{Context as _, anyhow};
use serde_json::json;

use crate::args::ListArgs;
use crate::contexts::{ContextName, Contexts};
use crate::output::{self, outln};

fn contexts() -> anyhow::Result<Contexts> {
    Contexts::of_user().context("contexts lie in the home directory, and HOME is not set")
}

pub fn list(args: &ListArgs) -> anyhow::Result<ExitCode> {
    let contexts = contexts()?;
    let current = contexts.current()?;
    let mut items = Vec::new();
    for name in contexts.names()? {
        if let Some(context) = contexts.read(&name)? {
            items.push((current.as_ref() == Some(&name), name, context.api));
        }
    }
    let listed: Vec<_> = items
        .iter()
        .map(|(current, name, api)| json!({"name": name.as_str(), "api": api, "current": current}))
        .collect();
    output::print(args.output, &json!({"items": listed}), &["NAME", "API", "IN USE"], || {
        let row = |(current, name, api): &(bool, ContextName, String)| {
            vec![name.to_string(), api.clone(), if *current { "yes".to_owned() } else { String::new() }]
        };
        items.iter().map(row).collect()
    })?;
    Ok(ExitCode::SUCCESS)
}

pub fn use_from_now_on(name: &ContextName) -> anyhow::Result<ExitCode> {
    let contexts = contexts()?;
    let Some(context) = contexts.read(name)? else { return Err(missing(&contexts, name)) };
    contexts.choose(name)?;
    outln!("{name} is in use: {}", context.api);
    Ok(ExitCode::SUCCESS)
}

pub fn remove(name: &ContextName) -> anyhow::Result<ExitCode> {
    let contexts = contexts()?;
    if !contexts.remove(name)? {
        return Err(missing(&contexts, name));
    }
    outln!("{name} is forgotten here; its token holds as before");
    Ok(ExitCode::SUCCESS)
}

/// What to say of a context that is not there.
pub fn missing(contexts: &Contexts, name: &ContextName) -> anyhow::Error {
    let known = match contexts.names() {
        Ok(names) if !names.is_empty() => {
            let names: Vec<&str> = names.iter().map(ContextName::as_str).collect();
            format!("those known are {}", names.join(", "))
        }
        Ok(_) => "none is known: `weft login` makes one".to_owned(),
        Err(error) => return error,
    };
    anyhow!("there is no context {name}; {known}")
}
