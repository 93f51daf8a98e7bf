//! What a shell may put behind a half-written command: flags and verbs from the command line's own description, names of
//! objects, proxies, services and principals from the control plane.
//!
//! The shell runs `weft` with `COMPLETE=SHELL` in its environment, once for each press of the key. Whatever goes wrong is
//! silence: an error in the middle of a line that somebody is writing helps nobody.

use std::ffi::{OsStr, OsString};
use std::time::Duration;

use clap::{Command, CommandFactory as _, FromArgMatches as _};
use clap_complete::engine::{ArgValueCompleter, CompletionCandidate};
use clap_complete::env::{CompleteEnv, Shells};
use weft_api::client::ApiClient;
use weft_policies::kinds::Kind;

use crate::access;
use crate::args::{Access, Args};
use crate::contexts::Contexts;
use crate::replicas::ReplicaClients;

/// Set by the shell's script, to the shell's name.
const VARIABLE: &str = "COMPLETE";
/// Whoever presses the key waits no longer.
const PATIENCE: Duration = Duration::from_secs(2);
/// What `weft get` shows beside kinds.
const VIEWS: [&str; 2] = ["edges", "proxies"];

/// A command, one of its arguments, and what that is completed by.
type CompletedArgument = (&'static str, &'static str, fn() -> ArgValueCompleter);

/// What is completed by more than the command line's description.
const COMPLETED: [CompletedArgument; 21] = [
    ("", "context", contexts),
    ("context remove", "name", contexts),
    ("context use", "name", contexts),
    ("delete", "kind", kinds),
    ("delete", "name", objects),
    ("describe", "kind", kinds),
    ("describe", "name", objects),
    ("drain", "id", proxies),
    ("explain", "from", services),
    ("explain", "to", services),
    ("get", "kind", kinds),
    ("get", "name", objects),
    ("history", "kind", kinds),
    ("history", "name", objects),
    ("operator revoke", "name", principals),
    ("operator rotate", "name", principals),
    ("proxy config", "id", proxies),
    ("proxy revoke", "id", proxies),
    ("proxy status", "id", proxies),
    ("tap", "from", services),
    ("tap", "to", services),
];

/// Answers the shell and ends the program, where a shell asks; else nothing happens.
pub fn answer_the_shell() {
    CompleteEnv::with_factory(command).var(VARIABLE).complete();
}

fn command() -> Command {
    COMPLETED.iter().fold(Args::command(), |command, (verbs, argument, completer)| {
        completed(command, &verbs.split_whitespace().collect::<Vec<_>>(), argument, *completer)
    })
}

fn completed(
    command: Command,
    verbs: &[&str],
    argument: &str,
    completer: fn() -> ArgValueCompleter,
) -> Command {
    match verbs {
        [] => command.mut_arg(argument, |argument| argument.add(completer())),
        [verb, below @ ..] => {
            command.mut_subcommand(verb, |command| completed(command, below, argument, completer))
        }
    }
}

/// The script by which a shell asks.
pub fn script(shell: clap_complete::Shell) -> anyhow::Result<String> {
    let shells = Shells::builtins();
    let shell = shells.completer(&shell.to_string()).expect("each shell has a completer");
    let mut script = Vec::new();
    shell.write_registration(VARIABLE, "weft", "weft", "weft", &mut script)?;
    Ok(String::from_utf8(script)?)
}

/// Kinds, and what `weft get` shows beside them.
fn kinds() -> ArgValueCompleter {
    let kinds = Kind::ALL.into_iter().map(|kind| kind.plural().to_owned());
    let all: Vec<String> = kinds.chain(VIEWS.map(str::to_owned)).collect();
    ArgValueCompleter::new(move |current: &OsStr| matching(current, &all))
}

/// Names of objects of the kind that stands before.
fn objects() -> ArgValueCompleter {
    asking(async |replicas, line| {
        let words = line.words();
        if words.iter().any(|word| VIEWS[1] == *word || *word == "proxy") {
            return proxy_ids(&replicas).await;
        }
        let kind: Kind = words.iter().find_map(|word| word.parse().ok())?;
        names_of(&replicas, kind).await
    })
}

/// Names of workloads with a proxy.
fn proxies() -> ArgValueCompleter {
    asking(async |replicas, _| proxy_ids(&replicas).await)
}

fn services() -> ArgValueCompleter {
    asking(async |replicas, _| names_of(&replicas, Kind::Service).await)
}

fn principals() -> ArgValueCompleter {
    asking(async |replicas, _| {
        let list = replicas.any(async |client: &ApiClient| client.principals().await).await.ok()?;
        Some(list.items.into_iter().map(|principal| principal.name).collect())
    })
}

/// Names of contexts of `weft login`.
fn contexts() -> ArgValueCompleter {
    ArgValueCompleter::new(|current: &OsStr| {
        let names = Contexts::of_user().and_then(|contexts| contexts.names().ok()).unwrap_or_default();
        matching(current, &names.iter().map(ToString::to_string).collect::<Vec<_>>())
    })
}

async fn proxy_ids(replicas: &ReplicaClients) -> Option<Vec<String>> {
    Some(replicas.proxies().await.ok()?.items.into_iter().map(|proxy| proxy.id).collect())
}

async fn names_of(replicas: &ReplicaClients, kind: Kind) -> Option<Vec<String>> {
    let list = replicas.any(async |client: &ApiClient| client.list(kind.plural(), None).await).await.ok()?;
    let text = |value: &serde_json::Value| value.as_str().map(str::to_owned);
    let name = |metadata: &serde_json::Value| {
        Some(format!("{}/{}", text(&metadata["namespace"])?, text(&metadata["name"])?))
    };
    list.items.iter().map(|object| name(&object.metadata)).collect()
}

/// The command as far as it is written.
struct CommandLine(Vec<OsString>);

impl CommandLine {
    /// Behind the `--` that the shell's script writes before it.
    fn written() -> Self {
        Self(std::env::args_os().skip_while(|word| word != "--").skip(1).collect())
    }

    /// Where the API is, as far as the flags so far say.
    fn access(&self) -> Option<Access> {
        let matches = Args::command().ignore_errors(true).try_get_matches_from(&self.0).ok()?;
        Access::from_arg_matches(&matches).ok()
    }

    fn words(&self) -> Vec<&str> {
        self.0.iter().filter_map(|word| word.to_str()).collect()
    }
}

/// Candidates that the control plane is asked for.
fn asking<F>(ask: F) -> ArgValueCompleter
where
    F: AsyncFn(ReplicaClients, CommandLine) -> Option<Vec<String>> + Send + Sync + 'static,
{
    ArgValueCompleter::new(move |current: &OsStr| {
        let line = CommandLine::written();
        let found = || {
            let replicas = access::replicas(&line.access()?).ok()?.quietly();
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().ok()?;
            let within = async { tokio::time::timeout(PATIENCE, ask(replicas, line)).await };
            runtime.block_on(within).ok().flatten()
        };
        matching(current, &found().unwrap_or_default())
    })
}

/// Those that begin as what is written does: with their namespace, or without.
fn matching(current: &OsStr, names: &[String]) -> Vec<CompletionCandidate> {
    let Some(current) = current.to_str() else { return Vec::new() };
    let begins = |name: &&String| name.starts_with(current);
    names.iter().filter(begins).map(CompletionCandidate::new).collect()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn what_is_completed_is_there() {
        // It panics at an argument that its command does not have, and makes a command that is none of ours.
        let verbs = |command: Command| {
            let verbs: BTreeSet<String> =
                command.get_subcommands().map(|verb| verb.get_name().to_owned()).collect();
            verbs
        };
        assert_eq!(verbs(command()), verbs(Args::command()));
    }
}
