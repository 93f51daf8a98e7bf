//! Commands that no test runs are written as the programs take them: every flag and every command below a program exists.

use crate::page::{Content, Note, Page, root};
use crate::{ELSEWHERE, pages};

const PROGRAMS: [&str; 3] = ["weft", "weft-proxy", "weft-control-plane"];
/// Where the arguments of a program end.
const ENDS: [&str; 8] = ["|", "||", "&&", "&", ";", "--", "#", "…"];

#[test]
fn commands_that_are_not_run_are_written_as_programs_take_them() {
    let mut found = Vec::new();
    let mut seen = 0;
    for path in pages() {
        let elsewhere = ELSEWHERE.iter().any(|(page, _)| *page == path);
        for (line, command) in not_run(&path, elsewhere) {
            seen += 1;
            found.extend(flaws(&command).into_iter().map(|flaw| format!("{path}:{line}: {command}: {flaw}")));
        }
    }
    assert!(seen > 20, "only {seen} commands are not run");
    assert!(found.is_empty(), "{}", found.join("\n"));
}

fn not_run(path: &str, elsewhere: bool) -> Vec<(usize, String)> {
    if elsewhere {
        return shown(&std::fs::read_to_string(root().join(path)).expect("a page"));
    }
    let page = Page::read(path).unwrap_or_else(|error| panic!("{error:#}"));
    let blocks = page.blocks().filter(|block| matches!(block.note, Some(Note::NotRun(_))));
    let steps = blocks.flat_map(|block| match &block.content {
        Content::Commands(steps) => steps.iter().collect(),
        Content::Yaml(_) | Content::Text => Vec::new(),
    });
    steps.map(|step| (step.at.line, step.command.replace("\\\n", " "))).collect()
}

/// Lines with one of our programs at their beginning, in blocks that are indented or fenced.
fn shown(text: &str) -> Vec<(usize, String)> {
    let (mut is_fenced, mut found) = (false, Vec::new());
    let joined = text.replace("\\\n", " ");
    for (index, line) in joined.lines().enumerate() {
        is_fenced ^= line.starts_with("```");
        let command = if is_fenced { Some(line) } else { line.strip_prefix("    ") };
        let command = command.map(|command| command.strip_prefix("$ ").unwrap_or(command).trim());
        found
            .extend(command.filter(|command| begins(command)).map(|command| (index + 1, command.to_owned())));
    }
    found
}

/// What a program prints begins with its name too, and a colon.
fn begins(command: &str) -> bool {
    PROGRAMS.contains(&command.split(' ').next().unwrap_or_default())
}

fn flaws(command: &str) -> Vec<String> {
    let words: Vec<&str> = command.split_whitespace().collect();
    let mut found = Vec::new();
    for (at, word) in words.iter().enumerate() {
        let Some(program) = PROGRAMS.iter().find(|program| *program == word) else { continue };
        let reference =
            std::fs::read_to_string(root().join(format!("docs/reference/{program}.md"))).unwrap_or_default();
        let arguments =
            words[at + 1..].iter().take_while(|word| !ENDS.contains(*word) && !word.ends_with(';'));
        let mut name = (*program).to_owned();
        let mut is_naming = true;
        for argument in arguments {
            if let Some(flag) = argument.strip_prefix("--") {
                let flag = format!("--{}", flag.split('=').next().unwrap_or_default());
                let known = reference
                    .split(|c: char| !(c.is_ascii_alphanumeric() || c == '-'))
                    .any(|word| word == flag);
                if !known {
                    found.push(format!("{program} has no {flag}"));
                }
                is_naming = false;
            } else if is_naming && argument.chars().all(|c| c.is_ascii_lowercase() || c == '-') {
                let deeper = format!("{name} {argument}");
                if reference.contains(&format!("\n## {deeper}\n")) {
                    name = deeper;
                } else if name == *program {
                    found.push(format!("{program} has no command {argument}"));
                    is_naming = false;
                } else {
                    is_naming = false;
                }
            }
        }
    }
    found
}

#[test]
fn what_no_program_takes_is_found() {
    assert!(flaws("weft get edges").is_empty());
    assert!(flaws("weft token create --service a/b --out x && ls --color").is_empty());
    assert!(flaws("weft run --service a/b -- ./app --anything").is_empty());
    assert_eq!(flaws("weft gett edges"), ["weft has no command gett"]);
    assert_eq!(flaws("(sleep 1; weft-proxy run --aport http=1)"), ["weft-proxy has no --aport"]);
}
