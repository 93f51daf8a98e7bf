//! Metrics of the control plane, from where they are described, checked against one that runs; statistics of weft-proxy
//! from the groups that it registers.

use regex::Regex;

use super::sources::{read, variants, written};
use super::{keep, table};

const METRICS: &str = "control-plane/src/metrics.rs";
const LISTENERS: &str = "control-plane/src/metrics/listeners.rs";
const EDGES: &str = "control-plane/src/edges/totals.rs";
const AUTHORITY: &str = "control-plane/src/ca/metrics.rs";
const EVENTS: &str = "control-plane/src/metrics/log_events.rs";
const GROUPS: &str = "dataplane/src/stats/groups.rs";

/// One family of metrics.
struct Metric {
    name: String,
    kind: String,
    labels: Vec<String>,
    meaning: String,
}

/// Families of registries: `registry.register("name", "help", inner.field.clone())`, where the field's type says the rest.
fn registered(path: &str) -> Vec<Metric> {
    let text = read(path);
    let register = Regex::new(
        r#"registry\.register\(\s*"(\w+)",\s*"([^"]*)",\s*(?:inner|self)\.(\w+)\.clone\(\),?\s*\)"#,
    );
    let found: Vec<Metric> = register
        .expect("a pattern")
        .captures_iter(&text)
        .map(|one| {
            let field = Regex::new(&format!(r"(?m)^    (?:pub )?{}: (?:Family<(\w+), )?(\w+)", &one[3]))
                .expect("a pattern");
            let declared = field.captures(&text).unwrap_or_else(|| panic!("{path} declares no {}", &one[3]));
            let kind = declared[2].to_lowercase();
            let labels = declared.get(1).map(|label| labels(&text, label.as_str())).unwrap_or_default();
            Metric { name: one[1].to_owned(), kind, labels, meaning: one[2].to_owned() }
        })
        .collect();
    assert_eq!(
        found.len(),
        text.matches("registry.register(").count(),
        "{path} registers what cannot be read here"
    );
    found
}

fn labels(text: &str, label: &str) -> Vec<String> {
    let body = text.split(&format!("struct {label} {{")).nth(1).and_then(|rest| rest.split('}').next());
    let field = Regex::new(r"(?m)^    (?:r#)?(\w+):").expect("a pattern");
    let body = body.unwrap_or_else(|| panic!("no labels {label}"));
    field.captures_iter(body).map(|one| one[1].to_owned()).collect()
}

/// Families of the collector of edges.
fn of_edges() -> Vec<Metric> {
    let text = read(EDGES);
    let text = text.split("#[cfg(test)]").next().expect("code");
    let row = Regex::new(r#"\(\s*"((?:edge|route|version)_\w+)",\s*"([^"]*)",\s*EdgeStatistic::"#)
        .expect("a pattern");
    let latency = Regex::new(r#"latencies\(&mut encoder, "(\w+)", "([^"]*)""#).expect("a pattern");
    let help = Regex::new(
        r#"let help = "([^"]*)";\s*let mut \w+ =\s*encoder\.encode_descriptor\("(\w+)", help, None, MetricType::(\w+)\)"#,
    )
    .expect("a pattern");
    let gauge = Regex::new(r#"gauge\(&mut encoder, "(\w+)", "([^"]*)""#).expect("a pattern");
    let metric = |name: &str, kind: &str, meaning: &str| {
        let labels = match name {
            "edge_history_bytes" => Vec::new(),
            name if name.starts_with("route_") => labels(text, "RuleLabels"),
            name if name.starts_with("version_") => labels(text, "VersionLabels"),
            _ => labels(text, "EdgeLabels"),
        };
        Metric { name: name.to_owned(), kind: kind.to_owned(), labels, meaning: meaning.to_owned() }
    };
    let mut found: Vec<Metric> =
        row.captures_iter(text).map(|one| metric(&one[1], "counter", &one[2])).collect();
    found.extend(latency.captures_iter(text).map(|one| metric(&one[1], "histogram", &one[2])));
    found.extend(help.captures_iter(text).map(|one| metric(&one[2], &one[3].to_lowercase(), &one[1])));
    found.extend(gauge.captures_iter(text).map(|one| metric(&one[1], "gauge", &one[2])));
    found
}

/// The collector of events of the log.
fn of_events() -> Vec<Metric> {
    let text = read(EVENTS);
    let family =
        Regex::new(r#"let meaning = "([^"]*)";\s*let mut \w+ = encoder\.encode_descriptor\("(\w+)""#)
            .expect("a pattern");
    let one =
        family.captures(&text).unwrap_or_else(|| panic!("{EVENTS} has no family that can be read here"));
    let labels = vec!["event".to_owned()];
    vec![Metric { name: one[2].to_owned(), kind: "counter".to_owned(), labels, meaning: one[1].to_owned() }]
}

/// The collector of the certificate authority.
fn of_authority() -> Vec<Metric> {
    let text = read(AUTHORITY);
    let family = Regex::new(
        r#"let meaning = "([^"]*)";\s*let (mut )?family = encoder\.encode_descriptor\(\s*"(\w+)",\s*meaning,\s*None,\s*MetricType::(\w+)"#,
    )
    .expect("a pattern");
    let found: Vec<Metric> = family
        .captures_iter(&text)
        .map(|one| Metric {
            name: one[3].to_owned(),
            kind: one[4].to_lowercase(),
            // The one with several values is of each root.
            labels: one.get(2).map(|_| "root".to_owned()).into_iter().collect(),
            meaning: one[1].to_owned(),
        })
        .collect();
    let declared = text.matches("encode_descriptor(").count();
    assert_eq!(found.len(), declared, "{AUTHORITY} encodes what cannot be read here");
    found
}

fn rows(metrics: &[Metric]) -> String {
    let rows = metrics.iter().map(|metric| {
        let total = if metric.kind == "counter" { "_total" } else { "" };
        let labels = metric.labels.iter().map(|label| format!("`{label}`")).collect::<Vec<_>>().join(", ");
        [format!("`weft_{}{total}`", metric.name), metric.kind.clone(), labels, metric.meaning.clone()]
    });
    table(["metric", "type", "labels", "meaning"], rows)
}

fn values(text: &str, name: &str, written: impl Fn(&str) -> String) -> String {
    let rows = variants(text, name)
        .into_iter()
        .map(|(variant, meaning)| [format!("`{}`", written(&variant)), meaning]);
    table(["value", "meaning"], rows) + "\n"
}

/// The page, which another test holds against a control plane that runs.
pub fn page() -> String {
    let (metrics, listeners) = (read(METRICS), read(LISTENERS));
    let plain = |variant: &str| variant.to_owned();
    let mut text = "# Metrics

`/metrics` of the control plane, on the admin port (7402) or where `--metrics-listen` says. Each replica counts for itself: scrape
all, and sum. What the edges mean stands in [Seeing the traffic](../observe.md).

## The control plane

"
    .to_owned();
    text += &rows(&registered(METRICS));
    text += "\n## The certificate authority\n\n";
    text += &rows(&of_authority());
    text += "\n## Its listeners\n\n";
    text += &rows(&registered(LISTENERS));
    text += "\n## Events of the log\n\n[Events](events.md) tells what they mean.\n\n";
    text += &rows(&of_events());
    text += "\n## Edges\n\n";
    text += &rows(&of_edges());
    text += "\n## Values of labels\n\n`limit` of `weft_limited_total`: what was refused or left out because there is a bound.\n\n";
    text +=
        &values(&metrics, "Limit", |variant| written(&metrics, "impl EncodeLabelValue for Limit", variant));
    text += "`outcome` of `weft_applies_total`:\n\n";
    text += &values(&metrics, "ApplyOutcome", plain);
    text += "`reason` of `weft_connections_closed_total`:\n\n";
    text += &values(&listeners, "Closed", plain);
    text += "`reason` of `weft_handshakes_failed_total`:\n\n";
    text += &values(&listeners, "HandshakeFailure", plain);
    text.trim_end().to_owned() + "\n"
}

#[test]
fn metrics_are_those_that_are_described() {
    keep("docs/reference/metrics.md", &page());
}

#[test]
fn statistics_of_the_proxy_are_those_that_it_registers() {
    let text = read(GROUPS);
    let group = Regex::new(r"(?s)group! \{\n    /// (.*?)\n    \w+ \{(.*?)\n    \}\n\}").expect("a pattern");
    let mut page = "# Statistics of weft-proxy

At its admin endpoint: `/stats`, and `/stats/prometheus` in the form that Prometheus reads, where a name is `envoy_` and its
parts, and what varies is a label, as with Envoy. The names are Envoy's and mean what they mean there; those that nothing can
count in weft-proxy stay 0. Filters that a bootstrap of your own uses count as Envoy's do, below the prefix of their
connection manager.
"
    .to_owned();
    let mut groups = 0;
    for found in group.captures_iter(&text) {
        groups += 1;
        let (doc, body) = (&found[1], &found[2]);
        let scope = doc.split('`').nth(1).expect("where it stands");
        page += &format!("\n## {}\n\n", scope.trim_end_matches(".*"));
        let rest = doc.split('`').nth(2).unwrap_or_default().split(';').next().unwrap_or_default();
        let rest = rest.trim_matches([',', ' ', '.', ':', '\n']);
        if !rest.is_empty() {
            page += &format!("{}.\n\n", capital(&rest.replace("\n    ///", "")));
        }
        for kind in ["counters", "gauges", "histograms", "codes"] {
            let names = names(body, kind);
            if !names.is_empty() {
                page += &format!("{}: {}.\n\n", capital(kind), names.join(", "));
            }
        }
        page.truncate(page.trim_end().len());
        page.push('\n');
    }
    assert_eq!(groups, text.matches("\ngroup! {").count(), "{GROUPS} declares what cannot be read here");
    keep("docs/reference/statistics.md", &page);
}

/// The names of one kind in a group.
fn names(body: &str, kind: &str) -> Vec<String> {
    let Some(list) = body.split(&format!("{kind} {{")).nth(1).and_then(|rest| rest.split('}').next()) else {
        return Vec::new();
    };
    let named = list.split(',').map(str::trim).filter(|name| !name.is_empty());
    let named = named.map(|name| match name.split_once(" = ") {
        Some((_, stem)) if kind == "codes" => {
            let stem = stem.trim_matches('"');
            format!("`{stem}_CODE`, `{stem}_Nxx`")
        }
        Some((_, literal)) => format!("`{}`", literal.trim_matches('"')),
        None => format!("`{name}`"),
    });
    named.collect()
}

fn capital(text: &str) -> String {
    let mut letters = text.chars();
    letters.next().map(|first| first.to_uppercase().chain(letters).collect()).unwrap_or_default()
}
