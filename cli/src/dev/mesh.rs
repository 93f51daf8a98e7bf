//! The mesh of `weft dev`: a control plane and a sidecar for each application, on addresses of their own.

use std::net::{IpAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use serde_json::json;
use weft_api::ServiceId;
use weft_api::client::{ApiClient, ApplyOptions};
use weft_api::rest::TokenRequest;
use weft_policies::kinds::mesh::OutboundMode;

use super::loopback::{Subnet, free};
use super::plan::PlannedApplication;
use crate::args::SidecarFlags;
use crate::run::ask;
use crate::up::processes::Processes;
use crate::up::{binaries, mesh};

/// Calls to hosts that are no service: `HTTP_PROXY` is to cut nobody off.
const OUTBOUND: OutboundMode = OutboundMode::Allow;
const NAMESPACE: &str = "default";
/// A local port of a TCP service is this much above the application's own, so that an application that listens on all
/// addresses is not in its way.
const ABOVE: u16 = 10_000;
/// The control plane's own address ends in 1.
const FIRST_SIDECAR: u8 = 2;
const START: Duration = Duration::from_secs(30);
const LOOK: Duration = Duration::from_millis(25);

/// A mesh that runs.
#[derive(Debug)]
pub struct DevMesh {
    /// `http://…` of the API.
    pub api: String,
    /// What lets `weft` in.
    pub token_file: PathBuf,
    /// In the order in which they were asked for.
    pub members: Vec<DevService>,
    _subnet: Subnet,
}

/// One service with its sidecar.
#[derive(Debug)]
pub struct DevService {
    pub planned: PlannedApplication,
    pub sidecar: SidecarFlags,
    /// Local ports of the services that are reached by one.
    pub upstreams: Vec<(String, String)>,
}

impl DevMesh {
    /// Starts control plane and sidecars; returns when each has its configuration.
    pub async fn start(
        planned: &[PlannedApplication],
        dir: &Path,
        processes: &mut Processes,
    ) -> anyhow::Result<Self> {
        let subnet = Subnet::claim()?;
        let data = dir.join("control-plane");
        let at = |port| free(subnet.address(1), port);
        let (api, xds, admin) = (at(7400)?, at(7401)?, at(7402)?);
        processes.start("control-plane", &binaries::find("weft-control-plane")?, |command| {
            forget_settings(command);
            command.arg("--data-dir").arg(&data);
            command.args([format!("--api-listen={api}"), format!("--xds-listen={xds}")]);
            command.arg(format!("--admin-listen={admin}"));
        })?;
        let api = format!("http://{api}");
        let client = mesh::control_plane(&api, &data, processes).await?;
        client.apply(&documents(planned), &ApplyOptions::default()).await?;
        let members =
            (FIRST_SIDECAR..).zip(planned).map(|(host, one)| DevService::new(one, planned, &subnet, host));
        let members = members.collect::<anyhow::Result<Vec<_>>>()?;
        for member in &members {
            member.start(&client, dir, processes).await?;
        }
        let deadline = Instant::now() + START;
        for member in &members {
            member.is_ready(processes, deadline).await?;
        }
        // Each of them has heard of the last one.
        mesh::in_sync(&client, processes, members.len()).await?;
        Ok(Self { api, token_file: data.join("operator.token"), members, _subnet: subnet })
    }
}

impl DevService {
    fn new(
        planned: &PlannedApplication,
        all: &[PlannedApplication],
        subnet: &Subnet,
        host: u8,
    ) -> anyhow::Result<Self> {
        let address = subnet.address(host);
        let mut upstreams = Vec::new();
        for other in all.iter().filter(|other| !other.protocol.is_http() && other.name != planned.name) {
            let listen = free(address, other.port.checked_add(ABOVE).unwrap_or(0))?;
            upstreams.push((other.name.to_string(), listen.to_string()));
        }
        let declared = |(name, listen): &(String, String)| {
            let port = all.iter().find(|other| other.name.as_str() == name).map_or(0, |other| other.port);
            format!("{NAMESPACE}/{name}:{port}={listen}")
        };
        let sidecar = SidecarFlags {
            name: Some(planned.name.clone()),
            address: Some(IpAddr::V4(address)),
            inbound: Some(free(address, 15_006)?),
            outbound: Some(free(address, 15_001)?),
            admin_listen: Some(free(address, 15_000)?),
            app_ports: vec![format!("{}={}", port_name(planned), planned.port)],
            upstreams: upstreams.iter().map(declared).collect(),
            workers: Some(1),
            ..SidecarFlags::default()
        };
        Ok(Self { planned: planned.clone(), sidecar, upstreams })
    }

    async fn start(&self, client: &ApiClient, dir: &Path, processes: &mut Processes) -> anyhow::Result<()> {
        let service: ServiceId = format!("{NAMESPACE}/{}", self.planned.name).parse()?;
        let request = TokenRequest { service: service.to_string(), ..TokenRequest::default() };
        let token = client.create_token(&request).await?.token;
        let name = self.planned.name.as_str();
        processes.start(&format!("{name}-proxy"), &binaries::find("weft-proxy")?, |command| {
            forget_settings(command);
            command.arg("run").env("WEFT_JOIN", token).args(self.sidecar.flags());
            command.arg("--identity-dir").arg(dir.join("identities").join(name));
        })
    }

    async fn is_ready(&self, processes: &mut Processes, deadline: Instant) -> anyhow::Result<()> {
        while !ask(self.sidecar.admin(), "GET /ready")
            .await
            .is_ok_and(|answer| answer.starts_with("HTTP/1.1 200 "))
        {
            processes.check()?;
            if Instant::now() > deadline {
                bail!("the sidecar of {} is not ready after {START:?}", self.planned.name);
            }
            tokio::time::sleep(LOOK).await;
        }
        Ok(())
    }
}

/// Somebody else's listener would get what is meant for the application.
pub fn ensure_free(planned: &[PlannedApplication]) -> anyhow::Result<()> {
    for PlannedApplication { name, port, .. } in planned {
        TcpListener::bind(("127.0.0.1", *port)).with_context(|| {
            format!("port {port} of this machine is taken, so that {name} cannot listen there; end what has it, or give {name} \
                 another port")
        })?;
    }
    Ok(())
}

/// A mesh of its own: no setting of another one, which the environment may hold, counts here.
fn forget_settings(command: &mut std::process::Command) {
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("WEFT_") {
            command.env_remove(name);
        }
    }
}

fn port_name(planned: &PlannedApplication) -> String {
    planned.protocol.to_string().to_ascii_lowercase()
}

/// JSON, which is YAML.
fn documents(planned: &[PlannedApplication]) -> String {
    let services = planned.iter().map(|one| {
        let port = json!({"name": port_name(one), "port": one.port, "protocol": one.protocol.to_string()});
        let metadata = json!({"name": one.name.as_str(), "namespace": NAMESPACE});
        json!({"apiVersion": "weft.dev/v1", "kind": "Service", "metadata": metadata, "spec": {"ports": [port]}})
    });
    let posture = json!({
        "apiVersion": "weft.dev/v1",
        "kind": "Mesh",
        "metadata": {"name": "mesh"},
        "spec": {"defaults": {"outbound": OUTBOUND}},
    });
    services.chain([posture]).map(|document| format!("---\n{document}\n")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn documents_are_taken_as_they_are() {
        let planned = |name: &str, port, protocol| PlannedApplication {
            name: name.parse().unwrap(),
            port,
            protocol,
            command: vec!["true".into()],
        };
        use weft_policies::kinds::service::Protocol;
        let all = [planned("web", 8080, Protocol::Http), planned("db", 5432, Protocol::Tcp)];
        let text = documents(&all);
        assert_eq!(weft_policies::parse("dev", &text).unwrap().len(), 3, "{text}");
    }
}
