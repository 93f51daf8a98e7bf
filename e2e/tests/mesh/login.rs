//! `weft login` and contexts: from one place, then from anywhere.

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Output;

use anyhow::ensure;
use serde_json::Value;
use tokio::process::Command;
use weft_e2e::harness::{Mesh, Options, StoreKind, ours};

use crate::shop::service;

#[tokio::test]
async fn login_with_the_control_planes_file_is_good_from_any_directory() {
    Mesh::run(Options::new(StoreKind::Embedded), async |mesh: &mut Mesh| {
        mesh.apply(&service("web")).await?;
        let (home, away) = (mesh.dir().join("home"), mesh.dir().join("away"));
        std::fs::create_dir_all(&home)?;
        std::fs::create_dir_all(&away)?;
        let file = mesh.control_plane().data().join("operator.context");
        ensure!(std::fs::metadata(&file)?.permissions().mode() & 0o777 == 0o600, "others can read it");
        let api = mesh.control_plane().api();

        let refused = weft(&home, &away, &["get", "services"]).await?;
        ensure!(refused.status.code() == Some(1) && text(&refused).contains("weft login"), "{refused:?}");
        let file = file.to_string_lossy().into_owned();
        let done = weft(&home, &away, &["login", &file, "--name", "here"]).await?;
        ensure!(done.status.success() && text(&done).contains(&api), "{done:?}");
        let listed = weft(&home, &away, &["get", "services"]).await?;
        ensure!(listed.status.success() && text(&listed).contains("web"), "{listed:?}");

        // It is kept for its owner only.
        let kept = home.join(".config/weft/contexts/here.json");
        ensure!(std::fs::metadata(&kept)?.permissions().mode() & 0o777 == 0o600, "others can read it");
        let contexts = weft(&home, &away, &["context", "list", "-o", "json"]).await?;
        let shown: Value = serde_json::from_slice(&contexts.stdout)?;
        ensure!(shown["items"][0]["api"] == api && shown["items"][0]["current"] == true, "{shown}");
        ensure!(!text(&contexts).contains(&mesh.operator_token()?), "the token shows");

        // Another host gets none of it.
        let elsewhere = weft(&home, &away, &["--api", "https://127.0.0.9:1", "get", "services"]).await?;
        ensure!(text(&elsewhere).contains("no operator token for https://127.0.0.9:1"), "{elsewhere:?}");

        let used = weft(&home, &away, &["context", "use", "nowhere"]).await?;
        ensure!(used.status.code() == Some(1) && text(&used).contains("here"), "{used:?}");
        let gone = weft(&home, &away, &["context", "remove", "here"]).await?;
        ensure!(gone.status.success() && !kept.exists(), "{gone:?}");
        Ok(())
    })
    .await;
}

#[tokio::test]
async fn login_that_the_control_plane_refuses_keeps_nothing() {
    Mesh::run(Options::new(StoreKind::Embedded), async |mesh: &mut Mesh| {
        let home = mesh.dir().join("home");
        std::fs::create_dir_all(&home)?;
        let file = mesh.control_plane().data().join("operator.context");
        let mut context: Value = serde_json::from_str(&std::fs::read_to_string(&file)?)?;
        for (api, token, says) in [
            (mesh.control_plane().api(), "weftop.guessed".to_owned(), "token"),
            ("http://10.0.0.1:7400".to_owned(), mesh.operator_token()?, "plain text"),
            ("https://127.0.0.9:1".to_owned(), mesh.operator_token()?, "127.0.0.9:1"),
        ] {
            (context["api"], context["token"]) = (api.into(), token.into());
            let file = home.join("changed.context");
            std::fs::write(&file, context.to_string())?;
            let refused = weft(&home, &home, &["login", &file.to_string_lossy()]).await?;
            ensure!(refused.status.code() == Some(1) && text(&refused).contains(says), "{says}: {refused:?}");
            ensure!(!home.join(".config").exists(), "something is kept");
        }
        Ok(())
    })
    .await;
}

async fn weft(home: &Path, from: &Path, args: &[&str]) -> anyhow::Result<Output> {
    let mut command = Command::new(ours("weft")?);
    for variable in ["XDG_CONFIG_HOME", "WEFT_TOKEN", "WEFT_TOKEN_FILE", "WEFT_API", "WEFT_CONTEXT"] {
        command.env_remove(variable);
    }
    Ok(command.env("HOME", home).current_dir(from).args(args).output().await?)
}

fn text(output: &Output) -> String {
    [&output.stdout, &output.stderr].map(|bytes| String::from_utf8_lossy(bytes).into_owned()).concat()
}
