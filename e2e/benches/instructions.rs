//! Instructions and allocations a request, counted by valgrind: they tell a change of two in a hundred, which times on a busy
//! machine do not.
//!
//! Path as in the rest of this benchmark: HTTP/1.1 with keep-alive, plain on both sides, one worker; but one connection, and one request after
//! the other. Counting starts after a warm-up and ends before the proxy does. `--proxy NAME=PATH` compares builds.

use std::collections::HashMap;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, bail, ensure};
use weft_e2e::harness::free_port;

use crate::plain;
use crate::rig::build::Build;
use crate::rig::configs::installed;
use crate::rig::origin::{self, Size};
use crate::rig::process::PinnedProcess;
use crate::viewer::look_on;

const PROCESSOR: usize = 0;
const WARM_UP: u32 = 300;
/// What jemalloc gives memory by, as weft-proxy has it.
const ALLOCATORS: [&str; 5] =
    ["_rjem_malloc", "_rjem_mallocx", "_rjem_calloc", "_rjem_realloc", "_rjem_rallocx"];

/// What to count.
#[derive(clap::Args)]
pub struct Counting {
    /// Requests of each size that are counted
    #[arg(long, default_value_t = 2000)]
    requests: u32,
    /// Count what a tap costs too: with the access log that every sidecar of a mesh has, without and with somebody who looks on
    #[arg(long)]
    tapped: bool,
}

/// Who is told of requests.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Told {
    Nobody,
    /// The control plane is told what failed.
    Failures,
    /// Somebody looks on as well, and each request is looked at for him.
    Viewer,
}

/// Counts for each build, and prints a table.
pub fn run(counting: &Counting, builds: &[Build]) -> anyhow::Result<()> {
    let dir = tempfile::tempdir()?;
    let origin_port = free_port()?;
    let _origin = origin::start(dir.path(), origin_port)?;
    println!(
        "| a request | instructions, 64 byte answers | 64 KiB | allocations, 64 byte answers | 64 KiB |"
    );
    println!("| --- | --- | --- | --- | --- |");
    let told = if counting.tapped { &[Told::Failures, Told::Viewer][..] } else { &[Told::Nobody] };
    for (build, told) in builds.iter().flat_map(|build| told.iter().map(move |told| (build, *told))) {
        let counts =
            Size::ALL.map(|size| count(dir.path(), build, told, origin_port, size, counting.requests));
        let [small, large] = counts;
        let (small, large) = (small?, large?);
        let told = match told {
            Told::Nobody => "",
            Told::Failures => ", failures told",
            Told::Viewer => ", failures told, looked on",
        };
        println!(
            "| {}{told} | **{:.0}** | **{:.0}** | {:.1} | {:.1} |",
            build.name, small.instructions, large.instructions, small.allocations, large.allocations
        );
    }
    Ok(())
}

/// What one request costs, on the average.
#[derive(Default)]
struct Counts {
    instructions: f64,
    allocations: f64,
}

fn count(
    dir: &Path,
    build: &Build,
    told: Told,
    origin: u16,
    size: Size,
    requests: u32,
) -> anyhow::Result<Counts> {
    let port = free_port()?;
    let config = dir.join("bootstrap.yaml");
    std::fs::write(&config, configuration(told, port, origin)?)?;
    let (program, config) = (build.program.display().to_string(), config.display().to_string());
    let args = [
        "--tool=callgrind",
        "--callgrind-out-file=callgrind.out",
        &program,
        "run",
        "--workers",
        "1",
        "-c",
        &config,
    ];
    for old in outputs(dir)? {
        std::fs::remove_file(old)?;
    }
    let mut proxy = PinnedProcess::start(dir, "valgrind", PROCESSOR, &installed("valgrind")?, &args)?;
    proxy.answers(port, size.path())?;
    let mut client = BufReader::new(TcpStream::connect(("127.0.0.1", port))?);
    ask(&mut client, size, WARM_UP)?;
    control(dir, "--zero", proxy.id())?;
    ask(&mut client, size, requests)?;
    control(dir, "--dump", proxy.id())?;
    let mut sum = Counts::default();
    for output in outputs(dir)? {
        let text = std::fs::read_to_string(&output)?;
        let totals = text.lines().filter_map(|line| line.strip_prefix("totals: "));
        for total in totals {
            sum.instructions += total.trim().parse::<f64>()?;
        }
        sum.allocations += allocations(&text)?;
    }
    ensure!(sum.instructions > 0.0, "valgrind has written no counts into {}", dir.display());
    ensure!(sum.allocations > 0.0, "{} does not allocate by jemalloc", build.name);
    let requests = f64::from(requests);
    Ok(Counts { instructions: sum.instructions / requests, allocations: sum.allocations / requests })
}

/// Calls that give memory, of all that callgrind has written. It names a function once, `(ID) NAME`, and `(ID)` from then on;
/// a function that is called (`cfn=`) is followed by how often.
fn allocations(text: &str) -> anyhow::Result<f64> {
    let (mut allocates, mut called) = (HashMap::new(), false);
    let mut sum = 0.0;
    for line in text.lines() {
        let callee = line.strip_prefix("cfn=");
        if let Some(function) = callee.or_else(|| line.strip_prefix("fn=")) {
            let (id, name) = function.split_once(' ').unwrap_or((function, ""));
            if !name.is_empty() {
                allocates.insert(id, ALLOCATORS.contains(&name));
            }
            called = callee.is_some() && allocates.get(id).copied().unwrap_or_default();
        } else if let Some(calls) = line.strip_prefix("calls=").filter(|_| called) {
            sum += calls.split(' ').next().unwrap_or_default().parse::<f64>()?;
        }
    }
    Ok(sum)
}

fn configuration(told: Told, port: u16, origin: u16) -> anyhow::Result<String> {
    let admin = free_port()?;
    if told == Told::Nobody {
        return Ok(plain(port, admin, origin, "", ""));
    }
    let control_plane = free_port()?;
    if told == Told::Viewer {
        look_on(control_plane);
    }
    Ok(plain(port, admin, origin, FAILURES, &cluster_of(control_plane)))
}

/// As the listeners of a mesh have it.
const FAILURES: &str = "
          access_log:
          - name: envoy.access_loggers.http_grpc
            filter: {or_filter: {filters: [
              {status_code_filter: {comparison: {op: GE, value: {default_value: 500, runtime_key: a}}}},
              {status_code_filter: {comparison: {op: EQ, value: {default_value: 403, runtime_key: b}}}}]}}
            typed_config:
              '@type': type.googleapis.com/envoy.extensions.access_loggers.grpc.v3.HttpGrpcAccessLogConfig
              common_config:
                log_name: outbound
                transport_api_version: V3
                grpc_service: {envoy_grpc: {cluster_name: weft_control_plane}}";

fn cluster_of(port: u16) -> String {
    format!(
        "
  - name: weft_control_plane
    type: STATIC
    typed_extension_protocol_options:
      envoy.extensions.upstreams.http.v3.HttpProtocolOptions:
        '@type': type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions
        explicit_http_config: {{http2_protocol_options: {{}}}}
    load_assignment:
      cluster_name: weft_control_plane
      endpoints: [{{lb_endpoints: [{{endpoint: {{address: {{socket_address: {{address: 127.0.0.1, port_value: {port}}}}}}}}}]}}]
"
    )
}

fn outputs(dir: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(dir)? {
        let path = entry?.path();
        if path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("callgrind.out")) {
            found.push(path);
        }
    }
    Ok(found)
}

fn control(dir: &Path, what: &str, process: u32) -> anyhow::Result<()> {
    let mut command = Command::new(installed("callgrind_control")?);
    let output = command.args([what, &process.to_string()]).current_dir(dir).output()?;
    let said =
        String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    if !output.status.success() || said.contains("Error") {
        bail!("callgrind_control {what}: {said}");
    }
    Ok(())
}

/// One request after the other on one connection.
fn ask(client: &mut BufReader<TcpStream>, size: Size, requests: u32) -> anyhow::Result<()> {
    let request = format!("GET {} HTTP/1.1\r\nhost: bench\r\n\r\n", size.path());
    let mut body = Vec::new();
    for _ in 0..requests {
        client.get_mut().write_all(request.as_bytes())?;
        let mut length = None;
        let mut line = String::new();
        client.read_line(&mut line)?;
        ensure!(line.starts_with("HTTP/1.1 200"), "answered {line:?}");
        while line.trim_end() != "" {
            if let Some((name, value)) = line.split_once(':')
                && name.eq_ignore_ascii_case("content-length")
            {
                length = Some(value.trim().parse::<usize>()?);
            }
            line.clear();
            client.read_line(&mut line)?;
        }
        body.resize(length.context("an answer without a length")?, 0);
        client.read_exact(&mut body)?;
    }
    Ok(())
}
