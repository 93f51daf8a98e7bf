//! Every query of the Grafana dashboards finds something at a real Prometheus that reads a real mesh.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, ensure};
use serde_json::Value;
use weft_e2e::harness::{Calls, Mesh, Options, Process, Sidecar, StoreKind, free_port, system, until};

use crate::numbers::{Trickles, rules};
use crate::shop::{Callers, catalog, start_catalog};

#[tokio::test]
async fn prometheus_answers_every_query_of_the_dashboards() {
    Mesh::run(Options::new(StoreKind::Embedded), every_query_is_answered).await;
}

const ANSWERS: Duration = Duration::from_secs(90);

async fn every_query_is_answered(mesh: &mut Mesh) -> anyhow::Result<()> {
    let callers = Callers::start(mesh).await?;
    let _servers =
        [start_catalog(mesh, Sidecar::Weft, "v1").await?, start_catalog(mesh, Sidecar::Envoy, "v1").await?];
    mesh.apply(&Sidecar::ALL.map(rules).join("\n---\n")).await?;
    let _trickles = Trickles::start(&callers);
    let _connections = crate::numbers::open_connections(&callers).await?;
    let prometheus = Prometheus::start(mesh)?;
    let (mut queries, mut variables) = (0, 0);
    for dashboard in dashboards()? {
        for (what, expression) in expressions(&dashboard) {
            prometheus.answers(&expression).await.with_context(|| what.clone())?;
            queries += 1;
        }
        for variable in label_values(&dashboard) {
            prometheus.has_label(&variable).await.context(variable.clone())?;
            variables += 1;
        }
    }
    ensure!(queries > 30 && variables == 2, "{queries} queries, {variables} variables");
    for caller in Sidecar::ALL {
        let source = format!("weft_edge_requests_total{{source=\"shop/web-{}\"}} > 0", caller.word());
        prometheus.answers(&source).await.context("both proxies are counted")?;
    }
    Ok(())
}

struct Prometheus {
    _process: Process,
    url: String,
}

impl Prometheus {
    fn start(mesh: &Mesh) -> anyhow::Result<Self> {
        let config = mesh.dir().join("prometheus.yaml");
        let target = mesh.admin();
        let target = target.trim_start_matches("http://");
        std::fs::write(
            &config,
            format!(
                "global: {{scrape_interval: 1s}}\nscrape_configs: [{{job_name: weft, static_configs: [{{targets: ['{target}']}}]}}]\n"
            ),
        )?;
        let listen = format!("127.0.0.1:{}", free_port()?);
        let process = Process::start(mesh.dir(), "prometheus", &system("prometheus")?, |command| {
            command.arg(format!("--config.file={}", config.display()));
            command.arg(format!("--storage.tsdb.path={}", mesh.dir().join("tsdb").display()));
            command.arg(format!("--web.listen-address={listen}"));
        })?;
        Ok(Self { _process: process, url: format!("http://{listen}/api/v1") })
    }

    async fn ask(&self, path: &str, parameter: &str, value: &str) -> anyhow::Result<Vec<Value>> {
        let value: String = value.bytes().map(|byte| format!("%{byte:02X}")).collect();
        let answer = Calls::direct().get(&format!("{}/{path}?{parameter}={value}", self.url)).await?;
        ensure!(answer.status == 200, "{} {}", answer.status, answer.body);
        let answer: Value = serde_json::from_str(&answer.body)?;
        let data = &answer["data"];
        let found = data.as_array().or_else(|| data["result"].as_array());
        found.cloned().with_context(|| format!("no list: {answer}"))
    }

    async fn answers(&self, expression: &str) -> anyhow::Result<()> {
        until(&format!("an answer to {expression}"), ANSWERS, async || {
            let found = self.ask("query", "query", expression).await?;
            ensure!(!found.is_empty(), "nothing");
            Ok(())
        })
        .await
    }

    /// Whether `label_values(SERIES, LABEL)` has something to choose from.
    async fn has_label(&self, variable: &str) -> anyhow::Result<()> {
        let arguments = variable.strip_prefix("label_values(").and_then(|rest| rest.strip_suffix(')'));
        let (selector, label) = arguments.and_then(|both| both.rsplit_once(", ")).context("label_values")?;
        let found = self.ask("series", "match[]", selector).await?;
        ensure!(found.iter().any(|series| series[label].is_string()), "{found:?}");
        Ok(())
    }
}

fn dashboards() -> anyhow::Result<Vec<Value>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../observe/grafana");
    let files = std::fs::read_dir(folder)?.map(|entry| Ok(entry?.path()));
    let files: Vec<PathBuf> = files.collect::<anyhow::Result<_>>()?;
    let is_dashboard = |path: &&PathBuf| path.extension().is_some_and(|extension| extension == "json");
    let read = |path: &PathBuf| Ok(serde_json::from_str(&std::fs::read_to_string(path)?)?);
    files.iter().filter(is_dashboard).map(read).collect()
}

/// The queries of all panels, with what a person would have chosen in place of Grafana's variables.
fn expressions(dashboard: &Value) -> Vec<(String, String)> {
    let panels = dashboard["panels"].as_array().into_iter().flatten();
    let queries = panels.flat_map(|panel| {
        let title = format!("{}: {}", dashboard["title"], panel["title"]);
        let targets = panel["targets"].as_array().into_iter().flatten();
        targets.filter_map(move |target| Some((title.clone(), target["expr"].as_str()?.to_owned())))
    });
    queries.map(|(title, expression)| (title, chosen(&expression))).collect()
}

fn label_values(dashboard: &Value) -> Vec<String> {
    let variables = dashboard["templating"]["list"].as_array().into_iter().flatten();
    variables.filter_map(|one| one["definition"].as_str().map(chosen)).collect()
}

fn chosen(text: &str) -> String {
    let destination = format!("shop/{}", catalog(Sidecar::Envoy));
    text.replace("$__rate_interval", "20s").replace("$destination", &destination).replace("$source", ".*")
}
