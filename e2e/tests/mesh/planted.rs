//! Failures that are planted, and whether a person who knows nothing but the answer's `x-request-id`, or that something is
//! wrong, finds the cause with two commands: `weft explain` and `weft proxy list`. The words are looked for in what they print.

use std::net::SocketAddr;

use anyhow::{Context as _, ensure};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use weft_e2e::harness::{CONVERGES, Calls, Mesh, Options, Pair, Sidecar, StoreKind, Workload, until};

use crate::shop::{Callers, catalog, start_catalog, tcp_port};

#[tokio::test]
async fn cause_of_each_planted_failure_is_found_with_two_commands() {
    Mesh::run(Options::new(StoreKind::Embedded), causes_are_found).await;
}

async fn causes_are_found(mesh: &mut Mesh) -> anyhow::Result<()> {
    let callers = Callers::start(mesh).await?;
    for beside in Sidecar::ALL {
        mesh.apply(&planted(beside)).await?;
    }
    let mut servers = Vec::new();
    for beside in Sidecar::ALL {
        let catalog = start_catalog(mesh, beside, "v1").await?;
        let wrong = format!("shop/wrong-{}", beside.word());
        let wrong = mesh.workload(&wrong).serving().beside(beside).start().await?;
        mesh.in_sync(&[catalog.id(), wrong.id()]).await?;
        servers.push((catalog, wrong));
    }
    for ((catalog, _), beside) in servers.iter_mut().zip(Sidecar::ALL) {
        let pair = Pair { caller: beside, server: beside };
        let scene = Scene { mesh, caller: callers.of(pair), beside };
        scene.requests().await.with_context(|| format!("{beside:?}"))?;
        scene.slow_application(catalog).await.with_context(|| format!("{beside:?}: slow"))?;
        scene.strangers(catalog.inbound()).await.with_context(|| format!("{beside:?}: strangers"))?;
        catalog.end_app().await?;
        scene.application_that_is_down(catalog).await.with_context(|| format!("{beside:?}: down"))?;
    }
    Ok(())
}

/// Services and policies with something wrong about them.
fn planted(beside: Sidecar) -> String {
    let (word, name) = (beside.word(), catalog(beside));
    format!(
        r"
{{apiVersion: weft.dev/v1, kind: Service, metadata: {{name: empty-{word}, namespace: shop}}, spec: {{ports: [{{name: http, port: 80, protocol: HTTP}}]}}}}
---
{{apiVersion: weft.dev/v1, kind: Service, metadata: {{name: wrong-{word}, namespace: shop}}, spec: {{healthCheck: {{none: {{}}}}, ports: [{{name: http, port: 80, protocol: HTTP}}, {{name: grpc, port: 9000, protocol: HTTP}}, {{name: tcp, port: 5432, protocol: HTTP}}]}}}}
---
apiVersion: weft.dev/v1
kind: HTTPRoute
metadata: {{name: only-public-{word}, namespace: shop}}
spec:
  parentRefs: [{{kind: Service, name: wrong-{word}, port: 80}}]
  rules: [{{matches: [{{path: {{type: PathPrefix, value: /public}}}}], backendRefs: [{{name: wrong-{word}, port: 80}}]}}]
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

const ANOTHER_PROTOCOL: [&str; 2] = [
    "does it crash or restart, or speak another protocol",
    "is not of the protocol that its Service declares",
];

struct Scene<'a> {
    mesh: &'a Mesh,
    caller: &'a Workload,
    beside: Sidecar,
}

impl Scene<'_> {
    /// A URL, the status of the answer, and what the explanation has to say.
    async fn requests(&self) -> anyhow::Result<()> {
        let (name, word) = (catalog(self.beside), self.beside.word());
        let denied = format!("rule shop/no-admin-{word}/admin denies this to {}", self.caller.spiffe());
        let allowed = format!("allowed only by AuthorizationPolicy shop/operators-{word}");
        let empty = format!("no healthy endpoint of shop/empty-{word}");
        for (url, status, words) in [
            (format!("http://{name}/admin"), 403, denied.as_str()),
            (format!("http://{name}:8081/"), 403, allowed.as_str()),
            ("http://nowhere.example/".to_owned(), 502, "no service of the mesh has this host name"),
            (format!("http://empty-{word}/"), 503, empty.as_str()),
            (format!("http://wrong-{word}/private"), 404, "no route leads from"),
            (format!("http://{name}/status/500"), 500, "answered 500 itself"),
            (format!("http://wrong-{word}:9000/"), 502, ANOTHER_PROTOCOL[0]),
        ] {
            self.explained(&url, status, words).await.with_context(|| url.clone())?;
        }
        Ok(())
    }

    /// Asks, and looks the request up by the id that the answer carries.
    async fn explained(&self, url: &str, status: u16, words: &str) -> anyhow::Result<()> {
        let answer = self.caller.calls().get(url).await?;
        // A server that speaks another protocol is found out by what it answers, or by that it hangs up.
        let fits = answer.status == status || (status == 502 && answer.status == 503);
        let is_said = |said: &str| {
            said.contains(words)
                || (words == ANOTHER_PROTOCOL[0] && ANOTHER_PROTOCOL.iter().any(|words| said.contains(words)))
        };
        ensure!(fits, "{} {}", answer.status, answer.body);
        let id = answer.headers.get("x-request-id").context("no x-request-id")?.to_str()?.to_owned();
        until(&format!("the cause of {url} is found"), CONVERGES, async || {
            let said = self.mesh.weft(&["explain", "--request-id", &id]).await?;
            ensure!(is_said(&said), "{words:?} is not in:\n{said}\nthe answer was {}", answer.body);
            Ok(())
        })
        .await
    }

    /// One of the newest failures says so.
    async fn recent(&self, words: &str) -> anyhow::Result<()> {
        let said = self.mesh.weft(&["explain", "--recent"]).await?;
        ensure!(said.contains(words), "{words:?} is not in:\n{said}");
        Ok(())
    }

    async fn slow_application(&self, server: &Workload) -> anyhow::Result<()> {
        let name = catalog(self.beside);
        Calls::direct().get(&format!("{}/fault?delay=3s", server.app())).await?;
        self.explained(&format!("http://{name}/"), 504, "did not answer within the time").await?;
        until("a caller that went away is told", CONVERGES, async || {
            let mut stream = TcpStream::connect(self.caller.outbound()).await?;
            stream.write_all(format!("GET /gone HTTP/1.1\r\nhost: {name}\r\n\r\n").as_bytes()).await?;
            // Long enough for the request to be on its way, and shorter than its limit.
            let mut answer = [0; 16];
            let waiting = stream.read(&mut answer);
            ensure!(
                tokio::time::timeout(std::time::Duration::from_millis(200), waiting).await.is_err(),
                "answered"
            );
            drop(stream);
            self.recent("the caller went away before the answer was complete").await
        })
        .await?;
        Calls::direct().get(&format!("{}/fault", server.app())).await.map(drop)
    }

    /// Who is not in the mesh, at the port of mutual TLS.
    async fn strangers(&self, inbound: SocketAddr) -> anyhow::Result<()> {
        until("plain text is told", CONVERGES, async || {
            ensure!(Calls::direct().get(&format!("http://{inbound}/")).await.is_err(), "it is answered");
            self.recent("plain text where TLS is expected").await
        })
        .await
    }

    async fn application_that_is_down(&self, server: &Workload) -> anyhow::Result<()> {
        let name = catalog(self.beside);
        let words = format!("{}: the application does not answer on 127.0.0.1:", server.id());
        self.explained(&format!("http://{name}/"), 503, &words).await?;
        let local: SocketAddr = (self.caller.address(), tcp_port(self.beside)).into();
        until("the connection is told", CONVERGES, async || {
            ensure!(Calls::tcp(local).await.is_err(), "it is served");
            self.recent(&words).await
        })
        .await?;
        until("the list of proxies says why", CONVERGES, async || {
            let said = self.mesh.weft(&["proxy", "list"]).await?;
            let line = said.lines().find(|line| line.contains(server.id())).context("it is not listed")?;
            ensure!(line.contains("Unhealthy") && line.contains("the application of port"), "{said}");
            Ok(())
        })
        .await
    }
}
