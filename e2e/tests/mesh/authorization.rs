//! A Deny takes effect, a miss of all Allows too, and the refusal names what refused, on both proxies.

use anyhow::{Context as _, ensure};
use weft_e2e::harness::{CONVERGES, Calls, Mesh, Options, Pair, Sidecar, StoreKind, until};

use crate::shop::{Callers, catalog, start_catalog, tcp_port};
use crate::steady::Loads;

#[tokio::test]
async fn refusals_name_policy_and_rule_on_the_embedded_store() {
    Mesh::run(Options::new(StoreKind::Embedded), refusals_name_policy_and_rule).await;
}

#[tokio::test]
async fn refusals_name_policy_and_rule_on_etcd() {
    Mesh::run(Options::new(StoreKind::Etcd), refusals_name_policy_and_rule).await;
}

async fn refusals_name_policy_and_rule(mesh: &mut Mesh) -> anyhow::Result<()> {
    let callers = Callers::start(mesh).await?;
    let mut ids: Vec<String> = callers.ids().into_iter().map(str::to_owned).collect();
    let mut servers = Vec::new();
    for beside in Sidecar::ALL {
        servers.push(start_catalog(mesh, beside, "v1").await?);
    }
    ids.extend(servers.iter().map(|server| server.id().to_owned()));
    mesh.in_sync(&ids.iter().map(String::as_str).collect::<Vec<_>>()).await?;
    let loads = Loads::start(&callers).await?;
    for pair in Pair::ALL {
        let answer = callers.of(pair).calls().get(&format!("http://{}/admin", catalog(pair.server))).await?;
        ensure!(answer.status == 200, "{pair}: before any policy: {} {}", answer.status, answer.body);
    }

    mesh.apply(&Sidecar::ALL.map(deny).join("\n---\n")).await?;
    for pair in Pair::ALL {
        denies(&callers, pair).await.with_context(|| format!("{pair}: Deny"))?;
    }
    loads.next_era(100).await.context("requests that no rule speaks of")?;
    loads.end_without_failure().await?;

    mesh.apply(&Sidecar::ALL.map(allow).join("\n---\n")).await?;
    for pair in Pair::ALL {
        allows(&callers, pair).await.with_context(|| format!("{pair}: Allow"))?;
        allows_connections(&callers, pair).await.with_context(|| format!("{pair}: Allow on TCP"))?;
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
  targetRefs: [{{kind: Service, name: {name}}}]
  action: Deny
  rules:
  - name: admin-paths
    from: [{{services: [web-weft, web-envoy]}}]
    to: [{{paths: [{{type: PathPrefix, value: /admin}}]}}]
"
    )
}

/// Only `web-weft` may open TCP connections, and on HTTP only `/public` is open to all.
fn allow(server: Sidecar) -> String {
    let name = catalog(server);
    format!(
        r"
apiVersion: weft.dev/v1
kind: AuthorizationPolicy
metadata: {{name: public-{name}, namespace: shop}}
spec:
  targetRefs: [{{kind: Service, name: {name}, sectionName: http}}]
  action: Allow
  rules:
  - name: everyone
    to: [{{paths: [{{type: PathPrefix, value: /public}}]}}]
---
apiVersion: weft.dev/v1
kind: AuthorizationPolicy
metadata: {{name: ledger-{name}, namespace: shop}}
spec:
  targetRefs: [{{kind: Service, name: {name}, sectionName: tcp}}]
  action: Allow
  rules:
  - name: weft-only
    from: [{{services: [web-weft]}}]
"
    )
}

async fn denies(callers: &Callers, pair: Pair) -> anyhow::Result<()> {
    let (calls, name) = (callers.of(pair).calls(), catalog(pair.server));
    // The path is normalised before it is judged, whoever normalises it first.
    for path in ["/admin", "/admin/users", "/x/../admin", "//admin"] {
        let url = format!("http://{name}{path}");
        let answer = calls.get(&url).await?;
        ensure!(answer.status == 403, "{path}: {} {}", answer.status, answer.body);
        let rule = format!("shop/no-admin-{name}/admin-paths");
        ensure!(answer.body.contains(&rule), "{path}: the refusal does not name {rule}: {}", answer.body);
    }
    let other = calls.get(&format!("http://{name}/administration")).await?;
    ensure!(other.status == 200, "a path that only begins like it: {} {}", other.status, other.body);
    Ok(())
}

async fn allows(callers: &Callers, pair: Pair) -> anyhow::Result<()> {
    let (calls, name) = (callers.of(pair).calls(), catalog(pair.server));
    let missed = calls.get(&format!("http://{name}/private")).await?;
    ensure!(missed.status == 403, "{} {}", missed.status, missed.body);
    let policy = format!("shop/public-{name}");
    ensure!(missed.body.contains(&policy), "the refusal does not name {policy}: {}", missed.body);
    let open = calls.get(&format!("http://{name}/public/x")).await?;
    ensure!(open.status == 200, "{} {}", open.status, open.body);
    Ok(())
}

async fn allows_connections(callers: &Callers, pair: Pair) -> anyhow::Result<()> {
    let caller = callers.of(pair);
    let local = (caller.address(), tcp_port(pair.server)).into();
    let allowed = pair.caller == Sidecar::Weft;
    // The listener with the new rule takes over from the old one.
    until("the rule holds for new connections", CONVERGES, async || {
        let connected = Calls::tcp(local).await;
        ensure!(connected.is_ok() == allowed, "allowed: {allowed}, but {connected:?}");
        Ok(())
    })
    .await
}

#[tokio::test]
async fn policy_that_is_tried_refuses_nothing_and_is_counted() {
    Mesh::run(Options::new(StoreKind::Embedded), tried_policy_is_counted).await;
}

async fn tried_policy_is_counted(mesh: &mut Mesh) -> anyhow::Result<()> {
    let callers = Callers::start(mesh).await?;
    let mut servers = Vec::new();
    for beside in Sidecar::ALL {
        servers.push(start_catalog(mesh, beside, "v1").await?);
    }
    let mut ids: Vec<&str> = callers.ids().into_iter().collect();
    ids.extend(servers.iter().map(|server| server.id()));
    mesh.in_sync(&ids).await?;
    mesh.apply(&Sidecar::ALL.map(tried).join("\n---\n")).await?;
    for pair in Pair::ALL {
        let (caller, name) = (callers.of(pair), catalog(pair.server));
        let counted = format!("shop/{name}:http ");
        let connections = format!("shop/{name}:tcp ");
        let local = (caller.address(), tcp_port(pair.server)).into();
        until("what would be refused is told", SHADOWS, async || {
            for path in ["/admin", "/other"] {
                let answer = caller.calls().get(&format!("http://{name}{path}")).await?;
                ensure!(answer.status == 200, "{pair} {path}: {} {}", answer.status, answer.body);
            }
            Calls::tcp(local).await.with_context(|| format!("{pair}: a connection"))?;
            let text = mesh.weft(&["get", "edges"]).await?;
            let told =
                |port: &str| text.lines().any(|line| line.starts_with("shadow: at ") && line.contains(port));
            ensure!(told(&counted) && told(&connections), "{pair}: {text}");
            let policy = format!("tried-{name}");
            let described = mesh.weft(&["describe", "authorizationpolicy", &policy, "-n", "shop"]).await?;
            ensure!(described.contains("would be refused"), "{described}");
            Ok(())
        })
        .await?;
    }
    let enforced = Sidecar::ALL.map(tried).join("\n---\n").replace("mode: Shadow", "mode: Enforce");
    mesh.apply(&enforced).await?;
    for pair in Pair::ALL {
        let (calls, name) = (callers.of(pair).calls(), catalog(pair.server));
        until("it is enforced", CONVERGES, async || {
            let refused = calls.get(&format!("http://{name}/admin")).await?;
            ensure!(refused.status == 403, "{pair}: {} {}", refused.status, refused.body);
            Ok(())
        })
        .await?;
        let other = calls.get(&format!("http://{name}/other")).await?;
        ensure!(other.status == 200, "{pair}: {} {}", other.status, other.body);
    }
    Ok(())
}

/// A Deny of some requests, and an Allow of connections that nobody opens.
fn tried(server: Sidecar) -> String {
    let name = catalog(server);
    format!(
        r"
apiVersion: weft.dev/v1
kind: AuthorizationPolicy
metadata: {{name: tried-{name}, namespace: shop}}
spec:
  targetRefs: [{{kind: Service, name: {name}, sectionName: http}}]
  action: Deny
  mode: Shadow
  rules:
  - name: admin-paths
    to: [{{paths: [{{type: PathPrefix, value: /admin}}]}}]
---
apiVersion: weft.dev/v1
kind: AuthorizationPolicy
metadata: {{name: tried-tcp-{name}, namespace: shop}}
spec:
  targetRefs: [{{kind: Service, name: {name}, sectionName: tcp}}]
  action: Allow
  mode: Shadow
  rules:
  - from: [{{namespaces: [elsewhere]}}]
"
    )
}

/// Reports come each 5 s, the first of a proxy tells nothing of what was before.
const SHADOWS: std::time::Duration = std::time::Duration::from_secs(60);
