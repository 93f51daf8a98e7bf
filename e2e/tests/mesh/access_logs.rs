//! Services write their requests down as policies say, whichever proxy stands beside them.

use std::time::Duration;

use anyhow::{Context as _, ensure};
use serde_json::Value;
use weft_e2e::harness::{CONVERGES, Mesh, Options, OtelCollector, Sidecar, StoreKind, Workload, until};

use crate::shop::{Callers, catalog};

/// Both proxies and the collector gather what they tell for a second at most.
const SOON: Duration = Duration::from_secs(5);

#[tokio::test]
async fn requests_are_written_down_as_policies_say_on_the_embedded_store() {
    Mesh::run(Options::new(StoreKind::Embedded), requests_are_written_down).await;
}

async fn requests_are_written_down(mesh: &mut Mesh) -> anyhow::Result<()> {
    let callers = Callers::start(mesh).await?;
    let mut servers = Vec::new();
    let logs = mesh.dir().join("logs");
    std::fs::create_dir(&logs)?;
    for beside in Sidecar::ALL {
        let server = mesh.workload(&format!("shop/{}", catalog(beside))).serving().beside(beside);
        servers.push((beside, server.logging_into(&logs).start().await?));
    }
    let collector = OtelCollector::start(mesh).await?;
    let ids: Vec<&str> =
        callers.ids().into_iter().chain(servers.iter().map(|(_, server)| server.id())).collect();
    mesh.in_sync(&ids).await?;
    let caller = callers.of(weft_e2e::harness::Pair::ALL[0]);
    for (beside, server) in &servers {
        failures_are_lines(caller, *beside, server)
            .await
            .with_context(|| format!("{beside:?}: by default"))?;
    }
    mesh.apply(&policy("{kind: Namespace, name: shop}", "{sink: Stdout, format: Json, filter: All}")).await?;
    for (beside, server) in &servers {
        all_are_json(caller, *beside, server).await.with_context(|| format!("{beside:?}: as JSON"))?;
    }
    mesh.apply(&policy("{kind: Namespace, name: shop}", "{sink: File, file: shop.log, filter: All}")).await?;
    for (beside, _) in &servers {
        let written = async |id: String| {
            let file = std::fs::read_to_string(logs.join("shop.log"))?;
            file.lines().find(|line| line.contains(&id)).map(str::to_owned).context("it is not written down")
        };
        let told =
            told(caller, *beside, 200, written).await.with_context(|| format!("{beside:?}: a file"))?;
        ensure!(told.1.contains("\"GET /status/200 HTTP/1.1\" 200"), "{}", told.1);
    }
    let endpoint = collector.endpoint();
    for beside in Sidecar::ALL {
        let target = format!("{{kind: Service, name: {}}}", catalog(beside));
        let logs = format!("{{sink: Otlp, endpoint: '{endpoint}', format: Json, filter: All}}");
        mesh.apply(&policy(&target, &logs).replace("name: logs", &format!("name: of-{}", beside.word())))
            .await?;
    }
    for (beside, server) in &servers {
        a_collector_is_told(caller, *beside, server, &collector)
            .await
            .with_context(|| format!("{beside:?}: by OTLP"))?;
    }
    Ok(())
}

fn policy(target: &str, logs: &str) -> String {
    format!(
        "{{apiVersion: weft.dev/v1, kind: TelemetryPolicy, metadata: {{name: logs, namespace: shop}}, \
         spec: {{targetRefs: [{target}], accessLogs: [{logs}]}}}}"
    )
}

/// Asks for an answer of this status; the request's id.
async fn ask(caller: &Workload, beside: Sidecar, status: u16) -> anyhow::Result<String> {
    let answer = caller.calls().get(&format!("http://{}/status/{status}", catalog(beside))).await?;
    ensure!(answer.status == status, "{} {}", answer.status, answer.body);
    Ok(answer.headers.get("x-request-id").context("no x-request-id")?.to_str()?.to_owned())
}

/// Asks until a request is told of as `found` looks for it: a policy that was applied takes a moment to be in force, and what
/// was asked before is told as it was before.
async fn told<T>(
    caller: &Workload,
    beside: Sidecar,
    status: u16,
    found: impl AsyncFn(String) -> anyhow::Result<T>,
) -> anyhow::Result<(String, T)> {
    until("a request is told of", CONVERGES, async || {
        let id = ask(caller, beside, status).await?;
        let told = until("it is told", SOON, async || found(id.clone()).await).await?;
        Ok((id, told))
    })
    .await
}

/// The line about a request.
async fn line(server: &Workload, id: &str) -> anyhow::Result<String> {
    until("the request is written down", CONVERGES, async || {
        let log = server.proxy_log();
        let found = log.lines().find(|line| line.contains(id));
        found.map(str::to_owned).context("it is not")
    })
    .await
}

async fn failures_are_lines(caller: &Workload, beside: Sidecar, server: &Workload) -> anyhow::Result<()> {
    let well = ask(caller, beside, 200).await?;
    let failed = ask(caller, beside, 503).await?;
    let line = line(server, &failed).await?;
    let said = [
        "\"GET /status/503 HTTP/1.1\" 503 - via_upstream ".to_owned(),
        format!(" from {} to http.catalog-{}.shop.", caller.spiffe(), beside.word()),
    ];
    ensure!(said.iter().all(|words| line.contains(words)), "{line}");
    ensure!(!server.proxy_log().contains(&well), "what went well is written down: {}", server.proxy_log());
    Ok(())
}

async fn all_are_json(caller: &Workload, beside: Sidecar, server: &Workload) -> anyhow::Result<()> {
    let written = async |id: String| {
        let log = server.proxy_log();
        log.lines().find(|line| line.contains(&id)).map(str::to_owned).context("it is not written down")
    };
    let (id, line) = told(caller, beside, 200, written).await?;
    let entry: Value = serde_json::from_str(&line).with_context(|| line.clone())?;
    ensure!(entry["status"] == 200 && entry["method"] == "GET" && entry["path"] == "/status/200", "{line}");
    ensure!(entry["caller"] == caller.spiffe() && entry["request_id"] == id, "{line}");
    ensure!(entry["bytes_sent"].is_u64() && entry["duration_ms"].is_u64(), "{line}");
    Ok(())
}

async fn a_collector_is_told(
    caller: &Workload,
    beside: Sidecar,
    server: &Workload,
    collector: &OtelCollector,
) -> anyhow::Result<()> {
    let heard = async |id: String| {
        let logs = collector.logs();
        logs.into_iter().find(|log| log.attribute("request_id") == Some(&id)).context("it is not heard")
    };
    let (id, entry) = told(caller, beside, 404, heard).await?;
    ensure!(entry.service == format!("shop/{}", catalog(beside)), "{entry:#?}");
    ensure!(entry.attribute("status") == Some("404") && entry.record.time_unix_nano > 0, "{entry:#?}");
    // The more specific list is taken whole.
    ensure!(!server.proxy_log().contains(&id), "it is written down twice");
    Ok(())
}
