//! `weft` from another machine, and beside the control plane; what it says when something is wrong.

use std::net::Ipv4Addr;

use anyhow::{Context as _, ensure};
use weft_e2e::harness::ours;

use crate::site::{SERVICES, Site};

/// D2: the API off loopback is TLS by the mesh's own roots.
#[tokio::test]
async fn weft_reaches_the_api_from_everywhere_and_says_what_is_wrong_when_it_does_not() {
    Site::run(async |site: &mut Site| {
        site.apply(SERVICES).await?;
        let listed = site.weft("beta", &["get", "services"]).await?;
        ensure!(listed.contains("store") && listed.contains("cart"), "{listed}");

        // On the control plane's own machine nothing has to be given: its files are beside it.
        let home = site.dir().join("home");
        std::fs::create_dir(&home)?;
        std::os::unix::fs::symlink(site.dir().join("data"), home.join("weft-data"))?;
        let listed = site.try_weft("alpha", &["get", "services"], &home).await?;
        ensure!(listed.as_ref().is_ok_and(|listed| listed.contains("store")), "{listed:?}");

        let ca = site.ca();
        let ca = ca.to_str().unwrap_or_default();
        let other = Ipv4Addr::new(10, 77, 0, 200);
        site.machine("alpha").add_address(other).await?;
        let stranger = site.dir().join("stranger.pem");
        std::fs::write(&stranger, rcgen::generate_simple_self_signed(vec![])?.cert.pem())?;
        let stranger = stranger.to_str().unwrap_or_default();
        for (flags, says) in [
            (vec!["--api", "http://10.77.0.1:7400"], vec!["plain text", "https://10.77.0.1:7400"]),
            (vec!["--api", "https://10.77.0.1:7400"], vec!["--ca", "ca.pem"]),
            (
                vec!["--api", "https://10.77.0.1:7400", "--ca", stranger],
                vec!["--ca", "not signed by the roots"],
            ),
            (vec!["--api", "https://10.77.0.2:7400", "--ca", ca], vec!["nothing listens on 10.77.0.2:7400"]),
            (vec!["--api", "https://10.77.0.200:7400", "--ca", ca], vec!["10.77.0.1", "--public"]),
            (vec!["--api", "https://10.77.0.1:7401", "--ca", ca], vec!["10.77.0.1:7401", "--api"]),
        ] {
            let arguments = [&flags[..], &["get", "services"]].concat();
            let said = site.try_weft("beta", &arguments, site.dir()).await?;
            let Err(said) = said else { anyhow::bail!("{flags:?} works") };
            ensure!(says.iter().all(|part| said.contains(part)), "{flags:?}: {said}");
        }
        let plain = ["--api", "http://127.0.0.1:7400", "get", "services"];
        let said = site.try_weft("alpha", &plain, site.dir()).await?;
        ensure!(said.as_ref().is_err_and(|said| said.contains("https://127.0.0.1:7400")), "{said:?}");
        Ok(())
    })
    .await;
}

/// What the control plane writes beside its token is all that another machine needs, and the roots are in it.
#[tokio::test]
async fn login_on_another_machine_takes_one_file() {
    Site::run(async |site: &mut Site| {
        site.apply(SERVICES).await?;
        let home = site.dir().join("home-of-beta");
        std::fs::create_dir(&home)?;
        let environment = [("HOME", home.to_str().context("path")?), ("XDG_CONFIG_HOME", "")];
        let place = site.machine("beta").place();
        let file = site.dir().join("data/operator.context");
        for (arguments, says) in [
            (vec!["login", file.to_str().context("path")?], "https://10.77.0.1:7400"),
            (vec!["get", "services"], "store"),
            (vec!["context", "list"], "https://10.77.0.1:7400"),
        ] {
            let output = place.output(&ours("weft")?, &arguments, &environment, &home).await?;
            let said = String::from_utf8_lossy(&output.stdout);
            ensure!(output.status.success() && said.contains(says), "{arguments:?}: {output:?}");
        }
        Ok(())
    })
    .await;
}
