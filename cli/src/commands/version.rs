//! `weft version`: this program, the control planes, the proxies.

use std::process::ExitCode;

use serde_json::json;
use weft_api::client::ApiClient;
use weft_api::rest::VersionInfo;

use crate::args::VersionArgs;
use crate::output;
use crate::replicas::ReplicaClients;

const VERSION: &str = env!("CARGO_PKG_VERSION");

/// What control planes say, where one is found and answers; the version of this program is told whatever becomes of that.
pub async fn run(access: anyhow::Result<ReplicaClients>, args: &VersionArgs) -> anyhow::Result<ExitCode> {
    let server = match access {
        Ok(replicas) => {
            replicas.any(async |client: &ApiClient| client.version().await).await.map_err(anyhow::Error::from)
        }
        Err(error) => Err(error),
    };
    let note = server.as_ref().err().map(|error| format!("{error:#}"));
    let server = server.ok();
    let document = json!({"client": {"version": VERSION}, "server": server, "note": note});
    output::print(args.output, &document, &["WHAT", "VERSION", "WHERE"], || rows(server.as_ref()))?;
    if let Some(note) = note.filter(|_| args.output.is_table()) {
        eprintln!("note: the control plane's version is not known: {note}");
    }
    Ok(ExitCode::SUCCESS)
}

fn rows(server: Option<&VersionInfo>) -> Vec<Vec<String>> {
    let mut rows = vec![["weft", VERSION, "this program"].map(str::to_owned).to_vec()];
    for replica in server.iter().flat_map(|server| &server.replicas) {
        let version = replica.version.clone().unwrap_or_else(|| "-".to_owned());
        let place = match &replica.error {
            Some(error) => format!("{}: {error}", replica.address),
            None => replica.address.clone(),
        };
        rows.push(vec!["control plane".to_owned(), version, place]);
    }
    for proxy in server.iter().flat_map(|server| &server.proxies) {
        let (name, version) = proxy.agent.rsplit_once(' ').unwrap_or((&proxy.agent, "-"));
        let name = if name.is_empty() { "unknown" } else { name };
        rows.push(vec![name.to_owned(), version.to_owned(), format!("{} connected", proxy.count)]);
    }
    rows
}

#[cfg(test)]
mod tests {
    use weft_api::rest::{ProxyVersion, ReplicaVersion};

    use super::*;

    #[test]
    fn each_side_has_its_rows() {
        assert_eq!(rows(None).len(), 1);
        let replica = |version: Option<&str>, error: Option<&str>| ReplicaVersion {
            address: "10.0.0.1:7401".to_owned(),
            version: version.map(str::to_owned),
            error: error.map(str::to_owned),
        };
        let server = VersionInfo {
            version: "1.2.3".to_owned(),
            replicas: vec![replica(Some("1.2.3"), None), replica(None, Some("no answer in time"))],
            proxies: vec![ProxyVersion { agent: "envoy 1.40.0".to_owned(), count: 2 }],
        };
        let table = output::table(&["WHAT", "VERSION", "WHERE"], &rows(Some(&server)));
        for line in [
            "control plane  1.2.3    10.0.0.1:7401",
            "control plane  -        10.0.0.1:7401: no answer in time",
            "envoy          1.40.0   2 connected",
        ] {
            assert!(table.contains(line), "{line:?} does not stand in\n{table}");
        }
    }
}
