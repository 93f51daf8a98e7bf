//! What failed or was refused is told to the control plane by both proxies, and explained by the id that the answer carries.

use anyhow::{Context as _, ensure};
use http::HeaderMap;
use weft_api::rest::{Hop, RequestRecord};
use weft_e2e::harness::{CONVERGES, Calls, Mesh, Options, Pair, Sidecar, StoreKind, until};

use crate::shop::{Callers, catalog, start_catalog, tcp_port};

#[tokio::test]
async fn failures_are_explained_hop_by_hop_on_the_embedded_store() {
    Mesh::run(Options::new(StoreKind::Embedded), failures_are_explained).await;
}

async fn failures_are_explained(mesh: &mut Mesh) -> anyhow::Result<()> {
    let callers = Callers::start(mesh).await?;
    let mut servers = Vec::new();
    for beside in Sidecar::ALL {
        servers.push(start_catalog(mesh, beside, "v1").await?);
    }
    let ids: Vec<&str> = callers.ids().into_iter().chain(servers.iter().map(|server| server.id())).collect();
    mesh.in_sync(&ids).await?;
    mesh.apply(&Sidecar::ALL.map(deny).join("\n---\n")).await?;
    for pair in Pair::ALL {
        refused_requests(mesh, &callers, pair).await.with_context(|| format!("{pair}: refused"))?;
        refused_connections(mesh, &callers, pair).await.with_context(|| format!("{pair}: TCP"))?;
    }
    for pair in [Pair::ALL[0], Pair::ALL[3]] {
        unknown_hosts(mesh, &callers, pair).await.with_context(|| format!("{pair}: unknown host"))?;
    }
    for (server, beside) in servers.iter_mut().zip(Sidecar::ALL) {
        plain_text(mesh, server.inbound(), server.id())
            .await
            .with_context(|| format!("{beside:?}: plain text"))?;
        server.end_app().await?;
    }
    for pair in Pair::ALL {
        applications_that_are_down(mesh, &callers, pair).await.with_context(|| format!("{pair}: down"))?;
    }
    Ok(())
}

#[tokio::test]
async fn failures_are_told_by_every_replica() {
    Mesh::run(Options::new(StoreKind::Etcd).replicas(2), told_by_every_replica).await;
}

/// Each sidecar tells the replica that it is connected to, and whichever is asked answers for all.
async fn told_by_every_replica(mesh: &mut Mesh) -> anyhow::Result<()> {
    let callers = Callers::start(mesh).await?;
    let mut servers = Vec::new();
    for beside in Sidecar::ALL {
        servers.push(start_catalog(mesh, beside, "v1").await?);
    }
    mesh.apply(&Sidecar::ALL.map(deny).join("\n---\n")).await?;
    for pair in Pair::ALL {
        let answer = callers.of(pair).calls().get(&format!("http://{}/admin", catalog(pair.server))).await?;
        ensure!(answer.status == 403, "{} {}", answer.status, answer.body);
        let id = id(&answer.headers)?;
        for replica in [0, 1] {
            mesh.use_api_of(replica)?;
            let told = hops(mesh, &id, 2).await.with_context(|| format!("{pair} at replica {replica}"))?;
            ensure!((told[0].hop, told[1].hop) == (Hop::Outbound, Hop::Inbound), "{told:#?}");
            let list = mesh.client().requests(None, None).await?;
            ensure!(
                list.unheard == 0 && list.items.iter().filter(|one| one.id == id).count() == 2,
                "{list:#?}"
            );
        }
    }
    Ok(())
}

fn deny(server: Sidecar) -> String {
    let name = catalog(server);
    format!(
        r"
apiVersion: weft.dev/v1
kind: AuthorizationPolicy
metadata: {{name: no-admin-{name}, namespace: shop}}
spec:
  targetRefs: [{{kind: Service, name: {name}, sectionName: http}}]
  action: Deny
  rules:
  - name: admin-paths
    from: [{{namespaces: [shop]}}]
    to: [{{paths: [{{type: PathPrefix, value: /admin}}]}}]
---
apiVersion: weft.dev/v1
kind: AuthorizationPolicy
metadata: {{name: no-tcp-{name}, namespace: shop}}
spec:
  targetRefs: [{{kind: Service, name: {name}, sectionName: tcp}}]
  action: Deny
  rules: [{{name: nobody, from: [{{namespaces: [shop]}}]}}]
"
    )
}

fn id(headers: &HeaderMap) -> anyhow::Result<String> {
    let id = headers.get("x-request-id").context("the answer has no x-request-id")?;
    Ok(id.to_str()?.to_owned())
}

/// Waits until so many hops of a request are known.
async fn hops(mesh: &Mesh, id: &str, count: usize) -> anyhow::Result<Vec<RequestRecord>> {
    let mut found = Vec::new();
    until(&format!("{count} hops of {id} are known"), CONVERGES, async || {
        found = mesh.client().request_by_id(id).await?.items;
        ensure!(found.len() == count, "{found:#?}");
        Ok(())
    })
    .await?;
    Ok(found)
}

async fn refused_requests(mesh: &Mesh, callers: &Callers, pair: Pair) -> anyhow::Result<()> {
    let (caller, name) = (callers.of(pair), catalog(pair.server));
    let answer = caller.calls().get(&format!("http://{name}/admin?token=secret")).await?;
    ensure!(answer.status == 403, "{} {}", answer.status, answer.body);
    let id = id(&answer.headers)?;
    let hops = hops(mesh, &id, 2).await?;
    let [outbound, inbound] = &hops[..] else { anyhow::bail!("{hops:#?}") };
    ensure!((outbound.hop, inbound.hop) == (Hop::Outbound, Hop::Inbound), "{hops:#?}");
    let (server, service) = (format!("shop/{name}-v1"), format!("shop/{name}"));
    let rule = format!("shop/no-admin-{name}/admin-paths");
    ensure!(outbound.workload == caller.id() && inbound.workload == server, "{hops:#?}");
    ensure!(inbound.policy.as_deref() == Some(&rule) && inbound.peer == Some(caller.spiffe()), "{hops:#?}");
    let caller_service = format!("shop/web-{}", pair.caller.word());
    for hop in &hops {
        ensure!(hop.source.as_ref() == Some(&caller_service), "{hop:#?}");
        ensure!(hop.destination.as_ref() == Some(&service) && hop.status == Some(403), "{hop:#?}");
        ensure!(hop.path.as_deref() == Some("/admin") && hop.method.as_deref() == Some("GET"), "{hop:#?}");
    }
    ensure!(outbound.upstream.is_some() && inbound.route.is_some(), "{hops:#?}");
    let said = mesh.weft(&["explain", "--request-id", &id]).await?;
    ensure!(said.contains(&format!("rule {rule} denies this to {}", caller.spiffe())), "{said}");
    let recent = mesh.weft(&["explain", "--recent", &caller_service, &service]).await?;
    ensure!(recent.contains(&id), "{recent}");
    Ok(())
}

async fn refused_connections(mesh: &Mesh, callers: &Callers, pair: Pair) -> anyhow::Result<()> {
    let caller = callers.of(pair);
    let service = format!("shop/{}", catalog(pair.server));
    let local = (caller.address(), tcp_port(pair.server)).into();
    until("the connection is refused, and the refusal told", CONVERGES, async || {
        ensure!(Calls::tcp(local).await.is_err(), "it is let in");
        let caller_service = format!("shop/web-{}", pair.caller.word());
        let told = mesh.client().requests(Some(&caller_service), Some(&service)).await?;
        let rule = format!("shop/no-tcp-{}/nobody", catalog(pair.server));
        let refusal = told.items.iter().find(|record| record.policy.as_deref() == Some(&rule));
        let refusal = refusal.with_context(|| format!("{told:#?}"))?;
        ensure!(refusal.protocol == "TCP" && refusal.peer == Some(caller.spiffe()), "{refusal:#?}");
        Ok(())
    })
    .await
}

async fn unknown_hosts(mesh: &Mesh, callers: &Callers, pair: Pair) -> anyhow::Result<()> {
    let caller = callers.of(pair);
    let answer = caller.calls().get("http://nowhere.example/x").await?;
    ensure!(answer.status == 502, "{} {}", answer.status, answer.body);
    let hops = hops(mesh, &id(&answer.headers)?, 1).await?;
    ensure!(hops[0].authority.as_deref() == Some("nowhere.example"), "{hops:#?}");
    ensure!(hops[0].reason.contains("no service of the mesh has this host name"), "{hops:#?}");
    Ok(())
}

async fn plain_text(mesh: &Mesh, inbound: std::net::SocketAddr, workload: &str) -> anyhow::Result<()> {
    until("plain text at the mutual TLS port is told", CONVERGES, async || {
        ensure!(Calls::direct().get(&format!("http://{inbound}/")).await.is_err(), "it is answered");
        let told = mesh.client().requests(None, None).await?;
        let of_it = |record: &&RequestRecord| {
            record.workload == workload && record.reason.contains("plain text where TLS is expected")
        };
        told.items.iter().find(of_it).with_context(|| format!("{told:#?}"))?;
        Ok(())
    })
    .await
}

async fn applications_that_are_down(mesh: &Mesh, callers: &Callers, pair: Pair) -> anyhow::Result<()> {
    let (caller, name) = (callers.of(pair), catalog(pair.server));
    let answer = caller.calls().get(&format!("http://{name}/")).await?;
    ensure!(answer.status == 503, "{} {}", answer.status, answer.body);
    let hops = hops(mesh, &id(&answer.headers)?, 2).await?;
    let inbound = &hops[1];
    ensure!(
        inbound.workload == format!("shop/{name}-v1") && inbound.flags.contains(&"UF".to_owned()),
        "{hops:#?}"
    );
    ensure!(inbound.reason.contains("the application does not answer on 127.0.0.1:"), "{hops:#?}");
    ensure!(inbound.reason.contains("(connection refused)"), "{hops:#?}");
    Ok(())
}
