//! The mesh that most tests use: a caller and a server beside each kind of sidecar.

use std::collections::BTreeMap;

use weft_e2e::harness::{Mesh, Pair, Sidecar, Workload};

/// The port of a caller's own address on which it finds a server's TCP port: weft, then envoy.
const TCP: u16 = 5400;

/// `shop/web-weft`, `shop/web-envoy` and the servers' services, with nothing but defaults.
pub const SERVICES: &str = r"
{apiVersion: weft.dev/v1, kind: Service, metadata: {name: web-weft, namespace: shop}, spec: {ports: [{name: http, port: 80, protocol: HTTP}]}}
---
{apiVersion: weft.dev/v1, kind: Service, metadata: {name: web-envoy, namespace: shop}, spec: {ports: [{name: http, port: 80, protocol: HTTP}]}}
";

/// A service with a port of each protocol and two subsets.
pub fn service(name: &str) -> String {
    format!(
        r"
apiVersion: weft.dev/v1
kind: Service
metadata: {{name: {name}, namespace: shop}}
spec:
  ports:
  - {{name: http, port: 80, protocol: HTTP}}
  - {{name: h2, port: 8081, protocol: HTTP2}}
  - {{name: grpc, port: 9000, protocol: GRPC}}
  - {{name: tcp, port: 5432, protocol: TCP}}
  subsets:
  - {{name: v1, matchLabels: {{version: v1}}}}
  - {{name: v2, matchLabels: {{version: v2}}}}
"
    )
}

/// `catalog-weft` or `catalog-envoy`.
pub fn catalog(beside: Sidecar) -> String {
    format!("catalog-{}", beside.word())
}

/// Where a caller finds the TCP port of a server.
pub fn tcp_port(server: Sidecar) -> u16 {
    match server {
        Sidecar::Weft => TCP,
        Sidecar::Envoy => TCP + 1,
    }
}

/// Callers `web-weft`, `web-envoy`.
pub struct Callers(BTreeMap<Sidecar, Workload>);

impl Callers {
    /// Applies the services and starts a caller beside each sidecar.
    pub async fn start(mesh: &mut Mesh) -> anyhow::Result<Self> {
        let servers = Sidecar::ALL.map(|server| service(&catalog(server)));
        mesh.apply(&[SERVICES, &servers[0], &servers[1]].join("\n---\n")).await?;
        let mut callers = BTreeMap::new();
        for sidecar in Sidecar::ALL {
            let mut builder = mesh.workload(&format!("shop/web-{}", sidecar.word())).beside(sidecar);
            for server in Sidecar::ALL {
                builder = builder.upstream(&format!("shop/{}:tcp", catalog(server)), tcp_port(server));
            }
            callers.insert(sidecar, builder.start().await?);
        }
        Ok(Self(callers))
    }

    /// The caller of a pair.
    pub fn of(&self, pair: Pair) -> &Workload {
        &self.0[&pair.caller]
    }

    pub fn ids(&self) -> Vec<&str> {
        self.0.values().map(Workload::id).collect()
    }
}

/// Starts versions 1 and 2 of both catalogs.
pub async fn start_both_versions(mesh: &mut Mesh) -> anyhow::Result<Vec<Workload>> {
    let mut servers = Vec::new();
    for beside in Sidecar::ALL {
        for version in ["v1", "v2"] {
            servers.push(start_catalog(mesh, beside, version).await?);
        }
    }
    Ok(servers)
}

/// Of all of them, `NAMESPACE/WORKLOAD`.
pub fn ids<'a>(callers: &'a Callers, servers: &'a [Workload]) -> Vec<&'a str> {
    callers.ids().into_iter().chain(servers.iter().map(Workload::id)).collect()
}

/// Starts a server of `catalog-weft` or `catalog-envoy` beside that sidecar.
pub async fn start_catalog(mesh: &mut Mesh, beside: Sidecar, version: &str) -> anyhow::Result<Workload> {
    let service = format!("shop/{}", catalog(beside));
    mesh.workload(&service).version(version).serving().beside(beside).start().await
}
