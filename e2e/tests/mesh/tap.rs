//! Requests as they end: of each pair of proxies, to viewers at either of two control planes, and what becomes of a tap
//! when its viewer is gone.

use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use http::Request;
use tokio::io::{AsyncBufReadExt as _, BufReader};
use weft_api::client::{TapFeed, TapNews, TapQuery};
use weft_api::rest::{Hop, TapLine, TapListening};
use weft_e2e::harness::{CONVERGES, Calls, Mesh, Options, Pair, Sidecar, StoreKind, Workload, ours, until};

use crate::shop::{Callers, catalog, start_catalog};

/// A line comes within a second; builds go on beside.
const SOON: Duration = Duration::from_secs(5);

#[tokio::test]
async fn requests_are_shown_as_they_end() {
    Mesh::run(Options::new(StoreKind::Etcd).replicas(2), shown).await;
}

async fn shown(mesh: &mut Mesh) -> anyhow::Result<()> {
    let callers = Callers::start(mesh).await?;
    let mut servers = Vec::new();
    for beside in Sidecar::ALL {
        servers.push(start_catalog(mesh, beside, "v1").await?);
    }
    for pair in Pair::ALL {
        until("the service is called", CONVERGES, async || {
            let answer = callers.of(pair).calls().get(&format!("http://{}/", catalog(pair.server))).await?;
            ensure!(answer.status == 200, "{pair}: {}", answer.status);
            Ok(())
        })
        .await?;
    }
    let envoys = [callers.of(Pair::ALL[3]), &servers[1]];
    let mut listeners = Vec::new();
    for envoy in envoys {
        listeners.push(listeners_of(envoy).await?);
    }
    for replica in [0, 1] {
        mesh.use_api_of(replica)?;
        for pair in Pair::ALL {
            one_line(mesh, &callers, pair).await.with_context(|| format!("{pair}, at replica {replica}"))?;
        }
    }
    for pair in [Pair::ALL[0], Pair::ALL[3]] {
        filters(mesh, &callers, pair).await.with_context(|| format!("{pair}: filters"))?;
        bounded(mesh, &callers, pair).await.with_context(|| format!("{pair}: bound"))?;
    }
    refusals(mesh).await?;
    killed(mesh, &callers, envoys[0]).await?;
    for (envoy, before) in envoys.into_iter().zip(listeners) {
        let now = listeners_of(envoy).await?;
        ensure!(now == before, "{}: listeners changed: {before:?}, {now:?}", envoy.id());
    }
    Ok(())
}

/// How often an Envoy took listeners, and changed one.
async fn listeners_of(envoy: &Workload) -> anyhow::Result<[u64; 3]> {
    Ok([
        envoy.stat("listener_manager.lds.update_success").await?,
        envoy.stat("listener_manager.listener_modified").await?,
        envoy.stat("listener_manager.total_listeners_draining").await?,
    ])
}

fn between(pair: Pair) -> TapQuery {
    TapQuery {
        source: Some(format!("shop/web-{}", pair.caller.word())),
        destination: Some(format!("shop/{}", catalog(pair.server))),
        ..TapQuery::default()
    }
}

/// Waits for a line.
async fn line(feed: &mut TapFeed, wanted: impl Fn(&TapLine) -> bool) -> anyhow::Result<TapLine> {
    let reading = async {
        loop {
            match feed.next().await?.context("the tap ended")? {
                TapNews::Request(line) if wanted(&line) => return anyhow::Ok(*line),
                TapNews::Request(_) | TapNews::Listening(_) | TapNews::NotShown(_) => {}
            }
        }
    };
    tokio::time::timeout(SOON, reading).await.context("no such line")?
}

/// Waits until so many sidecars are heard, and no other would have to be.
async fn heard(feed: &mut TapFeed, count: usize) -> anyhow::Result<()> {
    let mut last = TapListening::default();
    let reading = async {
        while last.heard != count || !last.unheard.is_empty() || last.unheard_replicas > 0 {
            if let TapNews::Listening(listening) = feed.next().await?.context("the tap ended")? {
                last = listening;
            }
        }
        anyhow::Ok(())
    };
    match tokio::time::timeout(2 * SOON, reading).await {
        Ok(heard) => heard,
        Err(_) => anyhow::bail!("heard is {last:?}"),
    }
}

fn id(answer: &weft_e2e::harness::Answer) -> anyhow::Result<String> {
    let id = answer.headers.get("x-request-id").context("the answer has no x-request-id")?;
    Ok(id.to_str()?.to_owned())
}

/// Asks until a request is seen: sidecars take a moment to hear of a tap.
async fn seen(
    feed: &mut TapFeed,
    calls: &Calls,
    url: &str,
    header: Option<(&str, &str)>,
) -> anyhow::Result<TapLine> {
    let mut last = anyhow::anyhow!("nothing was tried");
    for _ in 0..4 {
        let request = Request::get(url);
        let request = header.into_iter().fold(request, |request, (name, value)| request.header(name, value));
        let id = id(&calls.send(request.body(http_body_util::Full::default())?).await?)?;
        match line(feed, |line| line.request.id == id).await {
            Ok(line) if line.server.is_some() => return Ok(line),
            Ok(line) => last = anyhow::anyhow!("one side alone: {line:#?}"),
            Err(error) => last = error,
        }
    }
    Err(last)
}

async fn one_line(mesh: &Mesh, callers: &Callers, pair: Pair) -> anyhow::Result<()> {
    let (caller, name) = (callers.of(pair), catalog(pair.server));
    let query = TapQuery { headers: vec!["user-agent".to_owned()], ..between(pair) };
    let mut feed = mesh.client().tap(&query).await?;
    heard(&mut feed, 2).await?;
    let url = format!("http://{name}/items?token=secret");
    let line = seen(&mut feed, &caller.calls(), &url, Some(("user-agent", "tester/1"))).await?;
    let (request, server) = (&line.request, line.server.as_ref().context("no server's side")?);
    ensure!(request.hop == Hop::Outbound && request.workload == caller.id(), "{line:#?}");
    ensure!(server.workload == format!("shop/{name}-v1") && server.route.is_some(), "{line:#?}");
    let ends = (request.source.as_ref(), request.destination.as_ref());
    ensure!(ends == (query.source.as_ref(), query.destination.as_ref()), "{line:#?}");
    let asked = (request.method.as_deref(), request.path.as_deref());
    ensure!(asked == (Some("GET"), Some("/items")), "{asked:?}");
    ensure!(request.status == server.status && request.peer == Some(caller.spiffe()), "{line:#?}");
    ensure!(request.duration_ms > 0.0 && request.upstream.is_some(), "{line:#?}");
    let agent = line.request_headers.get("user-agent").map(String::as_str);
    ensure!(agent == Some("tester/1") && line.request_headers.len() == 1, "{line:#?}");
    Ok(())
}

async fn filters(mesh: &Mesh, callers: &Callers, pair: Pair) -> anyhow::Result<()> {
    let (calls, name) = (callers.of(pair).calls(), catalog(pair.server));
    let failed = TapQuery { status: Some("5xx".to_owned()), only_failures: true, ..between(pair) };
    let mut feed = mesh.client().tap(&TapQuery { path: Some("/status".to_owned()), ..failed }).await?;
    seen(&mut feed, &calls, &format!("http://{name}/status/503"), None).await?;
    for other in ["/status/200", "/status/404", "/", "/status/500"] {
        calls.get(&format!("http://{name}{other}")).await?;
    }
    let next = line(&mut feed, |line| line.request.status != Some(503)).await?;
    ensure!(next.request.path.as_deref() == Some("/status/500"), "{next:#?}");
    ensure!(next.request.reason.contains("500"), "{next:#?}");
    Ok(())
}

/// Many at once: no more than 200 a second are shown, and the rest is a number.
async fn bounded(mesh: &Mesh, callers: &Callers, pair: Pair) -> anyhow::Result<()> {
    let (calls, url) = (callers.of(pair).calls(), format!("http://{}/status/200", catalog(pair.server)));
    let mut feed = mesh.client().tap(&TapQuery { path: Some("/status".to_owned()), ..between(pair) }).await?;
    // Until its caller's sidecar is heard, what the called side does not show is counted too.
    heard(&mut feed, 2).await?;
    seen(&mut feed, &calls, &url, None).await?;
    let one = async || {
        for _ in 0..150 {
            calls.get(&url).await?;
        }
        anyhow::Ok(())
    };
    let began = tokio::time::Instant::now();
    let asking = futures::future::try_join_all((0..8).map(|_| one()));
    let (mut shown, mut not_shown) = (0, 0);
    let reading = async {
        while shown + not_shown < 1200 {
            match feed.next().await?.context("the tap ended")? {
                TapNews::Request(_) => shown += 1,
                TapNews::NotShown(count) => not_shown = count.requests,
                TapNews::Listening(_) => {}
            }
        }
        anyhow::Ok(())
    };
    let (asked, read) = tokio::join!(asking, tokio::time::timeout(CONVERGES, reading));
    asked?;
    let seconds = began.elapsed().as_secs() + 2;
    ensure!(shown <= 200 * seconds, "{shown} in {seconds} s");
    match pair.caller {
        Sidecar::Weft => {
            read.with_context(|| format!("{shown} shown, {not_shown} not, of 1200"))??;
            ensure!(shown + not_shown < 1210, "{shown} shown, {not_shown} not, of 1200");
        }
        // It tells a part, by which the rest is guessed.
        Sidecar::Envoy => ensure!(shown + not_shown > 600, "{shown} shown, {not_shown} not, of 1200"),
    }
    ensure!(not_shown > 0, "{shown} of 1200");
    Ok(())
}

async fn refusals(mesh: &Mesh) -> anyhow::Result<()> {
    for (args, words) in [
        (&["tap", "shop/web-wef", "-"][..], "did you mean shop/web-weft?"),
        (&["tap", "-", "-", "--header", "Cookie"], "the values of cookie are secrets"),
        (&["tap", "-", "-", "--status", "teapot"], "\"teapot\" is neither a status"),
    ] {
        let refused = mesh.weft(args).await.expect_err("it is refused").to_string();
        ensure!(refused.contains(words), "{refused}");
    }
    Ok(())
}

/// The command, until it is killed: then Envoys tell nothing any more.
async fn killed(mesh: &mut Mesh, callers: &Callers, envoy: &Workload) -> anyhow::Result<()> {
    ensure!(!runtime(envoy).await?.contains("weft.tap."), "a tap is left over");
    let (api, token) = (mesh.api(), mesh.operator_token()?);
    let mut command = tokio::process::Command::new(ours("weft")?);
    command.args(["--api", &api, "tap", "web-envoy", "-", "-n", "shop"]).env("WEFT_TOKEN", token);
    let mut viewer = command.stdout(Stdio::piped()).kill_on_drop(true).spawn()?;
    let mut lines = BufReader::new(viewer.stdout.take().context("no output")?).lines();
    let head = lines.next_line().await?.context("no head")?;
    ensure!(head.starts_with("TIME     FROM"), "{head}");
    let url = format!("http://{}/items", catalog(Sidecar::Weft));
    let calls = callers.of(Pair::ALL[3]).calls();
    until("the command shows a request", CONVERGES, async || {
        calls.get(&url).await?;
        let line = tokio::time::timeout(Duration::from_secs(2), lines.next_line()).await??;
        let line = line.context("it ended")?;
        ensure!(line.contains("GET /items") && line.chars().count() <= 80, "{line}");
        Ok(())
    })
    .await?;
    ensure!(runtime(envoy).await?.contains("weft.tap.outbound"), "{}", runtime(envoy).await?);
    viewer.kill().await?;
    until("Envoys tell nothing any more", CONVERGES, async || {
        let runtime = runtime(envoy).await?;
        ensure!(!runtime.contains("weft.tap."), "{runtime}");
        Ok(())
    })
    .await
}

async fn runtime(envoy: &Workload) -> anyhow::Result<String> {
    Ok(Calls::direct().get(&format!("{}/runtime", envoy.admin())).await?.body)
}
