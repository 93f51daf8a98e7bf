//! C1 and H1 with traffic: an attacker with a token for one service waits for the calls of another, and both proxies
//! never bring it one. The attacker's server is the same that answers where it may, so that silence means something.

use anyhow::{Context as _, ensure};
use tokio_util::task::AbortOnDropHandle;
use tonic::Code;
use weft_api::join::Workload;
use weft_e2e::harness::{CONVERGES, Mesh, Responder, Sidecar, Workload as Running, described, until};

use crate::ground::{bare_machine, beside, enter, on_both_stores, refused, selecting, service};

const OWNED: &str = "OWNED";
const REAL: &str = "REAL";
/// Calls of each caller to each service.
const CALLS: usize = 40;

on_both_stores!(attacker_with_a_token_for_one_service_gets_no_call_of_another);

async fn attacker_with_a_token_for_one_service_gets_no_call_of_another(
    mesh: &mut Mesh,
) -> anyhow::Result<()> {
    let machines = [mesh.next_address(), mesh.next_address()];
    let [legacy, canary] = machines;
    mesh.apply(
        &[
            service("web"),
            service("caller"),
            service("legacy"),
            service("late"),
            selecting("canary", "v2"),
            bare_machine("legacy-1", "legacy", legacy),
            bare_machine("canary-1", "canary", canary),
        ]
        .concat(),
    )
    .await?;
    let mut real = Vec::new();
    for machine in machines {
        real.push(Responder::start((machine, 8080).into(), None, REAL).await?);
    }
    let mut callers = Vec::new();
    for sidecar in Sidecar::ALL {
        let name = format!("caller-{}", sidecar.word());
        callers.push(mesh.workload("shop/caller").named(&name).beside(sidecar).start().await?);
    }

    // Where it may, it answers: the attack would be seen.
    let workload = described("web-1", mesh.next_address());
    let honest = Attacker::enter(mesh, workload).await.context("web-1")?;
    honest.gets_calls_of_its_own_service(&callers).await?;
    for caller in &callers {
        let answer = caller.calls().get("http://web/").await?;
        ensure!(answer.body == OWNED, "{} {}", answer.status, answer.body);
    }

    // C1: the name of a machine in a file; then a name that a file takes later. H1: a label that a service selects.
    let workload = described("legacy-1", mesh.next_address());
    let name = enter(mesh, "shop/web", workload).await;
    refused(name, &[Code::AlreadyExists, Code::PermissionDenied]).context("the name of a file's machine")?;
    let mut labelled = described("web-2", mesh.next_address());
    labelled.labels.insert("version".to_owned(), "v2".to_owned());
    let label = Attacker::enter(mesh, labelled).await.context("web-2")?;
    label.gets_calls_of_its_own_service(&callers).await?;
    let workload = described("late-1", mesh.next_address());
    let first = Attacker::enter(mesh, workload).await.context("late-1")?;
    first.gets_calls_of_its_own_service(&callers).await?;
    let late = mesh.next_address();
    real.push(Responder::start((late, 8080).into(), None, REAL).await?);
    mesh.apply(&bare_machine("late-1", "late", late)).await?;

    let mut ids: Vec<&str> = callers.iter().map(Running::id).collect();
    ids.sort_unstable();
    mesh.in_sync(&ids).await?;
    for caller in &callers {
        for name in ["legacy", "canary", "late"] {
            only_the_real_one_answers(caller, name)
                .await
                .with_context(|| format!("{} to {name}", caller.id()))?;
        }
    }
    for attacker in [&honest, &label, &first] {
        let heard: Vec<String> =
            attacker.server.heard().into_iter().filter(|line| line.contains("secret")).collect();
        ensure!(heard.is_empty(), "an attacker was told {heard:?}");
    }
    Ok(())
}

async fn only_the_real_one_answers(caller: &Running, service: &str) -> anyhow::Result<()> {
    let (calls, url) = (caller.calls(), format!("http://{service}/secret"));
    until("an answer", CONVERGES, async || {
        let answer = calls.get(&url).await?;
        ensure!(answer.status == 200, "{} {}", answer.status, answer.body);
        Ok(())
    })
    .await?;
    for _ in 0..CALLS {
        let answer = calls.get(&url).await?;
        ensure!(answer.body == REAL, "answered {} {}", answer.status, answer.body);
    }
    Ok(())
}

/// Somebody with a token for `shop/web`, a server on its address, and a sidecar's stream.
struct Attacker {
    server: Responder,
    _stream: AbortOnDropHandle<()>,
}

impl Attacker {
    /// Everybody who is here was let in, as a member of its own service.
    async fn enter(mesh: &Mesh, workload: Workload) -> anyhow::Result<Self> {
        let inbound = workload.inbound.parse()?;
        let joined = enter(mesh, "shop/web", workload).await?;
        let server = Responder::start(inbound, Some(&joined.presented), OWNED).await?;
        Ok(Self { server, _stream: beside(mesh, &joined).await? })
    }

    /// Its server is there for those who are told of it, through both proxies.
    async fn gets_calls_of_its_own_service(&self, callers: &[Running]) -> anyhow::Result<()> {
        for caller in callers {
            let path = format!("/{}", caller.name());
            until(&format!("{} calls it", caller.id()), CONVERGES, async || {
                caller.calls().get(&format!("http://web{path}")).await?;
                let heard = self.server.heard();
                ensure!(heard.iter().any(|line| line.contains(&path)), "it heard {heard:?}");
                Ok(())
            })
            .await?;
        }
        Ok(())
    }
}
