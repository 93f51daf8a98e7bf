//! What a diff promises of an edge holds once the change is applied, with real requests through both proxies.

use anyhow::{Context as _, bail, ensure};
use weft_api::rest::{DiffResult, EdgeDiff, EdgeEffect};
use weft_e2e::harness::{CONVERGES, Mesh, Options, Pair, Sidecar, StoreKind, Workload, ours, until};

use crate::shop::{Callers, catalog, start_catalog};
use crate::steady::Loads;

#[tokio::test]
async fn refused_and_unaffected_edges_are_so_once_it_is_applied_on_the_embedded_store() {
    Mesh::run(Options::new(StoreKind::Embedded), promises_hold).await;
}

/// Requests that tell rules apart.
const PATHS: [&str; 4] = ["/echo", "/admin", "/admin/users", "/public"];

fn policy(name: &str, server: Sidecar, action: &str, rules: &str) -> String {
    format!(
        "apiVersion: weft.dev/v1\nkind: AuthorizationPolicy\nmetadata: {{name: {name}, namespace: shop}}\n\
         spec: {{targetRefs: [{{kind: Service, name: {}, sectionName: http}}], action: {action}, rules: {rules}}}\n---\n",
        catalog(server)
    )
}

/// What a change does to each edge.
type ExpectedEffects = fn(Pair) -> EdgeEffect;

/// One change after the other, each with what it does to the four edges.
fn changes() -> Vec<(String, ExpectedEffects)> {
    use Sidecar::{Envoy, Weft};
    let from_weft = "[{name: web, from: [{services: [web-weft]}]}]";
    let admin = "[{name: admin, to: [{paths: [{type: PathPrefix, value: /admin}]}]}]";
    vec![
        // To one server nobody of one caller, to the other one some of everybody's.
        (policy("a", Weft, "Deny", from_weft) + &policy("b", Envoy, "Deny", admin), |pair| {
            match (pair.caller, pair.server) {
                (Weft, Weft) => EdgeEffect::Refused,
                (Envoy, Weft) => EdgeEffect::Unaffected,
                (Weft | Envoy, Envoy) => EdgeEffect::MayBeRefused,
            }
        }),
        // Allowed by identity: the other caller is refused whatever it asks.
        (policy("c", Envoy, "Allow", from_weft), |pair| match (pair.caller, pair.server) {
            (Envoy, Envoy) => EdgeEffect::Refused,
            (Weft | Envoy, Weft) | (Weft, Envoy) => EdgeEffect::Unaffected,
        }),
        // The same in other words.
        (policy("c", Envoy, "Allow", "[{from: [{services: [shop/web-weft, nobody]}]}]"), |_| {
            EdgeEffect::Unaffected
        }),
        // Everything that was refused passes.
        (
            policy("a", Weft, "Deny", "[{from: [{services: [nobody]}]}]")
                + &policy("b", Envoy, "Deny", "[{from: [{services: [nobody]}]}]")
                + &policy("c", Envoy, "Allow", "[{}]"),
            |pair| match (pair.caller, pair.server) {
                (Envoy, Weft) => EdgeEffect::Unaffected,
                (Weft, Weft) | (Weft | Envoy, Envoy) => EdgeEffect::Eased,
            },
        ),
    ]
}

async fn promises_hold(mesh: &mut Mesh) -> anyhow::Result<()> {
    let callers = Callers::start(mesh).await?;
    let mut servers = Vec::new();
    for beside in Sidecar::ALL {
        servers.push(start_catalog(mesh, beside, "v1").await?);
    }
    let ids: Vec<&str> = callers.ids().into_iter().chain(servers.iter().map(Workload::id)).collect();
    mesh.in_sync(&ids).await?;
    // Traffic goes on, refused or not, so that the edges are there at each change.
    let _loads = Loads::start(&callers).await?;
    for (index, (documents, expected)) in changes().into_iter().enumerate() {
        holds(mesh, &callers, &documents, expected).await.with_context(|| format!("change {index}"))?;
    }
    Ok(())
}

async fn holds(
    mesh: &Mesh,
    callers: &Callers,
    documents: &str,
    expected: ExpectedEffects,
) -> anyhow::Result<()> {
    let mut told = DiffResult::default();
    until("all edges are seen", CONVERGES, async || {
        told = mesh.client().diff(documents).await?;
        Pair::ALL.iter().try_for_each(|pair| edge(&told, *pair).map(drop))
    })
    .await?;
    // Nobody else calls: what the servers' own sidecars tell, by version, is no edge.
    ensure!(told.edges.len() == Pair::ALL.len(), "edges that are none: {:#?}", told.edges);
    ensure!(exit_code(mesh, documents).await? == Some(2), "something would change");
    let before = statuses(callers).await?;
    for pair in Pair::ALL {
        let edge = edge(&told, pair)?;
        ensure!(edge.effect == expected(pair), "{pair}: {edge:#?}");
        let is_explained = !edge.reasons.is_empty();
        ensure!(is_explained == (edge.effect <= EdgeEffect::MayBeRefused), "{pair}: {edge:#?}");
    }
    mesh.apply(documents).await?;
    ensure!(exit_code(mesh, documents).await? == Some(0), "nothing would change any more");
    let after = statuses(callers).await?;
    for (index, pair) in Pair::ALL.into_iter().enumerate() {
        let (before, after) = (&before[index], &after[index]);
        let kept = match edge(&told, pair)?.effect {
            EdgeEffect::Refused => after.iter().all(|status| *status == 403),
            EdgeEffect::Unaffected => before == after,
            EdgeEffect::Eased => after.iter().all(|status| *status == 200) && before.contains(&403),
            EdgeEffect::MayBeRefused => before != after && after.contains(&200) && after.contains(&403),
        };
        ensure!(kept, "{pair}: {before:?} became {after:?}, but was told {:#?}", edge(&told, pair)?);
    }
    Ok(())
}

fn edge(told: &DiffResult, pair: Pair) -> anyhow::Result<&EdgeDiff> {
    let (source, destination) =
        (format!("shop/web-{}", pair.caller.word()), format!("shop/{}", catalog(pair.server)));
    let is_it =
        |edge: &&EdgeDiff| edge.source == source && edge.destination == destination && edge.port == "http";
    told.edges.iter().find(is_it).with_context(|| format!("{pair} was not seen: {:?}", told.edges))
}

/// What each pair is answered, path by path.
async fn statuses(callers: &Callers) -> anyhow::Result<Vec<Vec<u16>>> {
    let mut all = Vec::new();
    for pair in Pair::ALL {
        let mut statuses = Vec::new();
        for path in PATHS {
            let url = format!("http://{}{path}", catalog(pair.server));
            statuses.push(callers.of(pair).calls().get(&url).await?.status);
        }
        all.push(statuses);
    }
    Ok(all)
}

/// That of `weft diff`.
async fn exit_code(mesh: &Mesh, documents: &str) -> anyhow::Result<Option<i32>> {
    let file = mesh.dir().join("diff.yaml");
    std::fs::write(&file, documents)?;
    let output = tokio::process::Command::new(ours("weft")?)
        .args(["--api", &mesh.api(), "diff", "-f"])
        .arg(&file)
        .env("WEFT_TOKEN", mesh.operator_token()?)
        .output()
        .await?;
    if output.status.code() == Some(1) {
        bail!("{}", String::from_utf8_lossy(&output.stderr));
    }
    println!("{}", String::from_utf8_lossy(&output.stdout));
    Ok(output.status.code())
}
