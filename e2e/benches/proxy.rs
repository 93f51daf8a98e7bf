//! weft-proxy beside Envoy, nginx and HAProxy.
//!
//! Path: load generator, proxy, server; HTTP/1.1 with keep-alive and plain on both sides, 64 connections, one worker.
//! weft-proxy and Envoy run on the same bootstrap file, but for its port numbers.

mod instructions;
mod rig;
mod viewer;

use std::path::Path;

use clap::Parser as _;
use instructions::Counting;
use rig::build::Build;
use rig::configs::{bootstrap, cluster, installed, nginx};
use rig::contest::{Effort, Peer, hold};
use rig::origin::{self, Size};
use rig::process::PinnedProcess;
use rig::report::{Goal, finish, ratios};
use weft_e2e::harness::{envoy_program, free_port};

/// Where each peer runs while it is its turn.
const PEER_PROCESSOR: usize = 0;

/// What to measure.
#[derive(clap::Parser)]
struct Args {
    #[command(flatten)]
    effort: Effort,
    /// Count instructions a request, of weft-proxy or of the builds given alone, and measure nothing else
    #[arg(long)]
    instructions: bool,
    #[command(flatten)]
    counting: Counting,
}

fn main() -> anyhow::Result<()> {
    let Args { effort, instructions, counting } = Args::parse();
    if instructions {
        let this = if effort.proxy.is_empty() { vec![Build::this()?] } else { Vec::new() };
        return instructions::run(&counting, &[this, effort.proxy].concat());
    }
    let dir = tempfile::tempdir()?;
    let dir = dir.path();
    let origin_port = free_port()?;
    let _origin = origin::start(dir, origin_port)?;
    let mut peers = Vec::new();
    for Build { name, program } in std::iter::once(Build::this()?).chain(effort.proxy.clone()) {
        peers.push(envoy_like(dir, &name, &program, &["run", "--workers", "1"], origin_port)?);
    }
    let envoy_args = ["--concurrency", "1", "-l", "error"];
    peers.push(envoy_like(dir, "Envoy 1.40", &envoy_program()?, &envoy_args, origin_port)?);
    peers.push(nginx_peer(dir, origin_port)?);
    peers.push(haproxy_peer(dir, origin_port)?);
    let rows = hold(dir, &peers, &effort)?;
    let mut goals = ratios(&rows, "weft-proxy", "Envoy 1.40", 0.6)?;
    let idle = rows.iter().find(|row| row.peer == "weft-proxy").map_or(f64::NAN, |row| row.idle);
    goals.push(Goal::at_most("weft-proxy, idle, resident MB", idle * 1.048_576, 20.0));
    finish("proxy", &effort, &rows, &goals)
}

fn ready(name: &str, port: u16, mut process: PinnedProcess) -> anyhow::Result<Peer> {
    Size::ALL.into_iter().try_for_each(|size| process.answers(port, size.path()))?;
    Ok(Peer { name: name.to_owned(), port, processes: vec![process] })
}

fn envoy_like(dir: &Path, name: &str, program: &Path, args: &[&str], origin: u16) -> anyhow::Result<Peer> {
    let port = free_port()?;
    let config = plain(port, free_port()?, origin, "", "");
    let file = dir.join(format!("{}.yaml", name.replace(' ', "-")));
    std::fs::write(&file, config)?;
    let file = file.display().to_string();
    let args: Vec<&str> = args.iter().copied().chain(["-c", &file]).collect();
    ready(name, port, PinnedProcess::start(dir, &name.replace(' ', "-"), PEER_PROCESSOR, program, &args)?)
}

fn nginx_peer(dir: &Path, origin: u16) -> anyhow::Result<Peer> {
    let port = free_port()?;
    let pool = format!(
        "upstream origin {{ server 127.0.0.1:{origin}; keepalive 256; keepalive_requests 1000000000; }}"
    );
    // Buffers that hold a large answer whole: by default nginx would write a part of it into a file.
    let locations = "location / {
        proxy_pass http://origin; proxy_http_version 1.1; proxy_set_header Connection \"\";
        proxy_set_header Host $host; proxy_buffers 16 16k; proxy_buffer_size 16k; proxy_max_temp_file_size 0;
    }";
    std::fs::write(dir.join("nginx.conf"), nginx(dir, "nginx", port, locations, &pool))?;
    let config = dir.join("nginx.conf").display().to_string();
    let program = installed("nginx")?;
    ready("nginx", port, PinnedProcess::start(dir, "nginx", PEER_PROCESSOR, &program, &["-c", &config])?)
}

fn haproxy_peer(dir: &Path, origin: u16) -> anyhow::Result<Peer> {
    let port = free_port()?;
    std::fs::write(dir.join("haproxy.conf"), haproxy(port, origin))?;
    let config = dir.join("haproxy.conf").display().to_string();
    let program = installed("haproxy")?;
    ready(
        "HAProxy",
        port,
        PinnedProcess::start(dir, "haproxy", PEER_PROCESSOR, &program, &["-db", "-f", &config])?,
    )
}

/// HAProxy with one thread.
fn haproxy(port: u16, origin: u16) -> String {
    format!(
        "global
  nbthread 1
  maxconn 8192
defaults
  mode http
  timeout connect 5s
  timeout client 3600s
  timeout server 3600s
  http-reuse always
frontend bench
  bind 127.0.0.1:{port} backlog 4096
  default_backend origin
backend origin
  server origin 127.0.0.1:{origin}
"
    )
}

/// A bootstrap that forwards all of HTTP from one port to another, without TLS or a filter but the router; with these logs,
/// and these clusters beside.
fn plain(port: u16, admin: u16, origin: u16, logs: &str, clusters: &str) -> String {
    let listener = format!(
        "  listeners:
  - name: plain
    address: {{socket_address: {{address: 127.0.0.1, port_value: {port}}}}}
    filter_chains:
    - filters:
      - name: envoy.filters.network.http_connection_manager
        typed_config:
          '@type': type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager
          stat_prefix: plain{logs}
          route_config:
            name: plain
            virtual_hosts:
            - name: all
              domains: ['*']
              routes:
              - match: {{prefix: /}}
                route: {{cluster: origin, timeout: 0s}}
          http_filters:
          - name: envoy.filters.http.router
            typed_config:
              '@type': type.googleapis.com/envoy.extensions.filters.http.router.v3.Router
"
    );
    bootstrap(admin, &(listener + &cluster("origin", origin, clusters)))
}
