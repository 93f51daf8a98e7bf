//! Command lines, the same way in every binary: a setting is taken from the command line, else from the environment,
//! else from the YAML file given with `--config`, else from its default.
//!
//! The file is read by adding its entries as flags behind the given ones, so a wrong value is reported the same way
//! wherever it stands. Wrong usage exits 64 and names what is wrong.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use clap::parser::ValueSource;
use clap::{ArgMatches, Command, CommandFactory, FromArgMatches};
use serde_yaml::Value;

mod log_format;
mod token_source;

pub use log_format::LogFormat;
pub use token_source::{JOIN_VARIABLE, TokenSource};

/// Exit status for wrong usage, as in sysexits.h.
pub const EX_USAGE: u8 = 64;

/// A command line that cannot be carried out.
#[derive(Debug, thiserror::Error)]
pub enum UsageError {
    /// Clap's own message; also `--help` and `--version`.
    #[error("{0}")]
    Flags(#[from] clap::Error),
    /// The file named by `--config`.
    #[error("error: --config {path}: {reason}")]
    File {
        /// The path as it was given.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// A flag whose value cannot be used.
    #[error("error: {flag}: {reason}")]
    Flag {
        /// The flag's name with its dashes, for instance `--api-listen`.
        flag: &'static str,
        /// What is wrong, and what to do.
        reason: String,
    },
}

impl UsageError {
    /// The status to exit with: 0 for `--help` and `--version`, else 64.
    #[must_use]
    pub fn exit_status(&self) -> u8 {
        match self {
            Self::Flags(error) if !error.use_stderr() => 0,
            Self::Flags(_) | Self::File { .. } | Self::Flag { .. } => EX_USAGE,
        }
    }

    /// Prints the message where it belongs.
    pub fn print(&self) {
        match self {
            Self::Flags(error) => drop(error.print()),
            Self::File { .. } | Self::Flag { .. } => eprintln!("{self}"),
        }
    }
}

/// Reads a command line, with the file that its `--config` names.
///
/// # Errors
/// When a flag, its environment variable or the file is wrong; the message names it.
pub fn try_read<A, I, T>(given: I) -> Result<A, UsageError>
where
    A: CommandFactory + FromArgMatches,
    I: IntoIterator<Item = T>,
    T: Into<OsString>,
{
    let given: Vec<OsString> = given.into_iter().map(Into::into).collect();
    let matches = A::command().try_get_matches_from(&given)?;
    let Some(path) = matches.get_one::<PathBuf>("config").cloned() else {
        return Ok(A::from_arg_matches(&matches)?);
    };
    let mut all = given;
    // What stands behind `--` is no flag, and would not become one.
    let behind = all.iter().position(|word| word == "--").unwrap_or(all.len());
    all.splice(behind..behind, flags_of_file(&A::command(), &path, &matches)?);
    let matches = A::command().try_get_matches_from(all).map_err(|error| UsageError::File {
        path,
        reason: error.to_string().trim_start_matches("error: ").trim_end().to_owned(),
    })?;
    Ok(A::from_arg_matches(&matches)?)
}

/// The entries of the file as flags, without those that the command line or the environment gives.
fn flags_of_file(command: &Command, path: &Path, given: &ArgMatches) -> Result<Vec<OsString>, UsageError> {
    let wrong = |reason: String| UsageError::File { path: path.to_owned(), reason };
    let text = std::fs::read_to_string(path).map_err(|error| wrong(error.to_string()))?;
    let document: Value = serde_yaml::from_str(&text).map_err(|error| wrong(error.to_string()))?;
    let entries = match document {
        Value::Null => return Ok(Vec::new()),
        Value::Mapping(entries) => entries,
        _ => return Err(wrong("write it as a mapping of flags to values".to_owned())),
    };
    let mut name = command.get_name().to_owned();
    let (mut innermost, mut given) = (command, given);
    while let Some((sub_name, sub_given)) = given.subcommand() {
        let Some(sub) = innermost.find_subcommand(sub_name) else { break };
        (innermost, given) = (sub, sub_given);
        name = format!("{name} {sub_name}");
    }
    let mut flags = Vec::new();
    for (key, value) in entries {
        let key = key.as_str().unwrap_or_default().to_owned();
        let named = |arg: &&clap::Arg| arg.get_long() == Some(key.as_str());
        let arg = innermost.get_arguments().chain(command.get_arguments()).find(named);
        let Some(arg) = arg.filter(|arg| arg.get_id() != "config") else {
            return Err(wrong(format!("{key:?} is not a flag of `{name}`")));
        };
        let id = arg.get_id().as_str();
        let source = given.try_contains_id(id).ok().and_then(|_| given.value_source(id));
        if source.is_none_or(|source| source == ValueSource::DefaultValue) {
            append(&mut flags, &key, arg, &value).map_err(|reason| wrong(format!("{key}: {reason}")))?;
        }
    }
    Ok(flags)
}

fn append(flags: &mut Vec<OsString>, key: &str, arg: &clap::Arg, value: &Value) -> Result<(), String> {
    if !arg.get_action().takes_values() {
        return match value {
            Value::Bool(true) => {
                flags.push(format!("--{key}").into());
                Ok(())
            }
            Value::Bool(false) => Ok(()),
            _ => Err("write true or false".to_owned()),
        };
    }
    match value {
        Value::String(_) | Value::Number(_) | Value::Bool(_) => {
            flags.push(format!("--{key}={}", scalar(value).unwrap_or_default()).into());
        }
        Value::Sequence(items) => {
            for item in items {
                append(flags, key, arg, item)?;
            }
        }
        Value::Mapping(entries) => {
            for (name, value) in entries {
                let (Some(name), Some(value)) = (name.as_str(), scalar(value)) else {
                    return Err("write it as NAME: VALUE".to_owned());
                };
                flags.push(format!("--{key}={name}={value}").into());
            }
        }
        Value::Null | Value::Tagged(_) => return Err("has no value".to_owned()),
    }
    Ok(())
}

fn scalar(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        Value::Bool(flag) => Some(flag.to_string()),
        _ => None,
    }
}
