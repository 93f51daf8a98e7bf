//! The command lines, as the programs themselves tell them at 80 columns.

use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;

use regex::Regex;
use weft_e2e::harness::ours;

use super::{keep, table};

/// Programs, and what stands above what they print.
const PROGRAMS: [(&str, &str); 3] = [
    ("weft", "The command line for people: it asks the API, and runs things on this machine."),
    ("weft-proxy", "The sidecar. Also what joins, and keeps an identity fresh, beside an Envoy."),
    ("weft-control-plane", "The control plane."),
];

/// Variables without a flag.
const WITHOUT_FLAG: [(&str, &str); 2] = [
    (
        "WEFT_JOIN",
        "a join token itself, for `weft-proxy` and `weft run`; taken out of the environment of applications",
    ),
    ("WEFT_TOKEN", "the operator's token itself, for `weft`; in place of `--token-file`"),
];

/// A command and what it prints when it is asked for help.
struct Help {
    command: Vec<String>,
    text: String,
}

#[test]
fn command_lines_are_what_the_programs_print() {
    let mut variables = Variables::new();
    for (program, about) in PROGRAMS {
        let mut text = format!(
            "# Command line: {program}\n\n{about} As `{program} COMMAND --help` prints it. Every flag with a variable takes its value \
             from there when it is not written; see [Environment variables](environment.md).\n"
        );
        for help in walk(&[program.to_owned()]) {
            text += &format!("\n## {}\n\n```text\n{}\n```\n", help.command.join(" "), help.text);
            note_variables(&help, &mut variables);
        }
        keep(&format!("docs/reference/{program}.md"), &text);
    }
    keep("docs/reference/environment.md", &environment(&variables));
}

/// The command and all below it.
fn walk(command: &[String]) -> Vec<Help> {
    let text = ask(command);
    let names = commands(&text);
    let mut found = vec![Help { command: command.to_owned(), text }];
    for name in names {
        found.extend(walk(&[command, &[name]].concat()));
    }
    found
}

fn ask(command: &[String]) -> String {
    let program = ours(&command[0]).expect("the program");
    let mut asking = Command::new(program);
    asking.args(&command[1..]).arg("--help").env_clear().env("COLUMNS", "80");
    let output = asking.output().expect("it runs");
    assert!(output.status.success(), "{command:?}: {output:?}");
    let text = String::from_utf8(output.stdout).expect("UTF-8");
    text.lines().map(str::trim_end).collect::<Vec<_>>().join("\n").trim_end().to_owned()
}

fn commands(help: &str) -> Vec<String> {
    let lines =
        help.lines().skip_while(|line| *line != "Commands:").skip(1).take_while(|line| !line.is_empty());
    let name = Regex::new(r"^  ([a-z][a-z-]*)\b").expect("a pattern");
    let names = lines.filter_map(|line| Some(name.captures(line)?[1].to_owned()));
    names.filter(|name| name != "help").collect()
}

/// By name and program: what a variable means may depend on whom it tells.
type Variables = BTreeMap<(String, String), Variable>;

/// What a variable stands for.
#[derive(Default)]
struct Variable {
    flags: BTreeSet<String>,
    commands: BTreeSet<String>,
    meaning: String,
}

fn note_variables(help: &Help, variables: &mut Variables) {
    let entry = Regex::new(r"^ {2,6}(?:-\w, )?(--[a-z0-9-]+)(?: <[^>]*>)?(?:\.\.\.)?").expect("a pattern");
    let variable = Regex::new(r"\s*\[env: (\w+)=?\]").expect("a pattern");
    let values = Regex::new(r"\s*(Possible values: .*|\[default: [^\]]*\]|\[possible values: [^\]]*\])")
        .expect("a pattern");
    let mut entries: Vec<(String, String)> = Vec::new();
    let argument = Regex::new(r"^ {2,6}[<\[]").expect("a pattern");
    for line in help.text.lines() {
        if argument.is_match(line) {
            // No flag, and no part of the one before it.
            entries.push((String::new(), String::new()));
        } else if let Some(found) = entry.captures(line) {
            entries.push((found[1].to_owned(), line[found[0].len()..].to_owned()));
        } else if (line.starts_with("  ") || line.is_empty())
            && let Some((_, text)) = entries.last_mut()
        {
            text.push_str(&format!(" {line}"));
        }
    }
    for (flag, text) in entries {
        let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
        let Some(found) = variable.captures(&text) else { continue };
        let known = variables.entry((found[1].to_owned(), help.command[0].clone())).or_default();
        known.flags.insert(format!("`{flag}`"));
        known.commands.insert(format!("`{}`", help.command.join(" ")));
        if known.meaning.is_empty() {
            known.meaning = values.replace_all(&variable.replace(&text, ""), "").trim().to_owned();
        }
    }
}

fn environment(variables: &Variables) -> String {
    let mut text = "# Environment variables

Every flag of the daemons has one, and those of `weft` that one would not like to write each time. What is written on the
command line counts first, then the environment, then the file that `--config` names (YAML, flags without their dashes).

"
    .to_owned();
    let rows = variables.iter().map(|((name, _), variable)| {
        let join = |set: &BTreeSet<String>| set.iter().cloned().collect::<Vec<_>>().join(", ");
        [format!("`{name}`"), join(&variable.flags), where_taken(variable), variable.meaning.clone()]
    });
    text += &table(["variable", "flag", "taken by", "meaning"], rows);
    text += "\nWithout a flag:\n\n";
    text += &table(
        ["variable", "meaning"],
        WITHOUT_FLAG.map(|(name, what)| [format!("`{name}`"), what.to_owned()]),
    );
    text
}

/// Programs, where all that they do takes it; commands otherwise.
fn where_taken(variable: &Variable) -> String {
    let programs: BTreeSet<&String> = variable.commands.iter().collect();
    let whole = |command: &&String| PROGRAMS.iter().any(|(program, _)| **command == format!("`{program}`"));
    let wholes: Vec<&str> =
        programs.iter().filter(|command| whole(command)).map(|command| command.as_str()).collect();
    let covered = |command: &str| {
        wholes.iter().any(|whole| command.starts_with(&format!("{} ", whole.trim_end_matches('`'))))
    };
    let told = programs.iter().map(|command| command.as_str()).filter(|command| !covered(command));
    told.collect::<Vec<_>>().join(", ")
}
