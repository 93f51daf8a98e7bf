//! The root is being replaced: two are trusted, and leaves of both live. What holds else holds here, and what members say of
//! their trust is about themselves.

use anyhow::{Context as _, ensure};
use tonic::Code;
use weft_api::join::ReportRequest;
use weft_api::join::join_service_client::JoinServiceClient;
use weft_api::rest::{RotationRequest, RotationStageName};
use weft_e2e::harness::{CONVERGES, Mesh, Options, StoreKind, channel, described, until};

use crate::ground::{enter, member, on_the_embedded_store, refused, service};

/// Makes a test of each attack that is tried when both roots are trusted and leaves of both live.
macro_rules! amid_a_rotation {
    ($($module:ident::$test:ident),+ $(,)?) => {
        mod amid {
            $(#[tokio::test]
            async fn $test() {
                super::amid_a_rotation(crate::$module::$test).await;
            })+
        }
    };
}

amid_a_rotation!(
    identity::certificate_request_decides_nothing_but_the_key,
    identity::forged_certificates_open_no_door,
    impostor::no_stranger_passes_for_the_control_plane,
    tokens::token_opens_as_often_as_it_says,
    instance::replaced_instance_is_refused_for_good,
    revocation::revoked_workload_is_out_everywhere,
);
on_the_embedded_store!(reports_are_read_strictly_and_hold_up_only_who_sends_them);

async fn amid_a_rotation(attack: impl AsyncFnOnce(&mut Mesh) -> anyhow::Result<()>) {
    Mesh::run(Options::new(StoreKind::Embedded), async |mesh: &mut Mesh| {
        begin(mesh).await?;
        attack(mesh).await?;
        let now = mesh.client().ca().await?.rotation.context("the rotation is over")?;
        ensure!(now.stage == RotationStageName::RenewingLeaves, "{now:#?}");
        Ok(())
    })
    .await;
}

/// A leaf of a day below the old root keeps the rotation in its second stage.
async fn begin(mesh: &mut Mesh) -> anyhow::Result<()> {
    // In a namespace of its own, so that attacks find theirs as they expect it.
    mesh.apply(&service("anchor").replace("namespace: shop", "namespace: harbour")).await?;
    let address = mesh.next_address();
    let anchor = enter(mesh, "harbour/anchor", described("anchor-1", address)).await?;
    let request = RotationRequest { spread: Some("1s".to_owned()) };
    mesh.client().rotate_root(&request).await?;
    // It tells that it trusts both, as its own sidecar would.
    let roots = mesh.client().ca().await?.roots;
    let told = roots.iter().map(|root| data_encoding::HEXLOWER.decode(root.spki_sha256.as_bytes()));
    let report = ReportRequest { trusted_root_spki_sha256: told.collect::<Result<_, _>>()? };
    let mut joining = JoinServiceClient::new(anchor.channel(mesh.xds()));
    let answer = joining.report(report).await?.into_inner();
    ensure!(answer.bundle_der.is_empty(), "it trusts all that it should");
    until("leaves are signed under the new root", CONVERGES, async || {
        let now = mesh.client().ca().await?.rotation.context("no rotation")?;
        ensure!(now.stage == RotationStageName::RenewingLeaves, "{now:#?}");
        Ok(())
    })
    .await
}

async fn reports_are_read_strictly_and_hold_up_only_who_sends_them(mesh: &mut Mesh) -> anyhow::Result<()> {
    mesh.apply(&[service("web"), service("cart")].concat()).await?;
    let (liar, honest) = (member(mesh, "web", "web-1").await?, member(mesh, "cart", "cart-1").await?);
    let report = |joined: &weft_e2e::harness::Joined, roots: Vec<Vec<u8>>| {
        let mut joining = JoinServiceClient::new(joined.channel(mesh.xds()));
        async move {
            let answer = joining.report(ReportRequest { trusted_root_spki_sha256: roots }).await?;
            anyhow::Ok(answer.into_inner())
        }
    };
    let mut stranger = JoinServiceClient::new(channel(mesh.xds(), None));
    let outcome = stranger.report(ReportRequest::default()).await.map_err(anyhow::Error::from);
    refused(outcome, &[Code::Unauthenticated])?;
    for (what, roots) in [
        ("a short hash", vec![vec![1; 31]]),
        ("a long hash", vec![vec![1; 33]]),
        ("many", vec![vec![1; 32]; 17]),
    ] {
        refused(report(&liar, roots).await, &[Code::InvalidArgument]).context(what)?;
    }

    mesh.client().rotate_root(&RotationRequest::default()).await?;
    let roots = mesh.client().ca().await?.roots;
    let all: Vec<Vec<u8>> = roots
        .iter()
        .map(|root| data_encoding::HEXLOWER.decode(root.spki_sha256.as_bytes()))
        .collect::<Result<_, _>>()?;
    let answer = report(&liar, vec![vec![1; 32]]).await?;
    ensure!(answer.bundle_der.len() == 2, "it is told what to trust");
    report(&honest, all).await?;
    until("one holds the stage, and is named", CONVERGES, async || {
        let rotation = mesh.client().ca().await?.rotation.context("no rotation")?;
        let who: Vec<&str> = rotation.waits_for.iter().map(|wait| wait.who.as_str()).collect();
        ensure!(
            rotation.stage == RotationStageName::DistributingRoot && who == ["shop/web-1"],
            "{rotation:#?}"
        );
        Ok(())
    })
    .await?;
    // A member that lies for ever is taken out, and nobody waits for it.
    mesh.client().revoke_proxy("shop/web-1").await?;
    until("the next stage", CONVERGES, async || {
        let rotation = mesh.client().ca().await?.rotation.context("no rotation")?;
        ensure!(rotation.stage == RotationStageName::RenewingLeaves, "{rotation:#?}");
        Ok(())
    })
    .await
}
