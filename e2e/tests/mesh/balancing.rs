//! Requests alike in what is hashed go to one member, from whichever sidecar they come; when it leaves, its own
//! move, and few others.

use std::collections::BTreeMap;

use anyhow::{Context as _, ensure};
use bytes::Bytes;
use http::Request;
use http_body_util::Full;
use weft_e2e::harness::{CONVERGES, Mesh, Options, Pair, Sidecar, StoreKind, Workload, until};

use crate::shop::{Callers, catalog, ids, start_both_versions, start_catalog};

const USERS: usize = 60;

/// The example of the documentation, for a service of the test's.
const EXAMPLE: &str = include_str!("../../../policies/examples/balancing.yaml");

#[tokio::test]
async fn requests_of_one_user_stay_with_one_member_on_the_embedded_store() {
    Mesh::run(Options::new(StoreKind::Embedded), stays_with_one_member).await;
}

async fn stays_with_one_member(mesh: &mut Mesh) -> anyhow::Result<()> {
    let callers = Callers::start(mesh).await?;
    let mut servers = start_both_versions(mesh).await?;
    for beside in Sidecar::ALL {
        servers.push(start_catalog(mesh, beside, "v3").await?);
    }
    mesh.in_sync(&ids(&callers, &servers)).await?;
    let policies = Sidecar::ALL.map(|server| {
        let name = catalog(server);
        EXAMPLE.replace("cart-by-user", &name).replace("name: cart\n", &format!("name: {name}\n"))
    });
    mesh.apply(&policies.join("\n---\n")).await?;
    let mut before = BTreeMap::new();
    for server in Sidecar::ALL {
        let [from_weft, from_envoy] = Sidecar::ALL.map(|caller| Pair { caller, server });
        let members = settled(callers.of(from_weft), server, 3).await.context("from weft-proxy")?;
        let others = settled(callers.of(from_envoy), server, 3).await.context("from Envoy")?;
        ensure!(members == others, "both sidecars lead a user to one member: {members:?} {others:?}");
        before.insert(server, members);
    }
    let gone = Sidecar::ALL.map(|beside| format!("shop/{}-v1", catalog(beside)));
    for id in &gone {
        mesh.weft(&["drain", id, "--wait"]).await?;
    }
    for pair in Pair::ALL {
        let left = format!("{}-v1", catalog(pair.server));
        let after = settled(callers.of(pair), pair.server, 2).await.with_context(|| pair.to_string())?;
        let others = before[&pair.server].iter().filter(|(_, member)| **member != left);
        let (stay, moved): (Vec<_>, Vec<_>) = others.partition(|(user, member)| after[*user] == **member);
        ensure!(after.values().all(|member| *member != left), "{pair}: somebody is led to who left");
        // A ring keeps its size, so that those who stay have more entries in it, some of them in others' places.
        ensure!(moved.len() < stay.len(), "{pair}: {} of {} moved", moved.len(), moved.len() + stay.len());
    }
    Ok(())
}

/// Which member answers each user, once so many members do and each user is answered by one.
async fn settled(
    caller: &Workload,
    server: Sidecar,
    members: usize,
) -> anyhow::Result<BTreeMap<usize, String>> {
    until("users stay where they are", CONVERGES, async || {
        let (first, second) = (answers(caller, server).await?, answers(caller, server).await?);
        ensure!(first == second, "{first:?} {second:?}");
        let mut distinct: Vec<&String> = first.values().collect();
        distinct.sort_unstable();
        distinct.dedup();
        ensure!(distinct.len() == members, "{distinct:?}");
        Ok(first)
    })
    .await
}

async fn answers(caller: &Workload, server: Sidecar) -> anyhow::Result<BTreeMap<usize, String>> {
    let mut answers = BTreeMap::new();
    for user in 0..USERS {
        let request = Request::get(format!("http://{}/", catalog(server)))
            .header("x-user", format!("user-{user}"))
            .body(Full::new(Bytes::new()))?;
        answers.insert(user, caller.calls().send(request).await?.tree()?.workload);
    }
    Ok(answers)
}
