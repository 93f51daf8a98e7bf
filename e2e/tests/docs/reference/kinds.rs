//! Kinds, from their JSON Schemas, with an example of those that are shipped.

use serde_json::Value;
use weft_policies::kinds::Kind;
use weft_policies::kinds::kind::Level;
use weft_policies::{parse, schema};

use super::schema::{Definitions, words};
use super::{keep, table};
use crate::page::root;

/// What documents say that this version refuses: each field and value, once.
const REFUSED: &str = include_str!("refused.yaml");

#[test]
fn kinds_are_their_schemas() {
    let mut index = INDEX.to_owned();
    let rows = Kind::ALL.map(|kind| {
        let page = format!("[{kind}](kinds/{}.md)", kind.name().to_lowercase());
        let short = kind.short().iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ");
        [page, format!("`{}`", kind.plural()), short, of_spec(kind, words)]
    });
    index += &table(["kind", "plural", "short", "what it is"], rows);
    index += "\n## Metadata\n\nWhat stands under `metadata` of every kind:\n\n";
    let document = schema(Kind::Mesh);
    index += &definitions(&document).sections(&["Metadata"], true);
    keep("docs/reference/kinds.md", &(index.trim_end().to_owned() + "\n"));
    for kind in Kind::ALL {
        keep(&format!("docs/reference/kinds/{}.md", kind.name().to_lowercase()), &page(kind));
    }
}

const INDEX: &str = "# Kinds

Documents are YAML or JSON, several in a file between lines of `---`. Those of one `weft apply` are one transaction: all of
them are right, or nothing is written. A field that does not exist is refused with its line, and so is one that exists and
that this version does not enforce: nothing is ignored in silence. `weft get KIND` takes the name, the plural or the short
form.

Both proxies are sent what a document becomes, in the same messages of Envoy's; [what Weft does](../features.md) tells, row by
row, what is tried beside which of them.

Policies have a level, which is that of what they target: mesh, namespace, service, port of a service, route, rule of a
route. Where two TrafficPolicies set one field, the more specific level wins, field by field; two on one level that set the
same field are refused as a `conflict`. AuthorizationPolicies are not merged: each Deny refuses, and where there is an Allow,
what no Allow matches is refused.

";

fn of_spec<T>(kind: Kind, tell: impl Fn(&Value) -> T) -> T {
    let document = schema(kind);
    let name = spec_name(&document);
    tell(&document["$defs"][name])
}

fn spec_name(document: &Value) -> &str {
    let path = document["properties"]["spec"]["$ref"].as_str().expect("a reference");
    path.rsplit('/').next().unwrap_or(path)
}

fn elsewhere(name: &str) -> Option<String> {
    (name == "Metadata").then(|| "../kinds.md#metadata".to_owned())
}

fn definitions(document: &Value) -> Definitions<'_> {
    let all = document["$defs"].as_object().expect("definitions");
    Definitions { all, within: "", elsewhere: &|_| None }
}

fn page(kind: Kind) -> String {
    let document = schema(kind);
    let spec = spec_name(&document);
    let versions = kind.api_versions().iter().map(|version| format!("`{version}`"));
    let level = match kind.level() {
        Some(Level::Mesh) => "A policy can target it: level mesh.",
        Some(Level::Service) => "Policies can target it, or one of its ports by `sectionName`.",
        Some(Level::Route) => "Policies can target it, or one of its rules by `sectionName`.",
        Some(Level::Namespace | Level::ServicePort | Level::RouteRule) | None => "No policy targets it.",
    };
    let mut text = format!(
        "# {kind}\n\n{}\n\nAPI versions: {}. In the API: `/v1/namespaces/NAMESPACE/{}/NAME`. {level}\n\n## Example\n\n{}\n\n```yaml\n{}```\n\n",
        of_spec(kind, words),
        versions.collect::<Vec<_>>().join(", "),
        kind.plural(),
        "Of `policies/examples`:",
        example(kind),
    );
    text += "## Fields of spec\n\n";
    let mut definitions = definitions(&document);
    definitions.elsewhere = &elsewhere;
    text += &definitions.sections(&[spec], true);
    let refused = refused(kind);
    if !refused.is_empty() {
        text += "## Not yet\n\nThese are in the schema and are refused, so that nobody relies on them:\n\n";
        text += &table(["where", "what", "instead"], refused);
    }
    text.trim_end().to_owned() + "\n"
}

/// The first shipped document of a kind, with the comment above it.
fn example(kind: Kind) -> String {
    let mut files: Vec<_> = std::fs::read_dir(root().join("policies/examples"))
        .expect("examples")
        .map(|entry| entry.expect("an example").path())
        .collect();
    files.sort();
    let kind_line = format!("\nkind: {kind}\n");
    let found = files.iter().find_map(|file| {
        let text = std::fs::read_to_string(file).expect("an example");
        // Three hyphens alone: a certificate's last line has more.
        let found = text.split("\n---\n").find(|document| document.contains(&kind_line));
        found.map(|document| format!("{}\n", document.trim_end()))
    });
    found.unwrap_or_else(|| panic!("no example of {kind}"))
}

/// What is refused of a kind, as the checks tell it.
fn refused(kind: Kind) -> Vec<[String; 3]> {
    let violations = parse("refused.yaml", REFUSED).expect_err("all of it is refused");
    let wrong: Vec<_> = violations.iter().filter(|one| one.code != "not_supported").collect();
    assert!(wrong.is_empty(), "refused.yaml is wrong in other ways: {wrong:#?}");
    let of_kind = violations.iter().filter(|one| one.object.split(' ').next() == Some(kind.name()));
    let rows = of_kind.map(|one| {
        let place =
            one.path.split(['[', ']']).filter(|part| part.parse::<usize>().is_err()).collect::<String>();
        [
            format!("`{place}`"),
            one.message.replace(" is not supported yet", ""),
            one.hint.clone().unwrap_or_default(),
        ]
    });
    rows.collect()
}

#[test]
fn shipped_schemas_are_those_that_are_served() {
    for kind in Kind::ALL {
        let text = serde_json::to_string_pretty(&schema(kind)).expect("a schema is JSON") + "\n";
        keep(&format!("policies/schema/{kind}.json"), &text);
    }
    let shipped = std::fs::read_dir(root().join("policies/schema")).expect("policies/schema").count();
    assert_eq!(shipped, Kind::ALL.len(), "policies/schema has a file of no kind");
}
