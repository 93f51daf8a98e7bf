//! The API, from what a control plane that runs says of itself; its metrics beside their page.

use std::net::Ipv4Addr;

use anyhow::Context as _;
use bytes::Bytes;
use http::Request;
use http_body_util::Full;
use serde_json::Value;
use weft_e2e::harness::{Calls, ControlPlane};
use weft_policies::kinds::Kind;

use super::schema::Definitions;
use super::{keep, metrics, table};

const ADDRESS: Ipv4Addr = Ipv4Addr::new(127, 7, 9, 1);

#[tokio::test]
async fn api_and_metrics_are_those_of_a_control_plane_that_runs() {
    let dir = tempfile::tempdir().expect("a directory");
    let mut plane = ControlPlane::new(dir.path(), ADDRESS, None, Vec::new());
    plane.start().await.expect("it starts");
    let description = description(&plane).await.unwrap_or_else(|error| panic!("{error:#}"));
    keep("docs/reference/api.md", &page(&description));
    let scraped = Calls::direct().get(&format!("{}/metrics", plane.admin())).await.expect("metrics");
    plane.end().await.expect("it ends");
    let page = metrics::page();
    let help = |name: &str| format!("# HELP {name} ");
    let mut families = 0;
    for line in scraped.body.lines().filter_map(|line| line.strip_prefix("# TYPE ")) {
        families += 1;
        let (name, kind) = line.split_once(' ').expect("a type");
        let total = if kind == "counter" { "_total" } else { "" };
        assert!(
            page.contains(&format!("| `{name}{total}` | {kind} |")),
            "docs/reference/metrics.md has no {kind} {name}"
        );
        let told = scraped.body.lines().find_map(|line| line.strip_prefix(&help(name))).expect("help");
        assert!(page.contains(told.trim_end_matches('.')), "docs/reference/metrics.md does not say: {told}");
    }
    assert!(families > 15, "only {families} families of metrics");
}

async fn description(plane: &ControlPlane) -> anyhow::Result<Value> {
    let token = std::fs::read_to_string(plane.token_file())?;
    let request = Request::get(format!("{}/openapi.json", plane.api()))
        .header("authorization", format!("Bearer {}", token.trim()))
        .body(Full::<Bytes>::default())?;
    let answer = Calls::direct().send(request).await?;
    serde_json::from_str(&answer.body).context(answer.body)
}

/// Where a schema is told that is no document of the API.
fn elsewhere(name: &str) -> Option<String> {
    let kind = Kind::ALL.into_iter().find(|kind| kind.name() == name);
    kind.map(|kind| format!("kinds/{}.md", kind.name().to_lowercase()))
        .or_else(|| (name == "Documents").then(|| "kinds.md".to_owned()))
}

const HEAD: &str = "# API

REST over HTTP on port 7400: plain on loopback, TLS anywhere else. Every call carries a token (`Authorization: Bearer TOKEN`),
or the cookie of a browser's session. Errors are problem documents, see [Codes](codes.md); any call may be refused with 400, 401,
403, 429 and 503, and says with what else. `/openapi.json` is the same for programs, and `/docs` for a browser.

The JSON Schema of each kind is at `/v1/schemas/{kind}`, and in
`policies/schema` of the sources: editors complete and check documents with it.

    curl -H \"Authorization: Bearer $(cat weft-data/operator.token)\" http://127.0.0.1:7400/v1/services

## Calls

";

const BETWEEN: &str = "## What is sent and answered

A call without a table of its own answers with what it shows as it is. `{kinds}` is the plural of a [kind](kinds.md).

";

fn page(description: &Value) -> String {
    let schemas = description["components"]["schemas"].as_object().expect("schemas");
    let definitions = Definitions { all: schemas, within: "", elsewhere: &elsewhere };
    let mut text = HEAD.to_owned();
    let mut documents = vec!["Problem"];
    for (path, methods) in description["paths"].as_object().expect("paths") {
        for (method, call) in methods.as_object().expect("methods") {
            text += &format!(
                "### {} {path}\n\n{}. {}\n\n",
                method.to_uppercase(),
                call["summary"].as_str().unwrap_or_default(),
                call["description"].as_str().unwrap_or_default()
            );
            text += &parameters(call);
            if let Some(content) = call["requestBody"]["content"].as_object() {
                text += &format!("Takes {}.\n\n", shown(content, &definitions, &mut documents));
            }
            if let Some(content) = call["responses"]["200"]["content"].as_object() {
                text += &format!("Answers {}.\n\n", shown(content, &definitions, &mut documents));
            }
            text += &refusals(call);
        }
    }
    text += BETWEEN;
    text += &definitions.sections(&documents, false);
    text.trim_end().to_owned() + "\n"
}

fn parameters(call: &Value) -> String {
    let parameters = call["parameters"].as_array().map_or(&[][..], Vec::as_slice);
    let beside = parameters.iter().filter(|parameter| parameter["in"] != "path");
    let word = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let rows: Vec<_> = beside
        .map(|one| {
            let header = if one["in"] == "header" { " (header)" } else { "" };
            let meaning = word(&one["description"]);
            [format!("`{}`{header}", word(&one["name"])), type_of(&one["schema"]), meaning]
        })
        .collect();
    if rows.is_empty() { String::new() } else { table(["parameter", "type", "meaning"], rows) + "\n" }
}

/// What a parameter may be.
fn type_of(schema: &Value) -> String {
    let number = |key: &str| schema[key].as_u64();
    if let Some(words) = schema["enum"].as_array().filter(|words| words.len() < 5) {
        return words
            .iter()
            .filter_map(Value::as_str)
            .map(|word| format!("`{word}`"))
            .collect::<Vec<_>>()
            .join(", ");
    }
    match (number("minimum"), number("maximum")) {
        (Some(least), Some(most)) if most < u64::MAX => format!("{least} to {most}"),
        _ => schema["type"].as_str().unwrap_or_default().to_owned(),
    }
}

/// The statuses that not every call may answer.
fn refusals(call: &Value) -> String {
    let statuses = call["responses"].as_object().expect("responses").keys();
    let own = |status: &&String| {
        status.starts_with(['4', '5']) && !["400", "401", "403", "429", "503"].contains(&status.as_str())
    };
    let own: Vec<&str> = statuses.filter(own).map(String::as_str).collect();
    if own.is_empty() { String::new() } else { format!("May be refused with {}.\n\n", own.join(", ")) }
}

/// Media types with what is in them.
fn shown<'a>(
    content: &'a serde_json::Map<String, Value>,
    definitions: &Definitions<'_>,
    documents: &mut Vec<&'a str>,
) -> String {
    let media = content.iter().map(|(media, content)| {
        let schema = &content["schema"];
        let name = schema["$ref"].as_str().and_then(|path| path.rsplit('/').next());
        documents.extend(name);
        match name {
            None => format!("`{media}`"),
            Some(_) => format!("{} as `{media}`", definitions.type_of(schema)),
        }
    });
    media.collect::<Vec<_>>().join(" or ")
}
