//! `weft check`: each fault that is planted is found by its code, whom it is about, and with a remedy; and a mesh without
//! faults has none.

use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt as _;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use envoy_types::pb::envoy::config::cluster::v3::Cluster;
use envoy_types::pb::envoy::config::core::v3::Node;
use envoy_types::pb::envoy::config::core::v3::node::UserAgentVersionType;
use prost::Message as _;
use weft_api::ResourceKind;
use weft_api::rest::{CheckResult, CheckSeverity, TokenRequest};
use weft_e2e::harness::{
    Calls, Joined, Mesh, NewKey, Options, Place, Process, Sidecar, StoreKind, XdsStream, described,
    free_port, join, ours, until,
};

use crate::shop::service;

/// Health checks come each few seconds, and a stream that is lost is missed after ten.
const PATIENCE: Duration = Duration::from_secs(45);

/// What `weft check` finds, and whether it ends with a failure.
async fn check(mesh: &Mesh) -> anyhow::Result<(CheckResult, bool)> {
    let output = mesh.weft_ended(&["check", "-o", "json"]).await?;
    let words = String::from_utf8_lossy(&output.stderr);
    let result = serde_json::from_slice(&output.stdout).with_context(|| words.into_owned())?;
    Ok((result, output.status.success()))
}

/// Codes of what is wrong, with whom they are about.
fn wrong(result: &CheckResult) -> Vec<(String, String)> {
    let is_wrong = |severity| matches!(severity, CheckSeverity::Failure | CheckSeverity::Warning);
    let found = result.findings.iter().filter(|finding| is_wrong(finding.severity));
    found.map(|finding| (finding.code.clone(), finding.place.clone())).collect()
}

/// Waits until each of these is found, about whom it is planted, with a remedy.
async fn finds(mesh: &Mesh, planted: &[(&str, &str)]) -> anyhow::Result<()> {
    until(&format!("{} faults are found", planted.len()), PATIENCE, async || {
        let (result, ends_well) = check(mesh).await?;
        let missing: Vec<_> = planted.iter().filter(|(code, place)| !has(&result, code, place)).collect();
        ensure!(missing.is_empty(), "{missing:?} are not among {:#?}", result.findings);
        let failed = result.findings.iter().any(|finding| finding.severity == CheckSeverity::Failure);
        ensure!(ends_well != failed, "it ends well: {ends_well}, and something fails: {failed}");
        Ok(())
    })
    .await
}

fn has(result: &CheckResult, code: &str, place: &str) -> bool {
    let is_it = |finding: &&weft_api::rest::CheckFinding| {
        let words = finding.what.trim().len() > 10 && finding.remedy.as_ref().is_some_and(|it| it.len() > 10);
        finding.code == code && finding.place.contains(place) && words
    };
    result.findings.iter().any(|finding| is_it(&finding))
}

/// Nothing is wrong but what `besides` allows.
async fn finds_nothing(mesh: &Mesh, besides: &[&str]) -> anyhow::Result<CheckResult> {
    until("nothing is wrong", PATIENCE, async || {
        let (result, ends_well) = check(mesh).await?;
        let found = wrong(&result);
        let unwanted: Vec<_> = found.iter().filter(|(code, _)| !besides.contains(&code.as_str())).collect();
        ensure!(unwanted.is_empty() && ends_well, "{:#?}", result.findings);
        Ok(result)
    })
    .await
}

/// A workload that speaks as the test says, and a stream of its own.
async fn stranger(mesh: &mut Mesh, of: &str, agent: &str) -> anyhow::Result<(Joined, XdsStream)> {
    let (token, key, address) = (mesh.token(of).await?, NewKey::plain()?, mesh.next_address());
    let name = of.rsplit('/').next().unwrap_or(of);
    let joined = join(&token.token, &key, described(name, address)).await?;
    let (name, version) = agent.split_once(' ').unwrap_or((agent, ""));
    let node = Node {
        id: joined.id(),
        user_agent_name: name.to_owned(),
        user_agent_version_type: Some(UserAgentVersionType::UserAgentVersion(version.to_owned())),
        ..Node::default()
    };
    let stream = XdsStream::open_with(joined.channel(mesh.xds()), node).await?;
    Ok((joined, stream))
}

/// Takes clusters and refuses one of them, as often as it takes the control plane to find out which.
async fn refuse(stream: &mut XdsStream, name: &str) -> anyhow::Result<()> {
    stream.ask(ResourceKind::Cluster, &[]).await;
    let (mut held, mut refusals) = (String::new(), 0);
    while let Ok(answer) = stream.next(Duration::from_secs(2)).await {
        let clusters: Result<Vec<Cluster>, _> =
            answer.resources.iter().map(|any| Cluster::decode(&*any.value)).collect();
        if clusters?.iter().any(|cluster| cluster.name == name) {
            refusals += 1;
            stream.nack(ResourceKind::Cluster, &[], &answer, &held, "no such cluster for me").await;
        } else {
            held.clone_from(&answer.version_info);
            stream.ack(ResourceKind::Cluster, &[], &answer).await;
        }
    }
    ensure!(refusals > 0, "{name} was not sent");
    Ok(())
}

fn only_http(name: &str) -> String {
    format!(
        "{{apiVersion: weft.dev/v1, kind: Service, metadata: {{name: {name}, namespace: shop}}, \
         spec: {{ports: [{{name: http, port: 80, protocol: HTTP}}]}}}}\n"
    )
}

#[tokio::test]
async fn each_fault_of_a_mesh_is_found_with_its_remedy_and_one_without_has_none() {
    Mesh::run(Options::new(StoreKind::Embedded), faults_of_a_mesh).await;
}

async fn faults_of_a_mesh(mesh: &mut Mesh) -> anyhow::Result<()> {
    let services = ["web", "cart", "away", "open", "unwritten", "newer"].map(only_http);
    mesh.apply(&[&*services.join("---\n"), &service("catalog")].join("---\n")).await?;
    let web = mesh.workload("shop/web").serving().start().await?;
    let mut cart = mesh.workload("shop/cart").serving().beside(Sidecar::Envoy).start().await?;
    let mut away = mesh.workload("shop/away").serving().start().await?;
    let unwritten = mesh.workload("shop/unwritten").serving().start().await?;
    let catalog = mesh.workload("shop/catalog").serving().start().await?;
    let client = mesh.workload("shop/caller").client().start().await?;
    for empty in ["open", "newer"] {
        mesh.client().delete("service", "shop", empty).await?;
    }
    mesh.in_sync(&[web.id(), cart.id(), away.id(), unwritten.id(), catalog.id(), client.id()]).await?;
    until("what stands beside Envoy is not seen, and all else is", PATIENCE, async || {
        let well = finds_nothing(mesh, &[]).await?;
        let unknown = well.findings.iter().filter(|finding| finding.severity == CheckSeverity::NotKnown);
        let unknown: Vec<_> = unknown.map(|finding| (&*finding.code, &*finding.place)).collect();
        ensure!(unknown == [("application_not_seen", cart.id())], "{unknown:?}");
        Ok(())
    })
    .await?;

    // Faults.
    mesh.apply(&["open", "newer", "nobody"].map(only_http).join("---\n")).await?;
    mesh.client().delete("service", "shop", "unwritten").await?;
    mesh.apply(ROUTES).await?;
    let open = TcpListener::bind("0.0.0.0:0")?;
    let _open = mesh.workload("shop/open").app_port("http", open.local_addr()?.port()).start().await?;
    let _lost = mesh
        .workload("shop/web")
        .named("lost")
        .upstream("shop/nowhere:tcp", free_port()?)
        .serving()
        .start()
        .await?;
    cart.end_app().await?;
    away.kill_proxy();
    let (_newer, mut stream) = stranger(mesh, "shop/newer", "weft-proxy 99.0.0").await?;
    refuse(&mut stream, "shop/web/http").await?;
    let key = mesh.control_plane().data().join("seal.key");
    std::fs::set_permissions(&key, std::fs::Permissions::from_mode(0o644))?;
    let request = TokenRequest {
        service: "shop/web".to_owned(),
        ttl: Some("86401s".to_owned()),
        uses: Some(10),
        ..TokenRequest::default()
    };
    mesh.client().create_token(&request).await?;

    finds(
        mesh,
        &[
            ("service_without_members", "Service shop/nobody"),
            ("service_missing", unwritten.id()),
            ("policy_selects_nothing", "HTTPRoute shop/to-nothing"),
            ("subset_empty", "HTTPRoute shop/to-v9"),
            ("not_joined", "shop/written-only"),
            ("application_exposed", "shop/open-v1"),
            ("upstream_unknown", "shop/lost"),
            ("application_silent", cart.id()),
            ("service_without_healthy", "Service shop/cart"),
            ("proxy_away", away.id()),
            ("proxy_version", "shop/newer"),
            ("proxy_refuses", "shop/newer"),
            ("seal_key", "control plane"),
            ("token_ends", "shop/web"),
        ],
    )
    .await?;
    let output = mesh.weft_ended(&["check"]).await?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    println!("{text}");
    let wide: Vec<&str> = text.lines().filter(|line| line.chars().count() > 80).collect();
    ensure!(wide.iter().all(|line| !line.trim().contains(' ')), "beyond 80 columns: {wide:#?}");
    ensure!(output.status.code() == Some(1) && text.contains(" failures, "), "{text}");
    Ok(())
}

/// A route to a service that does not exist, one to a subset without members, and a workload that nobody joined as.
const ROUTES: &str = r"
apiVersion: weft.dev/v1
kind: HTTPRoute
metadata: {name: to-nothing, namespace: shop}
spec:
  parentRefs: [{kind: Service, name: web, port: 80}]
  rules: [{backendRefs: [{name: not-there, port: 80}]}]
---
apiVersion: weft.dev/v1
kind: Service
metadata: {name: catalog, namespace: shop}
spec:
  ports: [{name: http, port: 80, protocol: HTTP}]
  subsets: [{name: v9, matchLabels: {version: v9}}]
---
apiVersion: weft.dev/v1
kind: HTTPRoute
metadata: {name: to-v9, namespace: shop}
spec:
  parentRefs: [{kind: Service, name: catalog, port: 80}]
  rules: [{backendRefs: [{name: catalog, port: 80, subset: v9}]}]
---
apiVersion: weft.dev/v1
kind: Workload
metadata: {name: written-only, namespace: shop}
spec: {address: 127.0.0.77, services: [web]}
";

#[tokio::test]
async fn faults_of_replicas_and_their_etcd_are_found_with_their_remedies() {
    Mesh::run(Options::new(StoreKind::Etcd).replicas(2), faults_of_replicas).await;
}

async fn faults_of_replicas(mesh: &mut Mesh) -> anyhow::Result<()> {
    mesh.apply(&only_http("web")).await?;
    let _web = mesh.workload("shop/web").serving().start().await?;
    // Debian's etcd is older than what is asked for.
    let well = finds_nothing(mesh, &["etcd_version"]).await?;
    ensure!(
        well.complete && well.findings.iter().any(|one| one.what.contains("2 control planes")),
        "{well:?}"
    );
    let gateway = mesh.etcd()?.endpoint().to_owned();
    let calls = Calls::direct();
    let version = calls.get(&format!("{gateway}/version")).await?.body;
    let is_old = version.contains("\"etcdserver\":\"3.4");
    ensure!(has(&well, "etcd_version", "etcd") == is_old, "{version}: {well:?}");

    let told = well.findings.iter().filter(|finding| finding.code == "etcd_version").count();
    ensure!(told <= 1, "two replicas find one etcd twice: {well:?}");

    let versions = mesh.weft(&["version"]).await?;
    ensure!(versions.matches("control plane  0.").count() == 2, "{versions}");
    ensure!(versions.contains("weft-proxy") && versions.contains("1 connected"), "{versions}");
    let other = mesh.replica(1)?.xds().to_string();
    mesh.replica(1)?.kill()?;
    finds(mesh, &[("replica_unreachable", "control plane"), ("public_unreachable", "control plane")]).await?;
    let (result, _) = check(mesh).await?;
    ensure!(result.findings.iter().any(|finding| finding.what.contains(&other)), "{result:#?}");
    mesh.replica(1)?.start().await?;
    finds_nothing(mesh, &["etcd_version"]).await?;

    mesh.replica(1)?.end().await?;
    mesh.replica(1)?.set_clock("+1m");
    mesh.replica(1)?.start().await?;
    finds(mesh, &[("replica_clock", other.as_str())]).await?;

    let alarm = r#"{"action": "ACTIVATE", "memberID": 0, "alarm": "NOSPACE"}"#;
    let raised = calls.post(&format!("{gateway}/v3/maintenance/alarm"), alarm).await?;
    ensure!(raised.status == 200, "{}", raised.body);
    finds(mesh, &[("etcd_alarm", "etcd")]).await?;
    mesh.etcd()?.kill();
    finds(mesh, &[("store_away", "control plane")]).await
}

#[tokio::test]
async fn certificates_that_end_and_clocks_that_are_off_are_found_with_their_remedies() {
    let life = "15s";
    // A root is replaced long before its end: one that is made to live for days is near it.
    let options = Options::new(StoreKind::Embedded).leaf_ttl(life).flag("--root-ttl", "20d");
    Mesh::run(options, certificates_and_clocks).await;
}

async fn certificates_and_clocks(mesh: &mut Mesh) -> anyhow::Result<()> {
    mesh.apply(&only_http("old")).await?;
    let (_old, stream) = stranger(mesh, "shop/old", "weft-proxy 0.1.0").await?;
    stream.ask(ResourceKind::Cluster, &[]).await;
    finds(mesh, &[("leaf_not_renewed", "shop/old"), ("root_ends", "")]).await?;
    finds(mesh, &[("leaf_ended", "shop/old")]).await?;
    mesh.control_plane().end().await?;

    let away = mesh.weft_ended(&["check"]).await?;
    let text = String::from_utf8_lossy(&away.stdout).into_owned();
    ensure!(away.status.code() == Some(1) && text.contains("control_plane_away"), "{text}");
    let version = mesh.weft(&["version"]).await?;
    ensure!(version.contains("this program") && version.contains("note: "), "{version}");

    mesh.control_plane().set_clock("+1h");
    mesh.control_plane().start().await?;
    finds(mesh, &[("machine_clock", "this machine")]).await
}

/// The disk of the store has less room than 512 MiB, and then less than 64.
#[tokio::test]
async fn disk_that_is_nearly_full_is_found_with_its_remedy() -> anyhow::Result<()> {
    for (mebibytes, severity) in [(300, CheckSeverity::Warning), (60, CheckSeverity::Failure)] {
        let dir = tempfile::tempdir()?;
        let data = dir.path().join("data");
        std::fs::create_dir(&data)?;
        let place = Place::with_disk(&data, mebibytes).await?;
        let [api, xds, admin] =
            [free_port()?, free_port()?, free_port()?].map(|port| format!("127.0.0.1:{port}"));
        let control_plane = Process::start_at(
            &place,
            dir.path(),
            "control-plane",
            &ours("weft-control-plane")?,
            |command| {
                command.arg("--data-dir").arg(&data).args(["--api-listen", &api, "--xds-listen", &xds]);
                command.args(["--admin-listen", &admin]);
            },
        )?;
        // The disk is there for the process alone.
        let token = format!("/proc/{}/root{}", control_plane.id(), data.join("operator.token").display());
        let url = format!("http://{api}");
        until("the room is told", PATIENCE, async || {
            let asked = ["check", "-o", "json", "--api", &url, "--token-file", &token];
            let output = tokio::process::Command::new(ours("weft")?).args(asked).output().await?;
            let words = String::from_utf8_lossy(&output.stderr);
            let result: CheckResult =
                serde_json::from_slice(&output.stdout).with_context(|| words.into_owned())?;
            let is_it = |finding: &&weft_api::rest::CheckFinding| finding.code == "store_room";
            let found =
                result.findings.iter().find(is_it).with_context(|| format!("{:#?}", result.findings))?;
            ensure!(found.severity == severity && has(&result, "store_room", "control plane"), "{found:?}");
            ensure!(found.what.contains(&data.display().to_string()), "{found:?}");
            Ok(())
        })
        .await?;
    }
    Ok(())
}

#[tokio::test]
async fn wrong_words_are_refused_and_examples_are_shown() -> anyhow::Result<()> {
    let weft = ours("weft")?;
    for (words, shown) in [
        (&["check", "--quite"][..], "--quiet"),
        (&["drain"], "<ID>"),
        (&["debug", "bundel"], "bundle"),
        (&["version", "-o", "xml"], "json"),
    ] {
        let output = tokio::process::Command::new(&weft).args(words).output().await?;
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        ensure!(output.status.code() == Some(64) && text.contains(shown), "{words:?}: {text}");
    }
    for verb in [&["check"][..], &["drain"], &["debug", "bundle"], &["version"]] {
        let output = tokio::process::Command::new(&weft).args(verb).arg("--help").output().await?;
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        ensure!(text.contains("Examples:") && text.contains(&format!("weft {}", verb.join(" "))), "{text}");
    }
    Ok(())
}
