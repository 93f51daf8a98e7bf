//! Programs and the files that configure them.

use std::path::{Path, PathBuf};

use anyhow::Context as _;

/// An Envoy bootstrap with an admin port, one listener and one cluster; weft-proxy and Envoy take the same.
pub fn bootstrap(admin: u16, rest: &str) -> String {
    format!(
        "node: {{id: bench, cluster: bench}}
admin: {{address: {{socket_address: {{address: 127.0.0.1, port_value: {admin}}}}}}}
static_resources:
{rest}"
    )
}

/// A cluster with one endpoint and limits that no benchmark reaches; `more` continues it.
pub fn cluster(name: &str, port: u16, more: &str) -> String {
    format!(
        "  clusters:
  - name: {name}
    type: STATIC
    connect_timeout: 5s
    circuit_breakers:
      thresholds:
      - {{max_connections: 1000000, max_pending_requests: 1000000, max_requests: 1000000, max_retries: 1000000}}
    load_assignment:
      cluster_name: {name}
      endpoints:
      - lb_endpoints:
        - endpoint: {{address: {{socket_address: {{address: 127.0.0.1, port_value: {port}}}}}}}
{more}"
    )
}

/// nginx in one process, as origin and as proxy.
pub fn nginx(dir: &Path, name: &str, port: u16, locations: &str, more: &str) -> String {
    let dir = dir.display();
    format!(
        "daemon off; master_process off; pid {dir}/{name}.pid; error_log {dir}/{name}.error;
events {{ worker_connections 4096; }}
http {{
  access_log off; keepalive_requests 1000000000; keepalive_timeout 3600s; tcp_nodelay on;
  client_body_temp_path {dir}/{name}.body; proxy_temp_path {dir}/{name}.proxy; fastcgi_temp_path {dir}/{name}.fcgi;
  uwsgi_temp_path {dir}/{name}.uwsgi; scgi_temp_path {dir}/{name}.scgi;
  {more}
  server {{ listen 127.0.0.1:{port} backlog=4096; {locations} }}
}}"
    )
}

/// A program of the distribution, on PATH or where administrators' programs are.
pub fn installed(name: &str) -> anyhow::Result<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders = std::env::split_paths(&path).chain([PathBuf::from("/usr/sbin")]);
    let found = folders.map(|folder| folder.join(name)).find(|path| path.is_file());
    found.with_context(|| format!("{name} is not installed; `make bench` installs it"))
}
