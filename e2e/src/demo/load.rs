//! A steady load, for a live picture: so many requests a second, whatever the answers do.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use clap::Args;

use super::{DemoCaller, Dialer};

/// A load generator.
#[derive(Clone, Debug, Args)]
pub struct LoadArgs {
    /// What to get; `h2://` asks for HTTP/2
    #[arg(long = "url", env = "WEFT_DEMO_URL", value_name = "URL", required = true, value_delimiter = ',')]
    pub urls: Vec<String>,
    /// Requests a second, over all URLs
    #[arg(long, env = "WEFT_DEMO_RATE", default_value_t = 20.0)]
    pub rate: f64,
    /// The sidecar's outbound listener
    #[arg(long, env = "WEFT_DEMO_SIDECAR", value_name = "IP:PORT")]
    pub sidecar: Option<SocketAddr>,
    /// End after so long; never by default
    #[arg(long, value_parser = humantime::parse_duration)]
    pub duration: Option<Duration>,
}

/// Sends requests until the time is over or the process is told to end, then prints what came back.
///
/// # Errors
/// When the rate is not above zero.
pub async fn run(args: LoadArgs) -> anyhow::Result<()> {
    anyhow::ensure!(args.rate > 0.0 && args.rate <= 100_000.0, "--rate must be above 0 and at most 100000");
    let caller = DemoCaller::new(Dialer { sidecar: args.sidecar, tunnel: false });
    let (sent, failed) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
    let mut ticks = tokio::time::interval(Duration::from_secs_f64(1.0 / args.rate));
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Skip);
    let end = tokio::time::sleep(args.duration.unwrap_or(Duration::from_secs(u64::from(u32::MAX))));
    tokio::pin!(end);
    let interrupted = tokio::signal::ctrl_c();
    tokio::pin!(interrupted);
    for url in args.urls.iter().cycle() {
        tokio::select! {
            _ = ticks.tick() => {}
            () = &mut end => break,
            _ = &mut interrupted => break,
        }
        let (caller, url, sent, failed) = (caller.clone(), url.clone(), sent.clone(), failed.clone());
        tokio::spawn(async move {
            let tree = caller.tree(&url, &http::HeaderMap::new()).await;
            sent.fetch_add(1, Ordering::Relaxed);
            if tree.error.is_some() {
                failed.fetch_add(1, Ordering::Relaxed);
            }
        });
    }
    println!("{} requests, {} failed", sent.load(Ordering::Relaxed), failed.load(Ordering::Relaxed));
    Ok(())
}
