//! `weft import`: documents of another mesh, as documents of ours.

use std::process::ExitCode;

use serde_json::{Value, json};
use weft_api::rest::{Problem, Violation};

use super::apply::read_all;
use crate::args::{ImportArgs, OutputFormat};
use crate::import::{ImportOptions, ImportedDocument, import};
use crate::output::{out, outln};

pub fn run(args: &ImportArgs) -> anyhow::Result<ExitCode> {
    let texts = read_all(&args.files)?;
    let options =
        ImportOptions { namespace: args.namespace.clone(), default_intention: args.default_intention };
    let imported = match import(args.from, &texts, &options) {
        Ok(imported) => imported,
        Err(found) => return unread(found, args.output),
    };
    match args.output {
        OutputFormat::Json => {
            let document = |one: &ImportedDocument| json!({"document": one.value, "of": one.origins});
            let documents: Vec<Value> = imported.documents.iter().map(document).collect();
            let whole = json!({"documents": documents, "notes": imported.notes});
            outln!("{}", serde_json::to_string_pretty(&whole)?);
        }
        OutputFormat::Name => {
            for document in &imported.documents {
                let metadata = &document.value["metadata"];
                let word = |value: &Value| value.as_str().unwrap_or("default").to_owned();
                let kind = word(&document.value["kind"]);
                outln!("{kind} {}/{}", word(&metadata["namespace"]), word(&metadata["name"]));
            }
        }
        OutputFormat::Table | OutputFormat::Wide | OutputFormat::Yaml => {
            out!("{}", imported.yaml()?);
            for note in &imported.notes {
                eprintln!("{}: {note}", note.code.replace('_', " "));
            }
            if imported.documents.is_empty() {
                eprintln!("weft: nothing could be carried");
            }
        }
    }
    Ok(if imported.documents.is_empty() { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

/// Says what keeps the texts from being read.
fn unread(found: Vec<Violation>, format: OutputFormat) -> anyhow::Result<ExitCode> {
    let title = if found.len() == 1 { "1 problem".to_owned() } else { format!("{} problems", found.len()) };
    let mut problem = Problem::new(422, "invalid", &title, "");
    problem.violations = found;
    if format == OutputFormat::Json {
        outln!("{}", serde_json::to_string_pretty(&problem)?);
    } else {
        eprintln!("weft: {problem}");
    }
    Ok(ExitCode::FAILURE)
}
