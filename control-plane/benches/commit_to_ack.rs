//! From the commit of one endpoint change to the last ACK of it, with 100 sidecars on delta streams over mutual TLS.
//!
//! The path: a record in the embedded store (fsync), the watch, one ClusterLoadAssignment compiled, 100 mailboxes, 100
//! TLS connections, 100 answers. The clock starts when the commit is asked for, so the store's part is in it; a second
//! row counts from the moment when the commit was acknowledged. Clients and server share this machine's cores.
//!
//! `cargo bench -p weft-control-plane --profile fast --bench commit_to_ack`
#![allow(clippy::unwrap_used, missing_docs, reason = "a benchmark ends at the first surprise")]

#[path = "../tests/mesh/peer.rs"]
#[allow(dead_code, reason = "tests use the rest of it")]
mod peer;
#[path = "../tests/mesh/plane.rs"]
#[allow(dead_code, reason = "tests use the rest of it")]
mod plane;
#[path = "../tests/mesh/proxy.rs"]
#[allow(dead_code, reason = "tests use the rest of it")]
mod proxy;

use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use tokio::sync::mpsc;
use tokio_util::task::AbortOnDropHandle;
use weft_api::ResourceKind;

use peer::{Member, declared, join};
use plane::{Plane, service};
use proxy::{Sidecar, endpoints};

const STREAMS: usize = 100;
const CHANGES: usize = 200;
const WARM_UP: usize = 20;
const CART: &str = "shop/cart/http";

/// A stream answered for the assignment with this address in it.
type Acked = (String, Instant);

fn main() {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    runtime.block_on(run());
}

async fn run() {
    let plane = Plane::start().await;
    plane.apply(&(service("web") + &service("cart") + &service("catalog"))).await;
    let token = plane.join_token("shop/web").await;
    let (acked, mut answers) = mpsc::unbounded_channel();
    let mut sidecars = Vec::with_capacity(STREAMS);
    for n in 0..STREAMS {
        let member = join_patiently(&token, &format!("web-{n}"), &format!("127.1.0.{}", n + 1)).await;
        sidecars.push(follow(&member, &plane, acked.clone()).await);
    }
    let (mut whole, mut after) = (Histogram::<u64>::new(3).unwrap(), Histogram::<u64>::new(3).unwrap());
    for n in 0..WARM_UP + CHANGES {
        let address = format!("127.2.{}.{}", n / 250, n % 250 + 1);
        let (begun, committed) = change(&plane, &address).await;
        let last = last_ack(&mut answers, &address).await;
        if n >= WARM_UP {
            whole.record(micros(last - begun)).unwrap();
            after.record(micros(last.saturating_duration_since(committed))).unwrap();
        }
    }
    println!("one endpoint change to the last ACK, {STREAMS} delta streams, {CHANGES} changes, milliseconds");
    println!("{:<44} {:>8} {:>8} {:>8} {:>8}", "", "p50", "p90", "p99", "max");
    for (name, histogram) in
        [("from asking for the commit", &whole), ("from the commit's acknowledgement", &after)]
    {
        let at = |quantile| millis(histogram.value_at_quantile(quantile));
        println!(
            "{name:<44} {:>8.2} {:>8.2} {:>8.2} {:>8.2}",
            at(0.5),
            at(0.9),
            at(0.99),
            millis(histogram.max())
        );
    }
    drop(sidecars);
    plane.running.end().await;
}

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap().max(1)
}

#[allow(clippy::cast_precision_loss, reason = "microseconds of a benchmark fit")]
fn millis(micros: u64) -> f64 {
    micros as f64 / 1000.0
}

/// Moves cart's only endpoint: a file that describes it, so that one document and one record of the log change.
async fn change(plane: &Plane, address: &str) -> (Instant, Instant) {
    let workload = format!(
        "apiVersion: weft.dev/v1\nkind: Workload\nmetadata: {{name: cart-1, namespace: shop}}\n\
         spec: {{address: {address}, services: [cart], proxy: {{type: None}}}}\n"
    );
    let begun = Instant::now();
    plane.apply(&workload).await;
    (begun, Instant::now())
}

/// Joins, waiting where joins are limited.
async fn join_patiently(token: &weft_api::JoinToken, name: &str, address: &str) -> Member {
    loop {
        match join(token, declared(name, address)).await {
            Ok(member) => return member,
            Err(status) if status.code() == tonic::Code::ResourceExhausted => {
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
            Err(status) => panic!("{status}"),
        }
    }
}

/// Brings a sidecar into sync, then tells of each assignment of cart that it has accepted.
async fn follow(
    member: &Member,
    plane: &Plane,
    acked: mpsc::UnboundedSender<Acked>,
) -> AbortOnDropHandle<()> {
    let mut sidecar = Sidecar::start(member, plane.running.xds).await;
    let complete = |held: &proxy::Held| {
        Sidecar::has(held, ResourceKind::Endpoint, CART)
            && Sidecar::has(held, ResourceKind::Listener, "inbound")
            && Sidecar::has(held, ResourceKind::Route, "outbound/shop")
    };
    sidecar.until("everything", complete).await;
    AbortOnDropHandle::new(tokio::spawn(async move {
        let key = (ResourceKind::Endpoint.short(), CART.to_owned());
        loop {
            let (kind, names) = sidecar.step().await;
            if kind == ResourceKind::Endpoint && names.iter().any(|name| name == CART) {
                let at = Instant::now();
                for (address, _) in endpoints(&sidecar.held[&key].1) {
                    let _ = acked.send((address, at));
                }
            }
        }
    }))
}

/// When the last of the streams answered for an address.
async fn last_ack(answers: &mut mpsc::UnboundedReceiver<Acked>, address: &str) -> Instant {
    let mut last = None;
    for _ in 0..STREAMS {
        loop {
            let next = tokio::time::timeout(plane::DEADLINE, answers.recv()).await;
            let (of, at) = next.expect("an ACK in time").unwrap();
            if of == address {
                last = last.max(Some(at));
                break;
            }
        }
    }
    last.unwrap()
}
