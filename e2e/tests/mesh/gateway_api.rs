//! Documents of the shape of Gateway API's mesh conformance profile give the answers that it expects, on both proxies: a
//! Service in front of two versions, producer and consumer routes, and a file that is for Kubernetes too.

use std::collections::BTreeMap;

use anyhow::{Context as _, ensure};
use bytes::Bytes;
use http::{HeaderMap, Request};
use http_body_util::Full;
use weft_e2e::harness::{Answer, CONVERGES, Mesh, Options, Sidecar, StoreKind, Workload, until};

use crate::shop::{service, start_catalog};

/// What Kubernetes takes, in front of the routes.
const FOR_OTHERS: &str = r#"
apiVersion: v1
kind: Namespace
metadata: {name: shop, labels: {mesh: "yes"}}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: front, namespace: shop}
spec: {selector: {matchLabels: {app: front}}}
---
apiVersion: v1
kind: Service
metadata: {name: front, namespace: shop}
spec: {ports: [{name: http, port: 80, appProtocol: http}]}
---
apiVersion: gateway.networking.k8s.io/v1
kind: GatewayClass
metadata: {name: mesh}
spec: {controllerName: example.com/none}
"#;

/// `front` has no members: all that is asked of it goes to `catalog-weft`, version 1 here, and `catalog-envoy`, version 2.
const ROUTES: &str = r#"
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: matching, namespace: shop}
spec:
  parentRefs: [{group: "", kind: Service, name: front, port: 80}]
  rules:
  - name: by-path-or-header
    matches: [{path: {type: PathPrefix, value: /}}, {headers: [{name: version, value: one}]}]
    backendRefs: [{name: catalog-weft, port: 80}]
  - matches: [{path: {type: PathPrefix, value: /v2}}, {headers: [{name: version, value: two}]}]
    backendRefs: [{name: catalog-envoy, port: 80}]
  - matches: [{queryParams: [{name: animal, value: whale}]}, {queryParams: [{name: animal, value: shark}, {name: color, value: grey}]}]
    backendRefs: [{name: catalog-envoy, port: 80}]
---
apiVersion: gateway.networking.k8s.io/v1beta1
kind: HTTPRoute
metadata: {name: changing, namespace: shop}
spec:
  parentRefs: [{group: "", kind: Service, name: front, sectionName: http}]
  rules:
  - matches: [{path: {type: PathPrefix, value: /prefix/one}}]
    filters:
    - {type: URLRewrite, urlRewrite: {path: {type: ReplacePrefixMatch, replacePrefixMatch: /echo}}}
    - type: RequestHeaderModifier
      requestHeaderModifier:
        set: [{name: X-Set, value: set-overwrites}]
        add: [{name: X-Add, value: add-appends}]
        remove: [X-Remove]
    - {type: ResponseHeaderModifier, responseHeaderModifier: {set: [{name: X-Answer, value: changed}]}}
    backendRefs: [{name: catalog-weft, port: 80}]
    timeouts: {request: 5s, backendRequest: 2s}
  - matches: [{path: {type: PathPrefix, value: /full/one}}]
    filters: [{type: URLRewrite, urlRewrite: {path: {type: ReplaceFullPath, replaceFullPath: /echo}}}]
    backendRefs: [{name: catalog-envoy, port: 80}]
---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: redirecting, namespace: shop}
spec:
  parentRefs: [{group: "", kind: Service, name: front, port: 80}]
  rules:
  - matches: [{path: {type: PathPrefix, value: /host}}]
    filters: [{type: RequestRedirect, requestRedirect: {hostname: example.org}}]
  - matches: [{path: {type: PathPrefix, value: /see-other}}]
    filters: [{type: RequestRedirect, requestRedirect: {hostname: example.org, statusCode: 303}}]
  - matches: [{path: {type: PathPrefix, value: /port}}]
    filters: [{type: RequestRedirect, requestRedirect: {port: 8083, statusCode: 307}}]
  - matches: [{path: {type: PathPrefix, value: /scheme}}]
    filters: [{type: RequestRedirect, requestRedirect: {scheme: https, statusCode: 308}}]
  - matches: [{path: {type: PathPrefix, value: /old}}]
    filters: [{type: RequestRedirect, requestRedirect: {path: {type: ReplacePrefixMatch, replacePrefixMatch: /new}, statusCode: 301}}]
  - matches: [{path: {type: PathPrefix, value: /all}}]
    filters: [{type: RequestRedirect, requestRedirect: {path: {type: ReplaceFullPath, replaceFullPath: /whole}}}]
---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: by-host, namespace: shop}
spec:
  parentRefs: [{group: "", kind: Service, name: front, port: 80}]
  hostnames: [front.shop.mesh]
  rules: [{backendRefs: [{name: catalog-envoy, port: 80}]}]
---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: splitting, namespace: shop}
spec:
  parentRefs: [{group: "", kind: Service, name: front, port: 8081}]
  rules: [{backendRefs: [{name: catalog-weft, port: 80, weight: 70}, {name: catalog-envoy, port: 80, weight: 30}]}]
---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: one-port, namespace: shop}
spec:
  parentRefs: [{group: "", kind: Service, name: catalog-weft, port: 80}]
  rules:
  - filters: [{type: ResponseHeaderModifier, responseHeaderModifier: {set: [{name: X-Port, value: one}]}}]
    backendRefs: [{name: catalog-weft, port: 80}]
---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: consumer, namespace: test}
spec:
  parentRefs: [{group: "", kind: Service, name: catalog-envoy, namespace: shop}]
  rules:
  - filters: [{type: ResponseHeaderModifier, responseHeaderModifier: {set: [{name: X-Consumer, value: test}]}}]
    backendRefs: [{name: catalog-envoy, namespace: shop, port: 80}]
---
apiVersion: gateway.networking.k8s.io/v1
kind: GRPCRoute
metadata: {name: calls, namespace: shop}
spec:
  parentRefs: [{group: "", kind: Service, name: front, port: 9000}]
  rules:
  - matches: [{method: {service: weft.demo.v1.EchoService, method: Echo}}]
    filters: [{type: RequestHeaderModifier, requestHeaderModifier: {set: [{name: X-Set, value: one}]}}]
    backendRefs: [{name: catalog-weft, port: 9000, weight: 1}, {name: catalog-envoy, port: 9000, weight: 0}]
  - backendRefs: [{name: catalog-envoy, port: 9000}]
"#;

const V1: &str = "catalog-weft-v1";
const V2: &str = "catalog-envoy-v1";

#[tokio::test]
async fn documents_of_gateway_api_give_the_answers_of_its_mesh_profile() {
    Mesh::run(Options::new(StoreKind::Embedded), gives_the_answers).await;
}

async fn gives_the_answers(mesh: &mut Mesh) -> anyhow::Result<()> {
    let names = ["front", "catalog-weft", "catalog-envoy", "web-weft", "web-envoy"];
    let ours = names.map(service).join("---\n");
    let consumers =
        ["job-weft", "job-envoy"].map(service).join("---\n").replace("namespace: shop", "namespace: test");
    mesh.apply(&format!("{ours}---\n{consumers}")).await?;
    let file = mesh.dir().join("routes.yaml");
    std::fs::write(&file, format!("{FOR_OTHERS}---\n{ROUTES}"))?;
    let file = file.display().to_string();
    let said = mesh.weft(&["apply", "-f", &file]).await?;
    for (kind, line) in [
        ("Namespace shop", 3),
        ("Deployment shop/front", 7),
        ("Service shop/front", 12),
        ("GatewayClass", 17),
    ] {
        let kind_alone = kind.split(' ').next().unwrap_or_default();
        let place = format!("{file}:{line}:");
        let named = said
            .lines()
            .any(|one| one.contains(&place) && one.contains(kind_alone) && one.contains("left out"));
        ensure!(named, "{kind} on line {line}: {said}");
    }
    let valid = mesh.weft(&["validate", "-f", &file]).await?;
    ensure!(valid.contains("8 documents are valid") && valid.contains("left out"), "{valid}");

    let mut callers = BTreeMap::new();
    for (service, beside) in
        ["shop/web", "test/job"].into_iter().flat_map(|one| Sidecar::ALL.map(|beside| (one, beside)))
    {
        let workload = mesh.workload(&format!("{service}-{}", beside.word())).beside(beside).start().await?;
        callers.insert((service, beside.word()), workload);
    }
    let servers =
        [start_catalog(mesh, Sidecar::Weft, "v1").await?, start_catalog(mesh, Sidecar::Envoy, "v1").await?];
    let ids: Vec<&str> = callers.values().chain(&servers).map(Workload::id).collect();
    mesh.in_sync(&ids).await?;
    for ((service, beside), caller) in &callers {
        let asked = if *service == "shop/web" { produces(caller).await } else { consumes(caller).await };
        asked.with_context(|| format!("{service}, beside {beside}"))?;
    }
    Ok(())
}

async fn produces(caller: &Workload) -> anyhow::Result<()> {
    for url in ["http://front/", "http://front.shop.mesh/"] {
        until("it is answered", CONVERGES, async || caller.calls().get(url).await?.tree().map(|_| ()))
            .await?;
    }
    for (path, headers, expected) in [
        ("/", &[][..], V1),
        ("/v2", &[], V2),
        ("/v2example", &[], V1),
        ("/", &[("version", "one")], V1),
        ("/", &[("version", "two")], V2),
        ("/v2/example", &[("version", "one")], V2),
        ("/?animal=whale", &[], V2),
        ("/?animal=shark", &[], V1),
        ("/?animal=shark&color=grey", &[], V2),
    ] {
        let tree = ask(caller, &format!("http://front{path}"), headers).await?.tree()?;
        ensure!(tree.workload == expected, "{path} {headers:?}: {}", tree.workload);
    }
    redirects(caller).await?;
    changes(caller).await?;
    let by_host = ask(caller, "http://front.shop.mesh:80/see-other-no", &[]).await?.tree()?;
    ensure!(by_host.workload == V2, "the host wins over any path: {}", by_host.workload);

    let mut split = BTreeMap::new();
    for _ in 0..200 {
        *split.entry(ask(caller, "http://front:8081/", &[]).await?.tree()?.workload).or_insert(0) += 1;
    }
    let share = split.get(V2).copied().unwrap_or_default();
    ensure!((30..=95).contains(&share), "30 of 100: {split:?}");

    let own = |port: u16| format!("http://catalog-weft:{port}/");
    ensure!(ask(caller, &own(80), &[]).await?.headers.contains_key("x-port"), "the port of the route");
    ensure!(!ask(caller, &own(8081), &[]).await?.headers.contains_key("x-port"), "a port of no route");
    let unmodified = ask(caller, "http://catalog-envoy.shop/", &[]).await?;
    ensure!(!unmodified.headers.contains_key("x-consumer"), "another namespace's route: {unmodified:?}");

    let unary = caller.calls().grpc_unary("front:9000").await?;
    ensure!(unary.workload == V1, "by service and method: {unary:?}");
    let stream = caller.calls().grpc_server_stream("front:9000").await?;
    ensure!(stream.workload == V2, "all other calls: {stream:?}");
    Ok(())
}

/// Any port of the parent, for callers of the route's own namespace.
async fn consumes(caller: &Workload) -> anyhow::Result<()> {
    for url in ["http://catalog-envoy.shop/", "http://catalog-envoy.shop:8081/"] {
        until("the consumer's route holds", CONVERGES, async || {
            let answer = caller.calls().get(url).await?;
            ensure!(answer.tree()?.workload == V2, "{answer:?}");
            ensure!(answer.headers.contains_key("x-consumer"), "{url}: {answer:?}");
            Ok(())
        })
        .await?;
    }
    Ok(())
}

async fn redirects(caller: &Workload) -> anyhow::Result<()> {
    for (path, status, location) in [
        ("/host", 302, "http://example.org/host"),
        ("/see-other", 303, "http://example.org/see-other"),
        ("/port", 307, "http://front:8083/port"),
        ("/scheme", 308, "https://front/scheme"),
        ("/old/lemon", 301, "http://front/new/lemon"),
        ("/all/of/it", 302, "http://front/whole"),
    ] {
        let answer = ask(caller, &format!("http://front{path}"), &[]).await?;
        let found = text(&answer.headers, "location");
        ensure!((answer.status, found.as_str()) == (status, location), "{path}: {} {found}", answer.status);
    }
    Ok(())
}

async fn changes(caller: &Workload) -> anyhow::Result<()> {
    let sent = [("x-set", "mine"), ("x-add", "mine"), ("x-remove", "mine")];
    let answer = ask(caller, "http://front/prefix/one?a=b", &sent).await?;
    for (header, expected) in [
        ("x-answer", "changed"),
        ("x-echo-path", "/echo?a=b"),
        ("x-echo-header-x-set", "set-overwrites"),
        ("x-echo-header-x-add", "mine, add-appends"),
        ("x-echo-header-x-remove", ""),
    ] {
        let found = text(&answer.headers, header);
        ensure!(found.replace(',', ", ").replace(",  ", ", ") == expected, "{header}: {found:?}");
    }
    let whole = ask(caller, "http://front/full/one/two", &[]).await?;
    ensure!(text(&whole.headers, "x-echo-path") == "/echo", "{whole:?}");
    ensure!(text(&whole.headers, "x-echo-workload") == V2, "{whole:?}");
    Ok(())
}

async fn ask(caller: &Workload, url: &str, headers: &[(&str, &str)]) -> anyhow::Result<Answer> {
    let mut request = Request::get(url);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    caller.calls().send(request.body(Full::<Bytes>::default())?).await
}

/// All values of a header.
fn text(headers: &HeaderMap, name: &str) -> String {
    let values: Vec<&str> = headers.get_all(name).iter().filter_map(|value| value.to_str().ok()).collect();
    values.join(", ")
}
