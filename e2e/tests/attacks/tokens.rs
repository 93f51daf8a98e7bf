//! Somebody has a join token, or a part of one, and wants more joins, another name's place, or an answer that tells.

use anyhow::{Context as _, ensure};
use futures::future::join_all;
use tonic::{Code, Status};
use weft_api::JoinToken;
use weft_api::rest::TokenRequest;
use weft_e2e::harness::{Mesh, NewKey, described, join, join_with, until};

use crate::ground::{
    ANSWER, Attacks, member, on_both_stores, on_the_embedded_store, refused, service, token_for,
};

const WEB: &str = "shop/web";

on_both_stores!(token_opens_as_often_as_it_says, token_that_ended_opens_nothing);
on_the_embedded_store!(
    strangers_learn_nothing_from_the_answer,
    tokens_of_impossible_services_are_not_made,
    renewals_of_others_are_not_starved_by_name,
);

/// One use is one member, however many ask at once, and the lost answer is asked for again with the same key only.
pub(crate) async fn token_opens_as_often_as_it_says(mesh: &mut Mesh) -> anyhow::Result<()> {
    mesh.apply(&service("web")).await?;
    let token = mesh.token(WEB).await?.token;
    let address = mesh.next_address();
    let racers = (0..24).map(|n| {
        let token = token.clone();
        async move { join(&token, &NewKey::plain()?, described(&format!("racer-{n}"), address)).await }
    });
    let outcomes = join_all(racers).await;
    let entered = outcomes.iter().filter(|outcome| outcome.is_ok()).count();
    ensure!(entered == 1, "{entered} of 24 entered with a token for one");
    let listed = mesh.client().list("workloads", Some("shop")).await?.items;
    ensure!(listed.len() == 1, "{listed:?}");

    let (token, key) = (mesh.token(WEB).await?.token, NewKey::plain()?);
    join(&token, &key, described("once", address)).await?;
    join(&token, &key, described("once", address)).await.context("the lost answer, asked for again")?;
    let other = join(&token, &NewKey::plain()?, described("once", address)).await;
    refused(other, &[Code::PermissionDenied, Code::AlreadyExists]).context("another key")?;
    let twice = join(&token, &NewKey::plain()?, described("twice", address)).await;
    refused(twice, &[Code::PermissionDenied]).context("another name")
}

async fn token_that_ended_opens_nothing(mesh: &mut Mesh) -> anyhow::Result<()> {
    mesh.apply(&service("web")).await?;
    let address = mesh.next_address();
    let revoked = mesh.token(WEB).await?;
    mesh.client().revoke_token(&revoked.info.id).await?;
    let outcome = join(&revoked.token, &NewKey::plain()?, described("late", address)).await;
    refused(outcome, &[Code::PermissionDenied, Code::Unauthenticated]).context("revoked")?;
    let short =
        TokenRequest { service: WEB.to_owned(), ttl: Some("1s".to_owned()), ..TokenRequest::default() };
    let short = mesh.client().create_token(&short).await?;
    let ends = short.info.expires_at;
    until("a second is over", ANSWER, async || {
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH)?.as_secs();
        ensure!(i64::try_from(now)? > ends, "not yet");
        Ok(())
    })
    .await?;
    let outcome = join(&short.token, &NewKey::plain()?, described("late", address)).await;
    refused(outcome, &[Code::PermissionDenied]).context("expired")
}

/// An unknown id, a wrong secret and a cut one get one and the same answer, word for word.
async fn strangers_learn_nothing_from_the_answer(mesh: &mut Mesh) -> anyhow::Result<()> {
    mesh.apply(&service("web")).await?;
    let address = mesh.next_address();
    let token: JoinToken = mesh.token(WEB).await?.token.parse()?;
    let spent = mesh.token(WEB).await?.token;
    join(&spent, &NewKey::plain()?, described("web-1", address)).await?;
    let spent: JoinToken = spent.parse()?;
    let with = |id: &str, secret: [u8; 32]| JoinToken { id: id.to_owned(), secret, ..token.clone() };
    let mut flipped = token.secret;
    flipped[31] ^= 1;
    let long = "t".repeat(5000);
    let mut answers = Vec::new();
    for (id, secret) in [
        (token.id.as_str(), flipped),
        (token.id.as_str(), [0; 32]),
        (token.id.as_str(), spent.secret),
        (spent.id.as_str(), token.secret),
        ("t-0000000000000000", token.secret),
        ("", token.secret),
        ("../operators/0", token.secret),
        ("t-*", token.secret),
        ("t-\u{0}", token.secret),
        (long.as_str(), token.secret),
    ] {
        let key = NewKey::plain()?;
        let outcome = join_with(&with(id, secret), key.csr().to_vec(), described("web-2", address)).await;
        let error = outcome.err().with_context(|| format!("{id:?} was let in"))?;
        let status = error.downcast_ref::<Status>().context("no status")?;
        answers.push((status.code(), status.message().to_owned()));
    }
    let first = answers[0].clone();
    ensure!(first.0 == Code::Unauthenticated, "{first:?}");
    ensure!(answers.iter().all(|answer| *answer == first), "{answers:?}");
    ensure!(mesh.client().list("workloads", None).await?.items.len() == 1, "somebody entered");
    Ok(())
}

async fn tokens_of_impossible_services_are_not_made(mesh: &mut Mesh) -> anyhow::Result<()> {
    let mut attacks = Attacks::default();
    let long = format!("shop/{}", "a".repeat(5000));
    for asked in [
        "",
        "shop",
        "/",
        "shop/",
        "/web",
        "shop//web",
        "../control-plane",
        "shop/..",
        "shop/web/x",
        "SHOP/web",
        "shop/wеb",
        "shop/web\n",
        "shop/*",
        "spiffe://mesh.local/control-plane",
        "control-plane",
        &long,
    ] {
        let request = TokenRequest { service: asked.to_owned(), ..TokenRequest::default() };
        let outcome = mesh.client().create_token(&request).await;
        let held = if outcome.is_err() { Ok(()) } else { Err(anyhow::anyhow!("a token was made")) };
        attacks.held(format!("{:?}", asked.chars().take(40).collect::<String>()), held);
    }
    for (what, body) in [
        ("a life of a year", r#"{"service": "shop/web", "ttl": "365d"}"#),
        ("no life", r#"{"service": "shop/web", "ttl": "0s"}"#),
        ("no uses", r#"{"service": "shop/web", "uses": 0}"#),
        ("a million uses", r#"{"service": "shop/web", "uses": 1000000}"#),
        ("any label", r#"{"service": "shop/web", "allowLabels": ["*=*"]}"#),
        ("a label without a value", r#"{"service": "shop/web", "allowLabels": ["version"]}"#),
        ("an unknown field", r#"{"service": "shop/web", "admin": true}"#),
        ("an address that is none", r#"{"service": "shop/web", "allowAddresses": ["10.0.0.0/33"]}"#),
    ] {
        let answer = mesh.call("POST", "/v1/tokens", body).await?;
        let held =
            if (400..500).contains(&answer.status) { Ok(()) } else { Err(anyhow::anyhow!("{answer:?}")) };
        attacks.held(what, held);
    }
    attacks.end()
}

/// M5: a token for `web`, and the name of a workload of `catalog` on every request: the victim's own bucket stays full.
async fn renewals_of_others_are_not_starved_by_name(mesh: &mut Mesh) -> anyhow::Result<()> {
    mesh.apply(&[service("web"), service("catalog")].concat()).await?;
    let victim = member(mesh, "catalog", "catalog-1").await?;
    let token = token_for(mesh, WEB, 100).await?;
    let address = mesh.next_address();
    for _ in 0..20 {
        let outcome = join(&token, &NewKey::plain()?, described("catalog-1", address)).await;
        refused(outcome, &[Code::AlreadyExists, Code::PermissionDenied, Code::ResourceExhausted])?;
    }
    victim.renew(mesh.xds()).await.context("the victim's renewal")?;
    Ok(())
}
