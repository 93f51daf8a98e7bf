//! `weft diff`: what an apply would change.

use std::process::ExitCode;

use serde_json::Value;
use weft_api::rest::{DiffResult, DocumentDiff, EdgeDiff, EdgeEffect, FieldDiff, Outcome, ResourceDiff};

use super::apply::{gather, refused, relocate_one};
use crate::args::{Diff, OutputFormat};
use crate::output::{self, Palette, out, outln};
use crate::replicas::ReplicaClients;

/// What stands on one line with its path.
const SHORT: usize = 72;

/// The exit code where something would change.
const CHANGES: u8 = 2;
/// Names of one type that are shown, unless all of them are asked for.
const SHOWN: usize = 6;

pub async fn run(replicas: &ReplicaClients, args: Diff) -> anyhow::Result<ExitCode> {
    let (text, sources) = if args.to.is_some() { Default::default() } else { gather(&args.files)? };
    let asked = replicas.any(async |client| match args.to {
        Some(revision) => client.diff_to(revision).await,
        None => client.diff(&text).await,
    });
    let mut result = match asked.await {
        Ok(result) => result,
        Err(error) => return refused(error, &sources, args.output),
    };
    for warning in &mut result.warnings {
        relocate_one(warning, &sources);
    }
    match args.output {
        OutputFormat::Table | OutputFormat::Wide => show(&result, args.output),
        OutputFormat::Json | OutputFormat::Yaml | OutputFormat::Name => {
            output::print(args.output, &result, &[], Vec::new)?;
        }
    }
    Ok(if result.changes { ExitCode::from(CHANGES) } else { ExitCode::SUCCESS })
}

fn show(result: &DiffResult, format: OutputFormat) {
    let palette = Palette::of_stdout();
    for warning in &result.warnings {
        eprintln!("warning: {warning}");
    }
    if let Some(count) = result.warning_count {
        eprintln!("warning: these are the first {} of {count} warnings", result.warnings.len());
    }
    if !result.changes {
        outln!("nothing would change");
        return;
    }
    out!("{}", documents(&result.documents, palette));
    out!("\n{}", resources(result, format));
    for proxy in &result.proxies {
        for warning in &proxy.warnings {
            outln!("  {}: {warning}", proxy.id);
        }
    }
    out!("\n{}", edges(&result.edges, palette));
    if result.unheard > 0 {
        eprintln!(
            "warning: {} control planes were not heard; the edges of their proxies are missing",
            result.unheard
        );
    }
}

/// What proxies are given, by type; each of them with `-o wide`.
fn resources(result: &DiffResult, format: OutputFormat) -> String {
    if result.resources.is_empty() {
        return "proxies have all of it already\n".to_owned();
    }
    let mut text = format!("{} resources, of {} proxies\n", result.resource_count, result.proxies.len());
    let mut kinds: Vec<&str> = result.resources.iter().map(|one| one.kind.as_str()).collect();
    kinds.dedup();
    for kind in kinds {
        let of_kind: Vec<&ResourceDiff> = result.resources.iter().filter(|one| one.kind == kind).collect();
        text.push_str(&format!("  {kind}\n"));
        let most = if format == OutputFormat::Wide { of_kind.len() } else { SHOWN };
        for one in of_kind.iter().take(most) {
            let count = one.proxy_count;
            let plural = if count == 1 { "proxy" } else { "proxies" };
            text.push_str(&format!("    {} {}, {count} {plural}\n", sign(one.outcome), one.name));
        }
        if of_kind.len() > most {
            text.push_str(&format!("      and {} more (-o wide)\n", of_kind.len() - most));
        }
    }
    text
}

fn sign(outcome: Outcome) -> char {
    match outcome {
        Outcome::Created => '+',
        Outcome::Deleted => '-',
        Outcome::Updated => '~',
        Outcome::Unchanged => ' ',
    }
}

/// Whose requests are refused, and why.
fn edges(edges: &[EdgeDiff], palette: Palette) -> String {
    if edges.is_empty() {
        return "no traffic was seen lately: whose requests it would refuse is not known\n".to_owned();
    }
    let mut text = String::new();
    for edge in edges.iter().filter(|edge| edge.effect != EdgeEffect::Unaffected) {
        let line = format!("{} -> {}:{}: {}", edge.source, edge.destination, edge.port, edge.effect);
        let line = match edge.effect {
            EdgeEffect::Refused => palette.removed(&line),
            EdgeEffect::MayBeRefused => palette.changed(&line),
            EdgeEffect::Eased => palette.added(&line),
            EdgeEffect::Unaffected => line,
        };
        text.push_str(&format!("{line}\n"));
        for reason in &edge.reasons {
            text.push_str(&format!("    {}\n", reason.message));
        }
    }
    let unaffected = edges.iter().filter(|edge| edge.effect == EdgeEffect::Unaffected).count();
    text + &format!("{unaffected} of {} edges unaffected\n", edges.len())
}

/// Each document with a sign before it, and below it the fields that differ.
pub fn documents(documents: &[DocumentDiff], palette: Palette) -> String {
    let mut text = String::new();
    for document in documents {
        let name = format!("{} {}/{}", document.kind, document.namespace, document.name);
        let line = format!("{} {name}", sign(document.outcome));
        let line = match document.outcome {
            Outcome::Created => palette.added(&line),
            Outcome::Deleted => palette.removed(&line),
            Outcome::Updated => palette.changed(&line),
            Outcome::Unchanged => line,
        };
        text.push_str(&format!("{line}\n"));
        for field in &document.fields {
            text.push_str(&self::field(field, palette));
        }
    }
    text
}

fn field(field: &FieldDiff, palette: Palette) -> String {
    let path = &field.path;
    match (&field.before, &field.after) {
        (Some(before), Some(after)) => {
            let line = format!("{path}: {before} -> {after}");
            if line.chars().count() <= SHORT {
                return format!("    {}\n", palette.changed(&line));
            }
            removed(path, before, palette) + &added(path, after, palette)
        }
        (Some(before), None) => removed(path, before, palette),
        (None, Some(after)) => added(path, after, palette),
        (None, None) => String::new(),
    }
}

fn removed(path: &str, value: &Value, palette: Palette) -> String {
    format!("    {}\n", palette.removed(&format!("- {path}: {value}")))
}

fn added(path: &str, value: &Value, palette: Palette) -> String {
    format!("    {}\n", palette.added(&format!("+ {path}: {value}")))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn edges_are_told_with_their_reasons_and_the_rest_is_counted() {
        let edge = |source: &str, effect, reasons: &[&str]| EdgeDiff {
            source: source.to_owned(),
            destination: "shop/cart".to_owned(),
            port: "http".to_owned(),
            effect,
            reasons: reasons
                .iter()
                .map(|message| weft_api::rest::EdgeReason {
                    message: (*message).to_owned(),
                    ..weft_api::rest::EdgeReason::default()
                })
                .collect(),
        };
        let told = [
            edge("shop/web", EdgeEffect::Refused, &["AuthorizationPolicy shop/a rule r denies it"]),
            edge("shop/load", EdgeEffect::Unaffected, &[]),
        ];
        assert_eq!(
            edges(&told, Palette::Plain),
            "shop/web -> shop/cart:http: refused\n    AuthorizationPolicy shop/a rule r denies it\n1 of 2 edges unaffected\n"
        );
    }

    #[test]
    fn fields_stand_below_their_document() {
        let field = |path: &str, before: Option<Value>, after: Option<Value>| FieldDiff {
            path: path.to_owned(),
            before,
            after,
        };
        let document = DocumentDiff {
            kind: "HTTPRoute".to_owned(),
            namespace: "shop".to_owned(),
            name: "cart".to_owned(),
            outcome: Outcome::Updated,
            before: None,
            after: None,
            fields: vec![
                field("spec.weight", Some(json!(10)), Some(json!(20))),
                field("spec.gone", Some(json!("x")), None),
            ],
        };
        assert_eq!(
            documents(std::slice::from_ref(&document), Palette::Plain),
            "~ HTTPRoute shop/cart\n    spec.weight: 10 -> 20\n    - spec.gone: \"x\"\n"
        );
        let coloured = documents(&[document], Palette::Coloured);
        assert!(coloured.contains("\u{1b}[31m- spec.gone"), "{coloured:?}");
    }
}
