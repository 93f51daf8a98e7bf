//! GRPCRoutes choose by service and method, split by weight, and answer in gRPC's own words, on both proxies.

use std::collections::BTreeSet;

use anyhow::{Context as _, ensure};
use tonic::Code;
use weft_e2e::harness::{CONVERGES, Mesh, Options, Pair, Sidecar, StoreKind, Workload, until};

use crate::shop::{Callers, catalog, ids, start_both_versions};

#[tokio::test]
async fn calls_of_grpc_go_by_service_and_method_on_the_embedded_store() {
    Mesh::run(Options::new(StoreKind::Embedded), calls_go_by_service_and_method).await;
}

async fn calls_go_by_service_and_method(mesh: &mut Mesh) -> anyhow::Result<()> {
    let callers = Callers::start(mesh).await?;
    let servers = start_both_versions(mesh).await?;
    mesh.in_sync(&ids(&callers, &servers)).await?;
    mesh.apply(&Sidecar::ALL.map(by_method).join("\n---\n")).await?;
    for pair in Pair::ALL {
        chooses_by_method(callers.of(pair), pair).await.with_context(|| pair.to_string())?;
    }
    names_both_of_two_kinds(mesh).await?;
    mesh.apply(&Sidecar::ALL.map(by_weight).join("\n---\n")).await?;
    for pair in Pair::ALL {
        splits_by_weight(callers.of(pair), pair).await.with_context(|| pair.to_string())?;
    }
    Ok(())
}

/// In Gateway API's own words, but for the subsets.
fn by_method(server: Sidecar) -> String {
    let name = catalog(server);
    format!(
        r"
apiVersion: gateway.networking.k8s.io/v1
kind: GRPCRoute
metadata: {{name: {name}, namespace: shop}}
spec:
  parentRefs: [{{group: '', kind: Service, name: {name}, port: 9000}}]
  rules:
  - matches: [{{method: {{type: Exact, service: weft.demo.v1.EchoService, method: Echo}}}}]
    backendRefs: [{{name: {name}, port: 9000, subset: v2}}]
  - matches: [{{method: {{type: RegularExpression, service: 'weft\.demo\.v[0-9]+\..*', method: 'Ch.t'}}}}]
    backendRefs: [{{name: {name}, port: 9000, subset: v1}}]
  - matches: [{{method: {{service: grpc.health.v1.Health}}}}]
    backendRefs: [{{name: nobody, port: 9000}}]
"
    )
}

fn by_weight(server: Sidecar) -> String {
    let name = catalog(server);
    format!(
        r"
apiVersion: weft.dev/v1
kind: GRPCRoute
metadata: {{name: {name}, namespace: shop}}
spec:
  parentRefs: [{{name: {name}, sectionName: grpc}}]
  rules:
  - matches: [{{method: {{method: Echo}}}}]
    backendRefs:
    - {{name: {name}, port: 9000, subset: v1}}
    - {{name: {name}, port: 9000, subset: v2}}
"
    )
}

fn served_by(server: Sidecar, version: &str) -> String {
    format!("{}-{version}", catalog(server))
}

async fn chooses_by_method(caller: &Workload, pair: Pair) -> anyhow::Result<()> {
    let (calls, authority) = (caller.calls(), format!("{}:9000", catalog(pair.server)));
    until("a call is answered", CONVERGES, async || calls.grpc_unary(&authority).await.map(|_| ())).await?;
    for _ in 0..10 {
        let unary = calls.grpc_unary(&authority).await.context("by service and method")?;
        ensure!(unary.workload == served_by(pair.server, "v2"), "unary: {unary:?}");
        let conversation = calls.grpc_conversation(&authority).await.context("by expressions")?;
        ensure!(conversation.workload == served_by(pair.server, "v1"), "conversation: {conversation:?}");
    }
    let unmatched = code_of(calls.grpc_server_stream(&authority).await)?;
    ensure!(unmatched == Code::Unimplemented, "no rule fits: {unmatched:?}");
    let nowhere = code_of(calls.grpc_health(&authority).await)?;
    ensure!(nowhere == Code::Unavailable, "no backend: {nowhere:?}");
    Ok(())
}

async fn splits_by_weight(caller: &Workload, pair: Pair) -> anyhow::Result<()> {
    let (calls, authority) = (caller.calls(), format!("{}:9000", catalog(pair.server)));
    let mut seen = BTreeSet::new();
    for _ in 0..60 {
        seen.insert(calls.grpc_unary(&authority).await?.workload);
    }
    let both = BTreeSet::from(["v1", "v2"].map(|version| served_by(pair.server, version)));
    ensure!(seen == both, "halves: {seen:?}");
    Ok(())
}

fn code_of<T: std::fmt::Debug>(called: anyhow::Result<T>) -> anyhow::Result<Code> {
    match called {
        Ok(answer) => anyhow::bail!("it was answered: {answer:?}"),
        Err(error) => Ok(error.downcast_ref::<tonic::Status>().with_context(|| format!("{error:#}"))?.code()),
    }
}

/// An HTTPRoute of the same port is refused, by the names of both.
async fn names_both_of_two_kinds(mesh: &Mesh) -> anyhow::Result<()> {
    let name = catalog(Sidecar::Weft);
    let route = format!(
        "apiVersion: weft.dev/v1\nkind: HTTPRoute\nmetadata: {{name: too, namespace: shop}}\n\
         spec: {{parentRefs: [{{name: {name}, port: 9000}}], rules: [{{backendRefs: [{{name: {name}, port: 9000}}]}}]}}\n"
    );
    let answer = mesh.call("POST", "/v1/apply", &route).await?;
    ensure!(answer.status == 409, "{} {}", answer.status, answer.body);
    let named = format!("HTTPRoute shop/too and GRPCRoute shop/{name} both route requests");
    ensure!(answer.body.contains(&named), "{}", answer.body);
    Ok(())
}
