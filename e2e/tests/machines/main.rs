//! The second machine: control plane, weft-proxy and stock Envoy on three machines of one network, joined as the README
//! says, with a token and the application's port and nothing else.

mod access;
mod outbound;
mod site;

use anyhow::{Context as _, ensure};
use serde_json::Value;

use site::{SERVICES, Site};

#[tokio::test]
async fn workloads_on_other_machines_call_each_other_with_a_token_and_nothing_else() {
    Site::run(async |site: &mut Site| {
        site.apply(SERVICES).await?;
        site.start_weft_proxy("alpha", "store").await?;
        site.start_weft_proxy("beta", "web").await?;
        site.start_envoy("gamma", "cart").await?;
        let services = [("alpha", "store"), ("beta", "web"), ("gamma", "cart")];
        for (machine, service) in services {
            for (place, called) in services {
                let tree =
                    site.call(machine, called).await.with_context(|| format!("{machine} calls {called}"))?;
                ensure!(tree["service"] == called, "{machine} to {called}: {tree}");
                let peer = tree["peer"].as_str().unwrap_or_default();
                ensure!(peer.ends_with(&format!("/ns/shop/svc/{service}")), "{called} saw {peer}");
                let name = format!("{called}-{place}");
                ensure!(site.workloads().await?.contains(&format!("shop/{name}")), "{name} is not its name");
            }
        }
        endpoints_are_addresses_to_connect_to(site).await
    })
    .await;
}

/// D1: what callers are told, by the API and by the proxies.
async fn endpoints_are_addresses_to_connect_to(site: &Site) -> anyhow::Result<()> {
    let ids = site.workloads().await?;
    ensure!(ids.len() == 3, "{ids:?}");
    for id in ids {
        let config = site.weft("beta", &["proxy", "config", &id, "-o", "json"]).await?;
        let config: Value = serde_json::from_str(&config)?;
        let told: Vec<String> = site::addresses(&config["EDS"]);
        ensure!(told.len() >= 2, "{id} is told of {told:?}");
        ensure!(told.iter().all(|address| address.starts_with("10.77.0.")), "{id} is told of {told:?}");
    }
    Ok(())
}
