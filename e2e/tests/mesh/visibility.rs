//! With `Mesh.defaults.view: Declared` a proxy is told of what it declares and of what names it; with a default of Deny, of
//! what an Allow permits. What is left out answers with its reason, and narrowing a view fails no request.

use anyhow::{Context as _, ensure};
use weft_e2e::harness::{CONVERGES, Calls, Mesh, Options, Pair, Sidecar, StoreKind, Workload, until};

use crate::shop::{Callers, catalog, start_catalog, tcp_port};
use crate::steady::Loads;

#[tokio::test]
async fn proxies_are_told_of_what_they_declare_or_may_call_on_the_embedded_store() {
    Mesh::run(Options::new(StoreKind::Embedded), told_of_what_they_declare_or_may_call).await;
}

async fn told_of_what_they_declare_or_may_call(mesh: &mut Mesh) -> anyhow::Result<()> {
    let callers = Callers::start(mesh).await?;
    let mut servers = Vec::new();
    for beside in Sidecar::ALL {
        servers.push(start_catalog(mesh, beside, "v1").await?);
    }
    mesh.apply(STOCK).await?;
    let ids: Vec<&str> = callers.ids().into_iter().chain(servers.iter().map(Workload::id)).collect();
    mesh.in_sync(&ids).await?;
    let loads = Loads::start(&callers).await?;
    for pair in Pair::ALL {
        answers(callers.of(pair), "stock", 503, "").await.with_context(|| format!("{pair}: all are seen"))?;
        has_cluster(callers.of(pair), "shop/stock/http", true).await?;
    }

    mesh.apply(&posture("Declared", "Allow")).await?;
    for pair in Pair::ALL {
        let caller = callers.of(pair);
        answers(caller, "stock", 502, "is told of no service with this host name").await?;
        has_cluster(caller, "shop/stock/http", false).await?;
        has_cluster(caller, &format!("shop/{}/http", catalog(pair.server)), true).await?;
    }
    loads.next_era(100).await.context("what is declared goes on")?;

    mesh.apply(&allow("stock", "web-weft")).await?;
    let named = callers.of(Pair { caller: Sidecar::Weft, server: Sidecar::Weft });
    answers(named, "stock", 503, "").await.context("it is named by an Allow")?;
    let other = callers.of(Pair { caller: Sidecar::Envoy, server: Sidecar::Weft });
    answers(other, "stock", 502, "is told of no service with this host name").await?;
    loads.end_without_failure().await?;

    mesh.apply(&[posture("Declared", "Deny"), allow(&catalog(Sidecar::Weft), "web-weft")].join("---\n"))
        .await?;
    for pair in Pair::ALL {
        let (caller, server) = (callers.of(pair), catalog(pair.server));
        let port = std::net::SocketAddr::new(caller.address().into(), tcp_port(pair.server));
        if pair.caller == Sidecar::Weft && pair.server == Sidecar::Weft {
            answers(caller, &server, 200, "").await.with_context(|| format!("{pair}: allowed"))?;
            Calls::tcp(port).await.with_context(|| format!("{pair}: allowed over TCP"))?;
        } else {
            let reason = "to call a service with this host name, or there is no such service";
            answers(caller, &server, 403, reason).await.with_context(|| format!("{pair}: not allowed"))?;
            ensure!(Calls::tcp(port).await.is_err(), "{pair}: a connection that nothing allows");
        }
    }
    Ok(())
}

const STOCK: &str = "{apiVersion: weft.dev/v1, kind: Service, metadata: {name: stock, namespace: shop}, \
                     spec: {ports: [{name: http, port: 80, protocol: HTTP}]}}";

fn posture(view: &str, authorization: &str) -> String {
    format!(
        "apiVersion: weft.dev/v1\nkind: Mesh\nmetadata: {{name: mesh}}\n\
         spec: {{defaults: {{view: {view}, authorization: {authorization}}}}}\n"
    )
}

fn allow(target: &str, caller: &str) -> String {
    format!(
        "apiVersion: weft.dev/v1\nkind: AuthorizationPolicy\nmetadata: {{name: to-{target}, namespace: shop}}\n\
         spec: {{targetRefs: [{{kind: Service, name: {target}}}], action: Allow, \
         rules: [{{from: [{{services: [{caller}]}}]}}]}}\n"
    )
}

async fn answers(caller: &Workload, host: &str, status: u16, words: &str) -> anyhow::Result<()> {
    let (calls, url) = (caller.calls(), format!("http://{host}/"));
    until("the answer is the expected one", CONVERGES, async || {
        let answer = calls.get(&url).await?;
        ensure!(answer.status == status && answer.body.contains(words), "{} {}", answer.status, answer.body);
        Ok(())
    })
    .await
    .with_context(|| format!("{} calls {host}", caller.id()))
}

async fn has_cluster(caller: &Workload, cluster: &str, wanted: bool) -> anyhow::Result<()> {
    let url = format!("{}/clusters", caller.admin());
    until("the proxy's clusters are the expected ones", CONVERGES, async || {
        let clusters = Calls::direct().get(&url).await?.body;
        let has = clusters.lines().any(|line| line.starts_with(&format!("{cluster}::")));
        ensure!(has == wanted, "{} has {cluster}: {has}", caller.id());
        Ok(())
    })
    .await
}
