//! `weft apply`: files, directories or standard input, as one transaction.

use std::collections::BTreeSet;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context as _, bail};
use weft_api::client::{ApplyOptions, ClientError};
use weft_api::rest::{ApplyResult, CHANGED_MEANWHILE, Problem, Violation, WaitResult};

use crate::args::{Apply, ChangeFlags, DeliveryFlags, OutputFormat};
use crate::output::{self, out, outln};
use crate::replicas::ReplicaClients;

/// One file and where its first line stands in what is sent.
pub struct InputFile {
    name: String,
    first_line: usize,
    first_document: usize,
}

pub async fn run(replicas: &ReplicaClients, args: Apply) -> anyhow::Result<ExitCode> {
    let (text, sources) = gather(&args.files)?;
    let ChangeFlags { dry_run, message, delivery: DeliveryFlags { wait, output } } = args.change;
    let options = ApplyOptions {
        dry_run,
        wait,
        source: None,
        if_revision: args.if_new.then_some(0),
        message,
        prune: args.selector,
    };
    let mut result = match replicas.any(async |client| client.apply(&text, &options).await).await {
        Ok(result) => result,
        Err(ClientError::Refused(problem)) if args.if_new && problem.code == CHANGED_MEANWHILE => {
            if output.is_table() {
                outln!("this mesh is not new: its policies stay as they are");
            } else {
                output::print(output, &problem, &[], Vec::new)?;
            }
            return Ok(ExitCode::SUCCESS);
        }
        Err(error) => return refused(error, &sources, output),
    };
    for warning in &mut result.warnings {
        relocate_one(warning, &sources);
    }
    show(&result, output)
}

/// Shows why documents were refused, by the places in the files that they came from.
pub fn refused(error: ClientError, sources: &[InputFile], format: OutputFormat) -> anyhow::Result<ExitCode> {
    let ClientError::Refused(problem) = error else { return Err(error.into()) };
    let problem = relocate(*problem, sources);
    if format == OutputFormat::Json {
        outln!("{}", serde_json::to_string_pretty(&problem)?);
    } else {
        eprintln!("weft: {problem}");
    }
    Ok(ExitCode::FAILURE)
}

/// Shows what became of each document, and who has it; a failure where a proxy has not.
pub fn show(result: &ApplyResult, format: OutputFormat) -> anyhow::Result<ExitCode> {
    output::print(format, result, &["KIND", "NAMESPACE", "NAME", "RESULT"], || rows(result))?;
    if format.is_table() {
        epilogue(result);
    }
    let missing = result.wait.as_ref().is_some_and(|wait| !wait.is_complete());
    Ok(if missing { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

fn rows(result: &ApplyResult) -> Vec<Vec<String>> {
    let row = |d: &weft_api::rest::AppliedDocument| {
        vec![d.kind.clone(), d.namespace.clone(), d.name.clone(), d.outcome.to_string()]
    };
    result.documents.iter().map(row).collect()
}

fn epilogue(result: &ApplyResult) {
    for warning in &result.warnings {
        eprintln!("warning: {warning}");
    }
    if let Some(count) = result.warning_count {
        eprintln!("{} of {count} warnings are shown", result.warnings.len());
    }
    if result.dry_run {
        outln!("dry run: nothing was written");
    } else if result.revision > 0 {
        outln!("revision {}", result.revision);
    }
    if let Some(wait) = &result.wait {
        out!("{}", delivered(wait));
    }
}

/// Which proxies have a change.
pub fn delivered(wait: &WaitResult) -> String {
    let mut text = format!("{} of {} proxies have it\n", wait.acked, wait.targeted);
    for laggard in &wait.laggards {
        let words = laggard.error.as_deref().unwrap_or("no answer in time");
        text.push_str(&format!("  {}: {words}\n", laggard.proxy));
    }
    if wait.unheard > 0 {
        let count = wait.unheard;
        text.push_str(&format!(
            "{count} control planes did not say what their proxies have; those are not counted\n"
        ));
    }
    text
}

/// Joins all files into one stream of documents, and remembers where each begins.
pub fn gather(files: &[String]) -> anyhow::Result<(String, Vec<InputFile>)> {
    let mut text = String::new();
    let mut sources = Vec::new();
    let mut documents = 0;
    for (name, content) in read_all(files)? {
        if !text.is_empty() {
            text.push_str("---\n");
        }
        let first_line = text.lines().count();
        sources.push(InputFile { name, first_line, first_document: documents });
        documents += 1 + content.lines().filter(|line| line.trim_end() == "---").count();
        text.push_str(&content);
        if !text.ends_with('\n') {
            text.push('\n');
        }
    }
    Ok((text, sources))
}

/// The name and the text of each file, of those below directories too.
pub fn read_all(files: &[String]) -> anyhow::Result<Vec<(String, String)>> {
    let mut contents = Vec::new();
    for file in files {
        if file == "-" {
            let mut text = String::new();
            std::io::stdin().read_to_string(&mut text).context("standard input")?;
            contents.push(("stdin".to_owned(), text));
            continue;
        }
        let paths = yaml_below(Path::new(file))?;
        for path in paths {
            let text = std::fs::read_to_string(&path).with_context(|| path.display().to_string())?;
            contents.push((path.display().to_string(), text));
        }
    }
    Ok(contents)
}

/// The file itself, or all YAML and JSON files below a directory, in order of their names.
fn yaml_below(path: &Path) -> anyhow::Result<BTreeSet<PathBuf>> {
    let metadata = std::fs::metadata(path).with_context(|| path.display().to_string())?;
    if !metadata.is_dir() {
        return Ok([path.to_owned()].into());
    }
    let mut found = BTreeSet::new();
    let mut folders = vec![path.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).with_context(|| folder.display().to_string())? {
            let path = entry?.path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|e| e == "yaml" || e == "yml" || e == "json") {
                found.insert(path);
            }
        }
    }
    if found.is_empty() {
        bail!("{}: no .yaml, .yml or .json file in this directory", path.display());
    }
    Ok(found)
}

/// Turns positions in what was sent into positions in the files.
fn relocate(mut problem: Problem, sources: &[InputFile]) -> Problem {
    for violation in &mut problem.violations {
        relocate_one(violation, sources);
    }
    problem
}

pub fn relocate_one(violation: &mut Violation, sources: &[InputFile]) {
    // About an object that is none of these files'.
    if violation.source.is_empty() {
        return;
    }
    let at = |source: &&InputFile| match violation.line {
        0 => source.first_document <= violation.document,
        line => source.first_line < line,
    };
    if let Some(source) = sources.iter().rev().find(at) {
        violation.source.clone_from(&source.name);
        violation.line = violation.line.saturating_sub(source.first_line);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn violations_point_into_the_file_they_come_from() {
        let folder = tempfile::tempdir().unwrap();
        let (a, b) = (folder.path().join("a.yaml"), folder.path().join("b.yaml"));
        std::fs::write(&a, "kind: A\n---\nkind: B\n").unwrap();
        std::fs::write(&b, "kind: C\nbad: x\n").unwrap();
        let (text, sources) = gather(&[folder.path().display().to_string()]).unwrap();
        let line = text.lines().position(|line| line == "bad: x").unwrap() + 1;
        let source = "request".to_owned();
        let violation = Violation { line, source, ..Violation::default() };
        let problem = Problem { violations: vec![violation], ..Problem::default() };
        let moved = &relocate(problem, &sources).violations[0];
        assert_eq!((moved.source.as_str(), moved.line), (b.to_str().unwrap(), 2));
    }

    #[test]
    fn missing_file_is_named() {
        assert!(
            gather(&["/nowhere/x.yaml".to_owned()]).err().unwrap().to_string().contains("/nowhere/x.yaml")
        );
    }
}
