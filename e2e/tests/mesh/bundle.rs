//! `weft debug bundle`: what helps is in it, and no secret.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, ensure};
use weft_e2e::harness::{Mesh, Options, Sidecar, StoreKind};

const HEADER_VALUE: &str = "s3cr3t-header-value";

/// Header values where people write them: set by a route, matched by a route, asked for by a policy.
const DOCUMENTS: &str = r"
apiVersion: weft.dev/v1
kind: Service
metadata: {name: web, namespace: shop}
spec: {ports: [{name: http, port: 80, protocol: HTTP}]}
---
apiVersion: weft.dev/v1
kind: HTTPRoute
metadata: {name: web, namespace: shop}
spec:
  parentRefs: [{kind: Service, name: web, port: 80}]
  rules:
  - matches: [{headers: [{name: x-api-key, value: s3cr3t-header-value}]}]
    filters: [{type: RequestHeaderModifier, requestHeaderModifier: {set: [{name: x-api-key, value: s3cr3t-header-value}]}}]
    backendRefs: [{name: web, port: 80}]
---
apiVersion: weft.dev/v1
kind: AuthorizationPolicy
metadata: {name: web, namespace: shop}
spec:
  targetRefs: [{kind: Service, name: web}]
  action: Allow
  rules: [{name: key, when: [{header: x-api-key, values: [s3cr3t-header-value]}]}]
";

#[tokio::test]
async fn bundle_has_what_helps_and_no_secret() {
    Mesh::run(Options::new(StoreKind::Embedded), bundles).await;
}

async fn bundles(mesh: &mut Mesh) -> anyhow::Result<()> {
    mesh.apply(DOCUMENTS).await?;
    let weft = mesh.workload("shop/web").version("weft").serving().start().await?;
    let envoy = mesh.workload("shop/web").version("envoy").serving().beside(Sidecar::Envoy).start().await?;
    mesh.in_sync(&[weft.id(), envoy.id()]).await?;
    let unused = mesh.token("shop/web").await?.token;
    let principal = mesh.client().create_principal("ops").await?.token;
    let seal_key = std::fs::read_to_string(mesh.control_plane().data().join("seal.key"))?;
    let mut secrets = vec![
        ("the operator's token", mesh.operator_token()?),
        ("a join token", unused),
        ("a principal's token", principal),
        ("the seal key", seal_key.trim().to_owned()),
        ("a header's value", HEADER_VALUE.to_owned()),
    ];
    for workload in [&weft, &envoy] {
        secrets.extend(keys_below(workload.identity_dir())?.into_iter().map(|key| ("a private key", key)));
    }
    ensure!(secrets.len() >= 7, "there are no private keys to look for: {}", secrets.len());

    let file = mesh.dir().join("bundle.tar.gz");
    let said = mesh.weft(&["debug", "bundle", "--out", &file.display().to_string()]).await?;
    ensure!(said.contains("KiB") && !said.contains("left out"), "{said}");
    let again = mesh.weft(&["debug", "bundle", "--out", &file.display().to_string()]).await;
    ensure!(again.is_err_and(|error| error.to_string().contains("there is such a file")));
    let folder = mesh.dir().join("unpacked");
    std::fs::create_dir(&folder)?;
    let unpacked = tokio::process::Command::new("tar").arg("-xzf").arg(&file).arg("-C").arg(&folder).status();
    ensure!(unpacked.await?.success(), "tar does not read it");

    let files = files_below(&folder)?;
    for (path, text) in &files {
        for (what, secret) in &secrets {
            ensure!(!text.contains(secret.as_str()), "{what} stands in {}", path.display());
        }
    }
    for (name, words) in [
        ("README.txt", "taken out"),
        ("check.txt", "ok "),
        ("check.json", "findings"),
        ("version.json", "weft-proxy"),
        ("proxies.json", "shop/web-weft"),
        ("proxies/shop.web-weft.json", "x-api-key"),
        ("proxies/shop.web-envoy.json", "x-api-key"),
        ("documents/httproutes.json", "x-api-key"),
        ("documents/authorizationpolicies.json", "x-api-key"),
        ("history.json", "HTTPRoute"),
        ("audit.json", "POST"),
        ("requests.json", "items"),
        ("edges.json", "items"),
        ("log.txt", "event=workload_joined"),
        ("dump.json", "policyRevision"),
        ("metrics.txt", "weft_events_total"),
    ] {
        let found = files.iter().find(|(path, _)| path.ends_with(name));
        let (_, text) = found.with_context(|| format!("there is no {name}"))?;
        ensure!(text.contains(words), "{words:?} does not stand in {name}: {text}");
    }
    Ok(())
}

/// Files below a folder, with what is in them.
fn files_below(folder: &Path) -> anyhow::Result<Vec<(PathBuf, String)>> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            found.extend(files_below(&path)?);
        } else {
            let text = String::from_utf8_lossy(&std::fs::read(&path)?).into_owned();
            found.push((path, text));
        }
    }
    Ok(found)
}

/// The first line of each private key below a folder, as it would stand in any text.
fn keys_below(folder: &Path) -> anyhow::Result<Vec<String>> {
    let mut keys = Vec::new();
    for (_, text) in files_below(folder)? {
        for key in text.split("PRIVATE KEY-----").skip(1).step_by(2) {
            let line = key.trim_start_matches("\\n").trim().split(['\n', '\\']).next().unwrap_or_default();
            if line.len() > 20 {
                keys.push(line.to_owned());
            }
        }
    }
    Ok(keys)
}
