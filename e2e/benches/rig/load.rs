//! wrk: sixty-four connections that ask again as soon as they are answered.

use std::process::Command;

use anyhow::{Context as _, bail};

use super::origin::{LOAD_PROCESSOR, Size};

/// Connections at once.
pub const CONNECTIONS: u32 = 64;

/// What wrk saw.
#[derive(Debug, Clone, Copy)]
pub struct Seen {
    /// Answers.
    pub requests: u64,
    /// Answers a second.
    pub rate: f64,
    /// Median latency in milliseconds.
    pub p50: f64,
    /// 99th percentile in milliseconds.
    pub p99: f64,
}

/// Loads a port for some seconds. Fails when any answer was not 200 or any connection broke.
pub fn run(port: u16, size: Size, seconds: u64) -> anyhow::Result<Seen> {
    let output = Command::new("taskset")
        .args(["-c", &LOAD_PROCESSOR.to_string(), "wrk", "--latency", "-t1"])
        .arg(format!("-c{CONNECTIONS}"))
        .arg(format!("-d{seconds}s"))
        .arg(format!("http://127.0.0.1:{port}{}", size.path()))
        .output()
        .context("wrk: install Debian's package of that name")?;
    let text = String::from_utf8_lossy(&output.stdout);
    read(&text).with_context(|| text.into_owned())
}

fn read(text: &str) -> anyhow::Result<Seen> {
    if text.contains("Non-2xx") || text.contains("Socket errors") {
        bail!("not every request was answered by 200");
    }
    let after = |label: &str| {
        let line = text.lines().find_map(|line| line.trim().strip_prefix(label));
        line.map(str::trim).with_context(|| format!("wrk says nothing of {label}"))
    };
    let requests = text.lines().find_map(|line| line.trim().split_once(" requests in "));
    Ok(Seen {
        requests: requests.context("wrk counted nothing")?.0.parse()?,
        rate: after("Requests/sec:")?.parse()?,
        p50: millis(after("50%")?)?,
        p99: millis(after("99%")?)?,
    })
}

fn millis(text: &str) -> anyhow::Result<f64> {
    let units = [("us", 0.001), ("ms", 1.0), ("s", 1000.0), ("m", 60_000.0)];
    let found = units.iter().find_map(|(unit, factor)| Some((text.strip_suffix(unit)?, factor)));
    let (number, factor) = found.with_context(|| format!("{text}: not a span of time"))?;
    Ok(number.parse::<f64>()? * factor)
}
