//! Who may not move the mesh to another authority, and chains that should not move it.

use anyhow::{Context as _, ensure};
use http::header::AUTHORIZATION;
use http::{HeaderMap, HeaderValue};
use weft_api::client::ClientError;
use weft_api::rest::IssuerImport;
use weft_e2e::harness::{Answer, Mesh, OfflineRoot};

use crate::ground::{Attacks, on_the_embedded_store};

/// All that a role can allow.
const DEPUTY: &str = "
{apiVersion: weft.dev/v1, kind: Role, metadata: {name: deputy}, spec: {rules: [{verbs: [Read, Write, Delete], kinds: ['*'], namespaces: ['*']}]}}
---
{apiVersion: weft.dev/v1, kind: RoleBinding, metadata: {name: deputy}, spec: {role: deputy, subjects: [{principal: deputy}]}}
";

on_the_embedded_store!(authority_is_moved_by_operators_alone_and_by_nothing_that_does_not_fit);

async fn authority_is_moved_by_operators_alone_and_by_nothing_that_does_not_fit(
    mesh: &mut Mesh,
) -> anyhow::Result<()> {
    let (root, other) = (OfflineRoot::create(mesh.dir(), "own")?, OfflineRoot::create(mesh.dir(), "other")?);
    let request = mesh.client().issuer_request().await?;
    let before = mesh.client().ca().await?;
    let good = root.sign(&request.pem, 365)?;
    let certificate = good.split_inclusive("-----END CERTIFICATE-----\n").next().context("no certificate")?;
    let roots = other.sign(&request.pem, 365)?;
    let foreign_root = roots.split_inclusive("-----END CERTIFICATE-----\n").nth(1).context("no root")?;
    let mut attacks = Attacks::default();

    // One who may do all that roles can allow, and is no operator.
    let token = mesh.client().create_principal("deputy").await?.token;
    mesh.apply(DEPUTY).await?;
    for path in ["/v1/ca/csr", "/v1/ca/import"] {
        let bearer = HeaderValue::try_from(format!("Bearer {token}"))?;
        let set = |headers: &mut HeaderMap| drop(headers.insert(AUTHORIZATION, bearer));
        let deputy = mesh.send("POST", path, set).await?;
        let refused = deputy.status == 403 && deputy.body.contains("operator's token");
        attacks.held(format!("{path} by a deputy"), ensured(refused, &deputy));
        let without = mesh.send("POST", path, |_| {}).await?;
        attacks.held(format!("{path} without a token"), ensured(without.status == 401, &without));
    }

    let no_ca = root.sign_with(&request.pem, "-days 365")?;
    let key = "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n";
    for (attack, chain, words) in [
        ("an issuer that is no CA", no_ca, "basicConstraints"),
        ("signed by another root of another name", [certificate, foreign_root].concat(), "issuer"),
        ("without its root", certificate.to_owned(), "up to and with the root"),
        ("the root alone", foreign_root.to_owned(), "subjectPublicKeyInfo"),
        ("with a key", format!("{good}{key}"), "private key"),
        ("out of order", good.lines().rev().collect::<Vec<_>>().join("\n"), "PEM"),
        ("nothing", String::new(), "no certificate"),
    ] {
        let outcome = mesh.client().import_issuer(&IssuerImport { chain, spread: None }).await;
        let held = match outcome {
            Err(ClientError::Refused(problem))
                if problem.code == "unfit_authority" && problem.detail.contains(words) =>
            {
                Ok(())
            }
            other => Err(anyhow::anyhow!("{other:?}")),
        };
        attacks.held(attack, held);
    }
    let giant = IssuerImport { chain: "x".repeat(200_000), spread: None };
    let answer = mesh.call("POST", "/v1/ca/import", &serde_json::to_string(&giant)?).await?;
    attacks.held("a giant chain", ensured(answer.status == 413, &answer));
    attacks.end()?;

    let after = mesh.client().ca().await?;
    ensure!(after == before, "nothing has moved: {after:#?}");
    ensure!(mesh.client().issuer_request().await? == request, "the request is open still");
    // What is refused to some is open to the operator.
    let moved = mesh.client().import_issuer(&IssuerImport { chain: good, spread: None }).await?;
    ensure!(moved.rotation.is_some(), "{moved:#?}");
    Ok(())
}

fn ensured(held: bool, answer: &Answer) -> anyhow::Result<()> {
    ensure!(held, "{answer:?}");
    Ok(())
}
