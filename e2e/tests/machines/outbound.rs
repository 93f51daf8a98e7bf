//! `Mesh.defaults.outbound`: hosts that no service has, on another machine and on this one, through both proxies.

use std::time::Duration;

use anyhow::{Context as _, ensure};
use weft_e2e::harness::{Place, until};

use crate::site::{SERVICES, Site};

const TIMEOUT: Duration = Duration::from_secs(20);
const SIDECAR: &str = "--sidecar=127.0.0.1:15001";

/// `outside` is on `alpha` alone. On each machine something listens on loopback at the same port, which must never be
/// reached: not by its address, however it is written, nor by a name, even one that has a good address too.
const HOSTS: &str = "
127.0.0.1 localhost
10.77.0.1 outside.example
127.0.0.1 inside.example
10.77.0.1 both.example
127.0.0.1 both.example
";
const OWN: [&str; 8] = [
    "127.0.0.1:9090",
    "127.1.2.3:9090",
    "0.0.0.0:9090",
    "[::1]:9090",
    "[::ffff:127.0.0.1]:9090",
    "169.254.169.254",
    "localhost:9090",
    "inside.example:9090",
];
/// The control plane's, beside which `outside` may be called.
const CONTROL_PLANE: [&str; 4] =
    ["10.77.0.1:7401", "10.77.0.1:7400", "[::ffff:10.77.0.1]:7401", "outside.example:7400"];

fn mesh(outbound: &str) -> String {
    format!(
        "{{apiVersion: weft.dev/v1, kind: Mesh, metadata: {{name: mesh}}, spec: {{defaults: {{outbound: {outbound}}}}}}}\n"
    )
}

#[tokio::test]
async fn a_host_that_is_no_service_is_forwarded_where_the_mesh_says_so_and_never_to_this_machine() {
    Site::run(async |site: &mut Site| {
        let hosts = site.dir().join("hosts");
        std::fs::write(&hosts, HOSTS)?;
        site.know_hosts(&hosts)?;
        site.apply(SERVICES).await?;
        site.start_weft_proxy("beta", "web").await?;
        site.start_envoy("gamma", "cart").await?;
        site.serve("alpha", "outside", "10.77.0.1:9090")?;
        for machine in ["beta", "gamma"] {
            site.serve(machine, "own", "127.0.0.1:9090")?;
        }
        for machine in ["beta", "gamma"] {
            let place = site.machine(machine).place();
            let said = refused(place, "10.77.0.1:9090", &[]).await?;
            ensure!(said.contains("502") && said.contains("RegistryOnly"), "{machine}: {said}");
        }
        site.apply(WILDCARD).await?;
        for machine in ["beta", "gamma"] {
            let place = site.machine(machine).place();
            leads_below_a_wildcard(place).await.with_context(|| format!("{machine}: a wildcard"))?;
        }
        site.apply(&mesh("Allow")).await?;
        for (machine, other) in [("beta", "cart"), ("gamma", "web")] {
            let place = site.machine(machine).place();
            forwards(place).await.with_context(|| machine.to_owned())?;
            keeps_out(place).await.with_context(|| machine.to_owned())?;
            // What is a service stays one.
            let tree = site.call(machine, other).await?;
            ensure!(tree["peer"].as_str().is_some_and(|peer| peer.starts_with("spiffe://")), "{tree}");
        }
        site.apply(&mesh("RegistryOnly")).await?;
        for machine in ["beta", "gamma"] {
            let place = site.machine(machine).place();
            until("nothing is forwarded any more", TIMEOUT, async || {
                let said = refused(place, "10.77.0.1:9090", &[]).await?;
                ensure!(said.contains("RegistryOnly"), "{said}");
                Ok(())
            })
            .await
            .with_context(|| machine.to_owned())?;
        }
        Ok(())
    })
    .await;
}

/// All names below one, on one port, each looked up by itself.
const WILDCARD: &str = "{apiVersion: weft.dev/v1, kind: ExternalService, metadata: {name: examples}, \
                        spec: {hosts: ['*.example'], ports: [{name: http, port: 9090, protocol: HTTP}]}}";

/// Hosts below it are forwarded to, on its port, and never to the machine itself; nobody else is.
async fn leads_below_a_wildcard(place: &Place) -> anyhow::Result<()> {
    for (host, flags) in [("outside.example:9090", &[][..]), ("both.example:9090", &["--tunnel"])] {
        let flags = [&[SIDECAR], flags].concat();
        until(&format!("{host} is forwarded to, {flags:?}"), TIMEOUT, async || {
            let tree = place.call_with(&format!("http://{host}/"), &flags).await?;
            ensure!(tree.contains("outside"), "{tree}");
            Ok(())
        })
        .await?;
    }
    let said = refused(place, "inside.example:9090", &[]).await?;
    ensure!(said.contains("503") && said.contains("no address that is forwarded to"), "{said}");
    for host in ["10.77.0.1:9090", "outside.example:7400", "example:9090"] {
        let said = refused(place, host, &[]).await?;
        ensure!(said.contains("502") && said.contains("RegistryOnly"), "{host}: {said}");
    }
    Ok(())
}

/// By address, by name, by a name of which one address is good, and through a tunnel.
async fn forwards(place: &Place) -> anyhow::Result<()> {
    let hosts = ["10.77.0.1:9090", "outside.example:9090", "both.example:9090"];
    for (host, flags) in hosts.into_iter().flat_map(|host| [(host, &[][..]), (host, &["--tunnel"])]) {
        let url = format!("http://{host}/");
        let flags = [&[SIDECAR], flags].concat();
        until(&format!("{host} is forwarded to, {flags:?}"), TIMEOUT, async || {
            let tree: serde_json::Value = serde_json::from_str(&place.call_with(&url, &flags).await?)?;
            ensure!(tree["service"] == "outside" && tree["peer"] == "", "{tree}");
            Ok(())
        })
        .await?;
    }
    // Whichever address a proxy tries, it is never its own.
    for _ in 0..20 {
        let tree = place.call_with("http://both.example:9090/", &[SIDECAR]).await?;
        ensure!(tree.contains("outside"), "{tree}");
    }
    Ok(())
}

async fn keeps_out(place: &Place) -> anyhow::Result<()> {
    let reached = place.call_with("http://127.0.0.1:9090/", &[]).await?;
    ensure!(reached.contains("own"), "without the sidecar it is there: {reached}");
    for host in OWN.into_iter().chain(CONTROL_PLANE) {
        for flags in [&[][..], &["--tunnel"]] {
            let said = refused(place, host, flags).await?;
            let by_address = said.contains("403")
                && said.contains("is an address of this machine, of its link or of a control plane");
            let by_name = said.contains("503") && said.contains("no address that is forwarded to");
            ensure!(by_address || by_name, "{host} {flags:?}: {said}");
        }
    }
    let said = refused(place, "nowhere.example", &[]).await?;
    ensure!(said.contains("no service of the mesh has the host name nowhere.example"), "{said}");
    Ok(())
}

/// What the caller is told.
async fn refused(place: &Place, host: &str, flags: &[&str]) -> anyhow::Result<String> {
    let called = place.call_with(&format!("http://{host}/"), &[&[SIDECAR], flags].concat()).await;
    match called {
        Ok(answer) => anyhow::bail!("{host} answers: {answer}"),
        Err(error) => Ok(format!("{error:#}")),
    }
}
