//! Requests that policies, routes or their own heads let fail.

use anyhow::{Context as _, ensure};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use weft_e2e::harness::{CONVERGES, Calls, Mesh, Pair, Sidecar, Workload, until};

use super::notebook::Notebook;
use crate::shop::{Callers, catalog, start_catalog, tcp_port};

/// Plants them all, and then ends the application.
pub async fn plant(mesh: &mut Mesh, notebook: &mut Notebook) -> anyhow::Result<()> {
    let callers = Callers::start(mesh).await?;
    for beside in Sidecar::ALL {
        mesh.apply(&policies(beside)).await?;
    }
    let mut servers = Vec::new();
    for beside in Sidecar::ALL {
        servers.push(start_catalog(mesh, beside, "v1").await?);
    }
    let ids: Vec<&str> = callers.ids().into_iter().chain(servers.iter().map(Workload::id)).collect();
    mesh.in_sync(&ids).await?;
    for (server, beside) in servers.iter_mut().zip(Sidecar::ALL) {
        let caller = callers.of(Pair { caller: beside, server: beside });
        let mut scene = Scene { mesh, notebook, caller, beside };
        scene.requests().await.with_context(|| format!("{beside:?}"))?;
        scene.heads().await.with_context(|| format!("{beside:?}: heads"))?;
        scene.slow_application(server).await.with_context(|| format!("{beside:?}: slow"))?;
        scene.plain_text(server).await.with_context(|| format!("{beside:?}: plain text"))?;
        server.end_app().await?;
        scene.application_that_is_down(server).await.with_context(|| format!("{beside:?}: down"))?;
        server.kill_proxy();
        scene.sidecar_that_is_gone(server).await.with_context(|| format!("{beside:?}: gone"))?;
    }
    Ok(())
}

/// Services and policies with something wrong about them.
fn policies(beside: Sidecar) -> String {
    let (word, name) = (beside.word(), catalog(beside));
    format!(
        r"
{{apiVersion: weft.dev/v1, kind: Service, metadata: {{name: empty-{word}, namespace: shop}}, spec: {{ports: [{{name: http, port: 80, protocol: HTTP}}]}}}}
---
{{apiVersion: weft.dev/v1, kind: Service, metadata: {{name: routed-{word}, namespace: shop}}, spec: {{ports: [{{name: http, port: 80, protocol: HTTP}}]}}}}
---
apiVersion: weft.dev/v1
kind: HTTPRoute
metadata: {{name: only-public-{word}, namespace: shop}}
spec:
  parentRefs: [{{kind: Service, name: routed-{word}, port: 80}}]
  rules:
  - {{matches: [{{path: {{type: PathPrefix, value: /public}}}}], backendRefs: [{{name: {name}, port: 80}}]}}
  - {{name: lost, matches: [{{path: {{type: PathPrefix, value: /lost}}}}], backendRefs: [{{name: nobody-{word}, port: 80}}]}}
---
apiVersion: weft.dev/v1
kind: AuthorizationPolicy
metadata: {{name: no-admin-{word}, namespace: shop}}
spec:
  targetRefs: [{{kind: Service, name: {name}, sectionName: http}}]
  action: Deny
  rules: [{{name: admin, from: [{{namespaces: [shop]}}], to: [{{paths: [{{type: PathPrefix, value: /admin}}]}}]}}]
---
apiVersion: weft.dev/v1
kind: AuthorizationPolicy
metadata: {{name: operators-{word}, namespace: shop}}
spec:
  targetRefs: [{{kind: Service, name: {name}, sectionName: h2}}]
  action: Allow
  rules: [{{name: nobody-here, from: [{{services: [operators]}}]}}]
---
apiVersion: weft.dev/v1
kind: TrafficPolicy
metadata: {{name: quick-{word}, namespace: shop}}
spec:
  targetRefs: [{{kind: Service, name: {name}, sectionName: http}}]
  timeouts: {{request: 500ms}}
"
    )
}

struct Scene<'a> {
    mesh: &'a Mesh,
    notebook: &'a mut Notebook,
    caller: &'a Workload,
    beside: Sidecar,
}

impl Scene<'_> {
    /// What fails, the URL, the status of the answer, and what the explanation has to say.
    async fn requests(&mut self) -> anyhow::Result<()> {
        let (name, word) = (catalog(self.beside), self.beside.word());
        let denied = format!("rule shop/no-admin-{word}/admin denies this to {}", self.caller.spiffe());
        let allowed = format!("allowed only by AuthorizationPolicy shop/operators-{word}");
        let empty = format!("no healthy endpoint of shop/empty-{word}");
        let lost = format!("rule shop/only-public-{word}/lost has no backend that exists");
        for (failure, url, status, words) in [
            ("denied by a rule", format!("http://{name}/admin"), 403, &*denied),
            ("allowed by no rule", format!("http://{name}:8081/"), 403, &*allowed),
            (
                "no such service",
                "http://nowhere.example/".to_owned(),
                502,
                "no service of the mesh has this host name",
            ),
            ("a service without members", format!("http://empty-{word}/"), 503, &*empty),
            ("no route matches", format!("http://routed-{word}/private"), 404, "no route leads from"),
            ("a route to a service that does not exist", format!("http://routed-{word}/lost"), 500, &*lost),
            ("the application answers 500", format!("http://{name}/status/500"), 500, "answered 500 itself"),
            (
                "escaped slash in the path",
                format!("http://{name}/a%2Fb"),
                400,
                "the path has an escaped slash",
            ),
        ] {
            let mut request = http::Request::get(&url).body(http_body_util::Full::default())?;
            if failure.starts_with("escaped") {
                // Envoy gives an id only to what it takes; a caller's own is told all the same.
                request.headers_mut().insert("x-request-id", format!("slash-{word}").parse()?);
            }
            let answer = self.caller.calls().send(request).await?;
            ensure!(answer.status == status, "{url}: {} {}", answer.status, answer.body);
            let found = if failure.starts_with("escaped") {
                let id = format!("slash-{word}");
                let command = ["explain", "--request-id", &id];
                self.notebook.find(self.mesh, (failure, self.beside), &[&command], &[words]).await
            } else {
                self.notebook.find_by_id(self.mesh, (failure, self.beside), &answer, &[words]).await
            };
            found.with_context(|| format!("{url} was answered {}", answer.body))?;
        }
        Ok(())
    }

    /// What is no request, and what is too much of one.
    async fn heads(&mut self) -> anyhow::Result<()> {
        let large =
            format!("GET / HTTP/1.1\r\nhost: {}\r\nx: {}\r\n\r\n", catalog(self.beside), "x".repeat(70_000));
        let recent = ["explain", "--recent", &format!("shop/web-{}", self.beside.word()), "-"];
        for (failure, head, status, words) in [
            (
                "no head of HTTP",
                "NONSENSE\r\n\r\n",
                " 400 ",
                "what the caller sent is not HTTP as it should be",
            ),
            ("head too large", &*large, " 431 ", "the head of the request is too large"),
        ] {
            let mut stream = TcpStream::connect(self.caller.outbound()).await?;
            stream.write_all(head.as_bytes()).await?;
            let mut answer = vec![0; 4096];
            let count = stream.read(&mut answer).await?;
            let answer = String::from_utf8_lossy(&answer[..count]);
            ensure!(answer.contains(status), "{failure}: {answer}");
            self.notebook.find(self.mesh, (failure, self.beside), &[&recent], &[words]).await?;
        }
        Ok(())
    }

    async fn slow_application(&mut self, server: &Workload) -> anyhow::Result<()> {
        let name = catalog(self.beside);
        Calls::direct().get(&format!("{}/fault?delay=3s", server.app())).await?;
        let answer = self.caller.calls().get(&format!("http://{name}/")).await?;
        let failure = ("answer later than the limit", self.beside);
        self.notebook.find_by_id(self.mesh, failure, &answer, &["did not answer within the time"]).await?;
        let mut stream = TcpStream::connect(self.caller.outbound()).await?;
        stream.write_all(format!("GET /gone HTTP/1.1\r\nhost: {name}\r\n\r\n").as_bytes()).await?;
        // Long enough for the request to be on its way, and shorter than its limit.
        let mut answer = [0; 16];
        let waiting = tokio::time::timeout(std::time::Duration::from_millis(200), stream.read(&mut answer));
        ensure!(waiting.await.is_err(), "answered");
        drop(stream);
        let words = ["the caller went away before the answer was complete"];
        let recent =
            ["explain", "--recent", &format!("shop/web-{}", self.beside.word()), &format!("shop/{name}")];
        self.notebook.find(self.mesh, ("the caller went away", self.beside), &[&recent], &words).await?;
        Calls::direct().get(&format!("{}/fault", server.app())).await.map(drop)
    }

    /// Who is not in the mesh, at the port of mutual TLS.
    async fn plain_text(&mut self, server: &Workload) -> anyhow::Result<()> {
        let refused = Calls::direct().get(&format!("http://{}/", server.inbound())).await;
        ensure!(refused.is_err(), "it is answered");
        let failure = ("plain text at the port of mutual TLS", self.beside);
        let words =
            [&*format!("{}: no connection from 127.", server.id()), "plain text where TLS is expected"];
        let recent = ["explain", "--recent", "-", &format!("shop/{}", catalog(self.beside))];
        self.notebook.find(self.mesh, failure, &[&recent], &words).await
    }

    async fn application_that_is_down(&mut self, server: &Workload) -> anyhow::Result<()> {
        let words = format!("{}: the application does not answer on 127.0.0.1:", server.id());
        let words = [&*words, "(connection refused)", "Unhealthy", "the application of port"];
        let answer = self.caller.calls().get(&format!("http://{}/", catalog(self.beside))).await?;
        let id = answer.headers.get("x-request-id").context("no x-request-id")?.to_str()?.to_owned();
        let commands: [&[&str]; 2] = [&["explain", "--request-id", &id], &["proxy", "list"]];
        self.notebook.find(self.mesh, ("application down", self.beside), &commands, &words).await?;
        let local = (self.caller.address(), tcp_port(self.beside)).into();
        until("the connection is refused", CONVERGES, async || {
            ensure!(Calls::tcp(local).await.is_err(), "it is served");
            Ok(())
        })
        .await?;
        let failure = ("TCP application down", self.beside);
        let recent = ["explain", "--recent", "-", &format!("shop/{}", catalog(self.beside))];
        let address = format!("does not answer on 127.0.0.1:{}", server.port_of("tcp"));
        self.notebook.find(self.mesh, failure, &[&recent], &[server.id(), &address]).await
    }

    async fn sidecar_that_is_gone(&mut self, server: &Workload) -> anyhow::Result<()> {
        let words = [server.id(), "away", "it has no stream: it is down, or cannot reach the control plane"];
        let failure = ("sidecar gone", self.beside);
        self.notebook.find(self.mesh, failure, &[&["proxy", "list"]], &words).await
    }
}
