//! `weft describe`: one object, what became of it, and who has it.

use std::fmt::Write as _;
use std::process::ExitCode;
use std::time::SystemTime;

use serde_json::Value;
use weft_api::client::{ApiClient, HistoryPart};
use weft_api::rest::{ConditionStatus, Edge, HistoryEntry, Object, ProxyCounts, StatusCondition};
use weft_policies::kinds::Kind;

use super::effective;
use super::get::{shadow_denied, status_of};
use super::history::{ago, by};
use super::name::full_name;
use crate::args::{Describe, OutputFormat};
use crate::output::{self, out};
use crate::replicas::ReplicaClients;

pub async fn run(replicas: &ReplicaClients, args: Describe) -> anyhow::Result<ExitCode> {
    let (namespace, name) = full_name(&args.name, &args.namespace);
    let kind = args.kind.plural();
    let read = async |client: &ApiClient| client.described_object(kind, namespace, name).await;
    let object = replicas.any(read).await?;
    match args.output {
        OutputFormat::Json | OutputFormat::Yaml | OutputFormat::Name => {
            output::print(args.output, &object, &[], Vec::new)?;
        }
        OutputFormat::Table | OutputFormat::Wide => {
            let part = HistoryPart {
                limit: Some(args.changes.clamp(1, 100)),
                kind: Some(kind.to_owned()),
                namespace: Some(namespace.to_owned()),
                name: Some(name.to_owned()),
                ..HistoryPart::default()
            };
            let history = replicas.any(async |client| client.history(&part).await).await?;
            out!("{}", text(&object, &history.items)?);
            if args.kind == Kind::AuthorizationPolicy && object.spec["mode"] == "Shadow" {
                let called = replicas.edges_by("version").await?.items;
                out!("{}", trial(&object, namespace, &called));
            }
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn text(object: &Object, changes: &[HistoryEntry]) -> anyhow::Result<String> {
    let word = |key: &str| match &object.metadata[key] {
        Value::String(text) => text.clone(),
        Value::Null => String::new(),
        other => other.to_string(),
    };
    let mut text = format!("{} {}/{}\n", object.kind, word("namespace"), word("name"));
    for (title, key) in
        [("generation", "generation"), ("revision", "resourceVersion"), ("created", "createdAt")]
    {
        if !word(key).is_empty() {
            writeln!(text, "  {title:<12}{}", word(key))?;
        }
    }
    for (title, key) in [("labels", "labels"), ("annotations", "annotations")] {
        for (name, value) in object.metadata[key].as_object().into_iter().flatten() {
            writeln!(text, "  {title:<12}{name}={}", value.as_str().unwrap_or_default())?;
        }
    }
    section(&mut text, "spec", &serde_yaml::to_string(&object.spec)?);
    let status = status_of(object);
    if !status.conditions.is_empty() {
        let head = ["CONDITION", "HOLDS", "SINCE", "REASON", "MESSAGE"];
        let rows = status.conditions.iter().map(|condition| {
            let holds = match condition.status {
                ConditionStatus::True => "yes",
                ConditionStatus::False => "no",
                ConditionStatus::Unknown => "unknown",
            };
            let (reason, message) = (condition.reason.clone(), condition.message.clone());
            vec![condition.kind.clone(), holds.to_owned(), since(condition), reason, message]
        });
        section(&mut text, "status", &output::table(&head, &rows.collect::<Vec<_>>()));
    }
    if let Some(proxies) = &status.proxies {
        describe_proxies(&mut text, proxies)?;
    }
    for group in &status.effective {
        writeln!(text, "effective for {}", group.of)?;
        text.push_str(&effective::values(&group.values));
    }
    if let Some(own) = own_status(object) {
        section(&mut text, "beside that", &serde_yaml::to_string(&own)?);
    }
    if !changes.is_empty() {
        let head = ["REVISION", "AGO", "BY", "CHANGE", "MESSAGE"];
        let rows = changes.iter().map(|entry| {
            let outcome = entry.documents.first().map(|one| one.outcome.to_string()).unwrap_or_default();
            let info = &entry.info;
            vec![info.revision.to_string(), ago(info.at), by(info), outcome, info.message.clone()]
        });
        section(&mut text, "changes", &output::table(&head, &rows.collect::<Vec<_>>()));
    }
    Ok(text)
}

/// What a policy that is only tried would refuse, where it is looked for: at the ports that it targets. All policies with
/// `mode: Shadow` of a port are counted together.
fn trial(object: &Object, namespace: &str, called: &[Edge]) -> String {
    let targets = object.spec["targetRefs"].as_array().map(Vec::as_slice).unwrap_or_default();
    let is_target = |edge: &Edge, target: &Value| {
        let word = |key: &str| target[key].as_str();
        let (service_namespace, service) = edge.destination.split_once('/').unwrap_or_default();
        match word("kind") {
            Some("Mesh") => true,
            Some("Namespace") => word("name") == Some(service_namespace),
            _ => {
                word("namespace").unwrap_or(namespace) == service_namespace
                    && word("name") == Some(service)
                    && word("sectionName").is_none_or(|port| port == edge.port)
            }
        }
    };
    let of_targets = called.iter().filter(|edge| targets.iter().any(|target| is_target(edge, target)));
    let lines = shadow_denied(&of_targets.cloned().collect::<Vec<_>>());
    let mut text = String::new();
    let none = "nothing would have been refused so far\n";
    section(&mut text, "trial", if lines.is_empty() { none } else { &lines });
    text
}

/// How long a condition has been seen to be as it is.
fn since(condition: &StatusCondition) -> String {
    let moment =
        condition.last_transition_time.as_deref().and_then(|text| humantime::parse_rfc3339(text).ok());
    let age = moment.map(|moment| SystemTime::now().duration_since(moment).unwrap_or_default());
    age.map(output::span).unwrap_or_default()
}

/// What a Service or a Workload tells beside what every object does.
fn own_status(object: &Object) -> Option<Value> {
    let mut own = object.status.clone()?;
    let fields = own.as_object_mut()?;
    fields.retain(|name, _| {
        !matches!(name.as_str(), "observedGeneration" | "conditions" | "proxies" | "effective")
    });
    (!fields.is_empty()).then_some(own)
}

/// A title, and what stands below it, indented.
fn section(text: &mut String, title: &str, body: &str) {
    text.push_str(title);
    text.push('\n');
    for line in body.lines() {
        text.push_str("  ");
        text.push_str(line);
        text.push('\n');
    }
}

fn describe_proxies(text: &mut String, counts: &ProxyCounts) -> anyhow::Result<()> {
    let ProxyCounts { targeted, acked, pending, nacked, away, laggards, acknowledged, absent, unheard } =
        counts;
    writeln!(text, "proxies")?;
    writeln!(
        text,
        "  {targeted} concerned: {acked} have it, {nacked} refused it, {pending} have not answered"
    )?;
    for laggard in laggards {
        let words = laggard.error.as_deref().unwrap_or("has not answered yet");
        let sign = if laggard.error.is_some() { "refused" } else { "pending" };
        writeln!(text, "  {sign:<9}{}  {words}", laggard.proxy)?;
    }
    for proxy in acknowledged {
        writeln!(text, "  {:<9}{proxy}", "has it")?;
    }
    for proxy in absent {
        writeln!(text, "  {:<9}{proxy}", "away")?;
    }
    let named = laggards.len() + acknowledged.len() + absent.len();
    if named < targeted + away {
        writeln!(text, "  and {} more", targeted + away - named)?;
    }
    if *unheard > 0 {
        writeln!(text, "  {unheard} control planes were not heard; their proxies are not counted")?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use serde_json::json;
    use weft_api::rest::Laggard;

    use super::*;

    #[test]
    fn everything_that_is_known_of_an_object_is_told_once() {
        let laggards =
            vec![Laggard { proxy: "shop/web-1".to_owned(), error: Some("listener: bad".to_owned()) }];
        let proxies = ProxyCounts {
            targeted: 2,
            acked: 1,
            nacked: 1,
            laggards,
            acknowledged: vec!["shop/cart-1".to_owned()],
            ..ProxyCounts::default()
        };
        let programmed = json!({"type": "Programmed", "status": "False", "reason": "Refused", "message": "1 of 2", "observedGeneration": 3,
            "lastTransitionTime": humantime::format_rfc3339(SystemTime::now() - Duration::from_secs(3 * 3600)).to_string()});
        let effective = json!([{"of": "port http", "values": [
            {"field": "requestTimeout", "value": "2s", "origin": "TrafficPolicy shop/web", "level": "service"},
            {"field": "retryAttempts", "value": 2},
        ]}]);
        let object = Object {
            kind: "Service".to_owned(),
            metadata: json!({"namespace": "shop", "name": "web", "generation": 3, "labels": {"app": "web"}}),
            spec: json!({"ports": []}),
            status: Some(
                json!({"observedGeneration": 3, "conditions": [programmed], "proxies": proxies, "effective": effective, "notMembers": ["x"]}),
            ),
            ..Object::default()
        };
        let text = text(&object, &[]).unwrap();
        for line in [
            "Service shop/web",
            "  generation  3",
            "  labels      app=web",
            "  CONDITION   HOLDS  SINCE  REASON   MESSAGE",
            "  Programmed  no     3h0m   Refused  1 of 2",
            "  2 concerned: 1 have it, 1 refused it, 0 have not answered",
            "  refused  shop/web-1  listener: bad",
            "  has it   shop/cart-1",
            "effective for port http",
            "  requestTimeout  2s  TrafficPolicy shop/web (service)",
            "  retryAttempts   2  built in",
            "  notMembers:",
        ] {
            assert_eq!(text.lines().filter(|one| *one == line).count(), 1, "{line:?} in\n{text}");
        }
        assert!(!text.contains("more"), "{text}");
    }
}
