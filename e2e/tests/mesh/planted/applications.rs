//! Applications that answer wrongly, or not at all.

use std::time::Duration;

use anyhow::{Context as _, ensure};
use weft_e2e::harness::{
    CONVERGES, Calls, Manner, Mesh, OddApplication, Sidecar, Workload, free_port, until,
};

use super::notebook::Notebook;

/// Plants them all.
pub async fn plant(mesh: &mut Mesh, notebook: &mut Notebook) -> anyhow::Result<()> {
    for beside in Sidecar::ALL {
        mesh.apply(&services(beside)).await?;
    }
    for beside in Sidecar::ALL {
        // The application that speaks nothing but HTTP/2 is the demo's for gRPC.
        let demo =
            mesh.workload(&format!("shop/demo-{}", beside.word())).serving().beside(beside).start().await?;
        let odd = Odd::start().await?;
        let server = odd.workload(mesh, beside).await?;
        let caller = format!("shop/caller-{}", beside.word());
        let caller = mesh.workload(&caller).client().beside(beside).start().await?;
        mesh.in_sync(&[server.id(), caller.id(), demo.id()]).await?;
        let mut scene = Scene { mesh, notebook, caller: &caller, beside };
        scene.answers().await.with_context(|| format!("{beside:?}"))?;
        scene.ejected().await.with_context(|| format!("{beside:?}: ejected"))?;
        scene.waiting().await.with_context(|| format!("{beside:?}: waiting"))?;
    }
    Ok(())
}

fn services(beside: Sidecar) -> String {
    let word = beside.word();
    format!(
        r"
{{apiVersion: weft.dev/v1, kind: Service, metadata: {{name: caller-{word}, namespace: shop}}, spec: {{ports: [{{name: http, port: 80, protocol: HTTP}}]}}}}
---
{{apiVersion: weft.dev/v1, kind: Service, metadata: {{name: demo-{word}, namespace: shop}}, spec: {{healthCheck: {{none: {{}}}}, ports: [{{name: grpc, port: 80, protocol: HTTP}}]}}}}
---
apiVersion: weft.dev/v1
kind: Service
metadata: {{name: odd-{word}, namespace: shop}}
spec:
  healthCheck: {{none: {{}}}}
  ports:
  - {{name: h2, port: 81, protocol: HTTP2}}
  - {{name: elsewhere, port: 82, protocol: HTTP}}
  - {{name: closes, port: 83, protocol: HTTP}}
  - {{name: resets, port: 84, protocol: HTTP}}
  - {{name: hangs, port: 85, protocol: HTTP}}
  - {{name: busy, port: 86, protocol: HTTP}}
  - {{name: sick, port: 87, protocol: HTTP}}
---
apiVersion: weft.dev/v1
kind: TrafficPolicy
metadata: {{name: few-{word}, namespace: shop}}
spec:
  targetRefs: [{{kind: Service, name: odd-{word}, sectionName: busy}}]
  connection: {{maxConnections: 1, maxPendingRequests: 1, maxRequests: 1}}
---
apiVersion: weft.dev/v1
kind: TrafficPolicy
metadata: {{name: eject-{word}, namespace: shop}}
spec:
  targetRefs: [{{kind: Service, name: odd-{word}, sectionName: sick}}]
  outlierDetection: {{consecutive5xx: 1, interval: 1s, baseEjectionTime: 60s, maxEjectionPercent: 100}}
"
    )
}

struct Odd {
    http1: OddApplication,
    closes: OddApplication,
    resets: OddApplication,
    hangs: OddApplication,
}

impl Odd {
    async fn start() -> anyhow::Result<Self> {
        Ok(Self {
            http1: OddApplication::start(Manner::KnowsHttp1Only).await?,
            closes: OddApplication::start(Manner::Closes).await?,
            resets: OddApplication::start(Manner::Resets).await?,
            hangs: OddApplication::start(Manner::Hangs).await?,
        })
    }

    async fn workload(&self, mesh: &mut Mesh, beside: Sidecar) -> anyhow::Result<Workload> {
        let workload = mesh.workload(&format!("shop/odd-{}", beside.word())).beside(beside);
        let workload = workload.app_port("h2", self.http1.port()).app_port("elsewhere", free_port()?);
        let workload = workload.app_port("closes", self.closes.port()).app_port("resets", self.resets.port());
        let workload = workload.app_port("hangs", self.hangs.port()).app_port("busy", self.hangs.port());
        workload.app_port("sick", self.closes.port()).start().await
    }
}

struct Scene<'a> {
    mesh: &'a Mesh,
    notebook: &'a mut Notebook,
    caller: &'a Workload,
    beside: Sidecar,
}

impl Scene<'_> {
    async fn answers(&mut self) -> anyhow::Result<()> {
        let word = self.beside.word();
        let server = format!("shop/odd-{word}-v1: the application on 127.0.0.1:");
        // A server that speaks another protocol is found out by what it answers, or by that it hangs up.
        let another = ["protocol", "its Service declares"];
        let closed = "closed the connection before it had answered";
        for (failure, host, words) in [
            ("an HTTP/1.1 client at an HTTP/2 application", format!("demo-{word}"), &another[..]),
            ("an HTTP/2 client at an HTTP/1.1 application", format!("odd-{word}:81"), &another),
            (
                "the application listens on another port",
                format!("odd-{word}:82"),
                &["does not answer on 127.0.0.1:", "(connection refused)", "does --app-port name the port"],
            ),
            ("the application closes without an answer", format!("odd-{word}:83"), &[&*server, closed]),
            ("the application resets the connection", format!("odd-{word}:84"), &[&*server, closed]),
        ] {
            let answer = self.caller.calls().get(&format!("http://{host}/")).await?;
            ensure!(matches!(answer.status, 502 | 503), "{failure}: {} {}", answer.status, answer.body);
            let found = self.notebook.find_by_id(self.mesh, (failure, self.beside), &answer, words).await;
            found.with_context(|| answer.body)?;
        }
        Ok(())
    }

    /// The first answer has the only member ejected.
    async fn ejected(&mut self) -> anyhow::Result<()> {
        let (word, calls) = (self.beside.word(), self.caller.calls());
        let url = format!("http://odd-{word}:87/");
        calls.get(&url).await?;
        let edge = format!("shop/odd-{word}:sick");
        self.notebook
            .find(
                self.mesh,
                ("every member ejected", self.beside),
                &[&["get", "edges"]],
                &[&edge, "1 ejected"],
            )
            .await
    }

    /// A caller that waits for an application that hangs, and one that is not let wait beside it.
    async fn waiting(&mut self) -> anyhow::Result<()> {
        let (word, outbound) = (self.beside.word(), self.caller.outbound());
        let waits = |port: u16| {
            let url = format!("http://odd-{word}:{port}/");
            tokio_util::task::AbortOnDropHandle::new(tokio::spawn(async move {
                // A call gives up after a while, and one of those that come at once may be refused: then there is another.
                for _ in 0..600 {
                    let _ = Calls::through(outbound).get(&url).await;
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
            }))
        };
        let waiting = [85, 86, 86].map(waits);
        let mut refused = None;
        until("a request is one too many", CONVERGES, async || {
            let asked = self.caller.calls();
            let url = format!("http://odd-{word}:86/");
            let answer = tokio::time::timeout(Duration::from_secs(2), asked.get(&url)).await??;
            ensure!(answer.status == 503, "{} {}", answer.status, answer.body);
            refused = Some(answer);
            Ok(())
        })
        .await?;
        let answer = refused.context("no answer")?;
        let words = ["too many requests to", "a circuit breaker is open"];
        self.notebook.find_by_id(self.mesh, ("circuit breaker open", self.beside), &answer, &words).await?;
        let edge = format!("shop/odd-{word}:hangs");
        let failure = ("the application hangs", self.beside);
        self.notebook.find(self.mesh, failure, &[&["get", "edges"]], &[&edge, "silent, 1 open"]).await?;
        drop(waiting);
        Ok(())
    }
}
