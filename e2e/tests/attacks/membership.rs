//! A joiner wants to be a member of another service than its token's. What everyone else is told shows that it is not.

use anyhow::{Context as _, ensure};
use serde_json::json;
use tonic::Code;
use weft_api::join::ProxyType;
use weft_e2e::harness::{Joined, Mesh, NewKey, described, join};

use crate::ground::{
    bare_machine, beside, enter, member, not_served, on_both_stores, refused, selecting, service, until_told,
};

const WEB_ID: &str = "spiffe://mesh.local/ns/shop/svc/web";

on_both_stores!(
    name_of_a_files_workload_is_free_to_nobody_else,
    file_takes_its_name_back_from_a_joiner,
    file_wins_in_every_field_of_a_workload_that_it_lets_in,
    label_makes_no_member_of_another_service,
    name_of_a_member_of_another_service_is_taken,
    address_is_within_what_the_token_allows,
    absence_of_a_proxy_is_the_tokens_to_allow,
);

/// C1: the machine without a sidecar never joins, and yet its name is not free.
async fn name_of_a_files_workload_is_free_to_nobody_else(mesh: &mut Mesh) -> anyhow::Result<()> {
    let (bare, beside_weft) = (mesh.next_address(), mesh.next_address());
    let with_sidecar = bare_machine("legacy-2", "legacy", beside_weft).replace("type: None", "type: Weft");
    mesh.apply(
        &[service("web"), service("legacy"), bare_machine("legacy-1", "legacy", bare), with_sidecar].concat(),
    )
    .await?;
    for name in ["legacy-1", "legacy-2"] {
        let outcome = member(mesh, "web", name).await;
        refused(outcome, &[Code::AlreadyExists, Code::PermissionDenied]).with_context(|| name.to_owned())?;
    }
    let web = member(mesh, "web", "web-1").await?;
    is_legacy_alone(mesh, &web, "legacy", &[&bare.to_string()]).await?;
    // Who may be it, still may.
    let own = enter(mesh, "shop/legacy", described("legacy-2", beside_weft)).await;
    let own = own.context("with its own service's token")?;
    let _own = beside(mesh, &own).await?;
    is_legacy_alone(mesh, &web, "legacy", &[&bare.to_string(), &beside_weft.to_string()]).await
}

/// C1, the other way round: first came the joiner, then the file.
async fn file_takes_its_name_back_from_a_joiner(mesh: &mut Mesh) -> anyhow::Result<()> {
    mesh.apply(&[service("web"), service("legacy")].concat()).await?;
    let (witness, thief) = (member(mesh, "web", "web-1").await?, member(mesh, "web", "legacy-1").await?);
    let _thief = beside(mesh, &thief).await?;
    let mut stream = thief.stream(mesh.xds()).await?;
    let bare = mesh.next_address();
    mesh.apply(&bare_machine("legacy-1", "legacy", bare)).await?;
    is_legacy_alone(mesh, &witness, "legacy", &[&bare.to_string()]).await?;
    stream.ask(weft_api::ResourceKind::Cluster, &[]).await;
    stream.end(crate::ground::ANSWER).await.context("the joiner's stream")?;
    not_served(thief.leave(mesh.xds()).await).context("its goodbye")?;
    ensure!(thief.renew(mesh.xds()).await.is_err(), "its renewal");
    let object = mesh.client().object("workloads", "shop", "legacy-1").await?;
    ensure!(object.spec["address"] == bare.to_string(), "{object:?}");
    ensure!(object.status.as_ref().is_none_or(|status| status["identity"] != "shop/web"), "{object:?}");
    Ok(())
}

/// Callers go where the file says, and believe the service's own identity only.
async fn is_legacy_alone(
    mesh: &Mesh,
    witness: &Joined,
    name: &str,
    addresses: &[&str],
) -> anyhow::Result<()> {
    until_told(mesh, witness, name, |told| {
        ensure!(told.addresses.iter().eq(addresses.iter()), "members at {:?}", told.addresses);
        ensure!(!told.cluster.contains(WEB_ID), "web's identity is accepted for {name}");
        Ok(())
    })
    .await
}

/// A file that names the joiner's own service lets it in, as what the file says.
async fn file_wins_in_every_field_of_a_workload_that_it_lets_in(mesh: &mut Mesh) -> anyhow::Result<()> {
    let (true_address, other) = (mesh.next_address(), mesh.next_address());
    mesh.apply(
        &(service("web")
            + &service("other")
            + &format!(
                "apiVersion: weft.dev/v1\nkind: Workload\nmetadata: {{name: web-1, namespace: shop, labels: {{version: v1}}}}\n\
                 spec: {{address: {true_address}, ports: {{http: 8080}}, services: [web], proxy: {{type: Weft}}}}\n---\n"
            )),
    )
    .await?;
    let witness = member(mesh, "other", "other-1").await?;
    let mut declared = described("web-1", other);
    declared.labels.insert("version".to_owned(), "v2".to_owned());
    declared.app_ports.insert("http".to_owned(), 22);
    let joined = enter(mesh, "shop/web", declared).await?;
    let _joined = beside(mesh, &joined).await?;
    until_told(mesh, &witness, "web", |told| {
        ensure!(told.addresses == [true_address.to_string()], "members at {:?}", told.addresses);
        Ok(())
    })
    .await?;
    let object = mesh.client().object("workloads", "shop", "web-1").await?;
    ensure!(object.metadata["labels"] == json!({"version": "v1"}), "{object:?}");
    ensure!(object.spec["ports"] == json!({"http": 8080}), "{object:?}");
    Ok(())
}

/// H1: `--allow-label version=*` and a Service that selects by that label.
async fn label_makes_no_member_of_another_service(mesh: &mut Mesh) -> anyhow::Result<()> {
    mesh.apply(&[service("web"), selecting("canary", "v2")].concat()).await?;
    let witness = member(mesh, "web", "web-1").await?;
    let address = mesh.next_address();
    let mut declared = described("web-2", address);
    declared.labels.insert("version".to_owned(), "v2".to_owned());
    declared.app_ports.insert("http".to_owned(), 8080);
    let labelled = enter(mesh, "shop/web", declared).await?;
    let _labelled = beside(mesh, &labelled).await?;
    until_told(mesh, &witness, "canary", |told| {
        ensure!(told.addresses.is_empty(), "members at {:?}", told.addresses);
        ensure!(!told.cluster.contains(WEB_ID), "web's identity is accepted for canary");
        Ok(())
    })
    .await?;
    // It is what its token says, and gets no routes of the other service.
    until_told(mesh, &witness, "web", |own| {
        ensure!(own.addresses.len() == 1, "members of web at {:?}", own.addresses);
        Ok(())
    })
    .await?;
    let listeners = mesh.client().proxy_config(&labelled.id()).await?["LDS"].to_string();
    ensure!(listeners.contains("http.web.shop"), "it takes no calls for web: {listeners}");
    ensure!(!listeners.contains("http.canary.shop"), "it takes calls for canary");
    Ok(())
}

async fn name_of_a_member_of_another_service_is_taken(mesh: &mut Mesh) -> anyhow::Result<()> {
    mesh.apply(&[service("web"), service("catalog")].concat()).await?;
    let catalog = member(mesh, "catalog", "catalog-1").await?;
    let _catalog = beside(mesh, &catalog).await?;
    refused(member(mesh, "web", "catalog-1").await, &[Code::AlreadyExists])?;
    let witness = member(mesh, "web", "web-1").await?;
    until_told(mesh, &witness, "catalog", |told| {
        ensure!(told.addresses.len() == 1, "members at {:?}", told.addresses);
        ensure!(!told.cluster.contains(WEB_ID), "web's identity is accepted for catalog");
        Ok(())
    })
    .await?;
    catalog.renew(mesh.xds()).await.context("it is what it was")?;
    Ok(())
}

/// L1: `--allow-address` holds for every address that others are told.
async fn address_is_within_what_the_token_allows(mesh: &mut Mesh) -> anyhow::Result<()> {
    mesh.apply(&service("web")).await?;
    let (inside, outside) = (mesh.next_address(), mesh.next_address());
    let grant = json!({"service": "shop/web", "uses": 5, "allowAddresses": [format!("{inside}/32")]});
    let token = make_token(mesh, &grant).await?;
    let outcome = join(&token, &NewKey::plain()?, described("web-1", outside)).await;
    refused(outcome, &[Code::PermissionDenied, Code::InvalidArgument]).context("another address")?;
    let mut two = described("web-1", inside);
    two.inbound = format!("{outside}:15006");
    match join(&token, &NewKey::plain()?, two).await {
        Err(error) => refused::<()>(Err(error), &[Code::PermissionDenied, Code::InvalidArgument])?,
        Ok(joined) => {
            let _joined = beside(mesh, &joined).await?;
            until_told(mesh, &joined, "web", |told| {
                ensure!(told.addresses == [inside.to_string()], "members at {:?}", told.addresses);
                Ok(())
            })
            .await?;
        }
    }
    join(&token, &NewKey::plain()?, described("web-2", inside))
        .await
        .context("the address that it allows")?;
    Ok(())
}

/// L1: without a proxy callers speak plain text, so that is not the joiner's to decide.
async fn absence_of_a_proxy_is_the_tokens_to_allow(mesh: &mut Mesh) -> anyhow::Result<()> {
    mesh.apply(&service("web")).await?;
    let address = mesh.next_address();
    let bare = |name: &str| {
        let mut workload = described(name, address);
        workload.proxy_type = ProxyType::None.into();
        workload
    };
    let outcome = enter(mesh, "shop/web", bare("web-1")).await;
    refused(outcome, &[Code::PermissionDenied, Code::InvalidArgument])?;
    let token = make_token(mesh, &json!({"service": "shop/web", "allowNoProxy": true})).await?;
    join(&token, &NewKey::plain()?, bare("web-1")).await.context("where the token allows it")?;
    Ok(())
}

/// A token with whatever the API takes.
async fn make_token(mesh: &Mesh, grant: &serde_json::Value) -> anyhow::Result<String> {
    let answer = mesh.call("POST", "/v1/tokens", &grant.to_string()).await?;
    ensure!(answer.status < 300, "{} {}", answer.status, answer.body);
    let made: serde_json::Value = serde_json::from_str(&answer.body)?;
    Ok(made["token"].as_str().context("no token in the answer")?.to_owned())
}
