//! H4, M1, M2: what strangers do at once takes nothing from anybody else, on a machine with few open files.
//!
//! The real binary under `ulimit -n 1024`, the hard limit too; 3,000 bogus joins a second, 64 silent connections a second,
//! and 1,000 that do TLS and nothing more. Meanwhile joins, renewals, new streams, health reports, probes and the API all
//! do what they should, without a second attempt, and the log stays short.

use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;
use std::process::Stdio;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use envoy_types::pb::envoy::config::core::v3::HealthStatus;
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::net::TcpStream;
use tokio::process::{Child, Command};
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;
use tokio::time::{Instant, MissedTickBehavior, interval, timeout};
use tokio_util::sync::CancellationToken;
use weft_api::JoinToken;
use weft_api::ResourceKind;
use weft_api::client::{ApiClient, ApplyOptions};
use weft_api::join::JoinRequest;
use weft_api::join::join_service_client::JoinServiceClient;
use weft_api::rest::TokenRequest;

use crate::health::{Checker, checked};
use crate::peer::{Member, declared, join};
use crate::plane::{DEADLINE, service};
use crate::proxy::{Delta, Sidecar};

const IDLE: usize = 1000;
const SILENT_PER_SECOND: u32 = 64;
const FLOODERS: u64 = 6;
const JOINS_OF_A_TICK: usize = 5;
const TICK: Duration = Duration::from_millis(10);
/// What any of the others may take, on a machine that the strangers have busy.
const TIMEOUT: Duration = Duration::from_secs(10);

fn attack_time() -> Duration {
    let is_soak = std::env::var_os("WEFT_SOAK").is_some();
    Duration::from_secs(if is_soak { 60 } else { 6 })
}

/// The binary, with as few open files as many distributions give.
struct Small {
    child: Child,
    xds: SocketAddr,
    admin: SocketAddr,
    client: ApiClient,
    lines: Arc<AtomicU64>,
    _directory: TempDir,
}

impl Small {
    async fn start() -> Self {
        let directory = TempDir::new().unwrap();
        let mut child = Command::new("sh")
            .args(["-c", "ulimit -n 1024 && exec \"$0\" \"$@\"", env!("CARGO_BIN_EXE_weft-control-plane")])
            .args(["--api-listen", "127.0.0.1:0", "--xds-listen", "127.0.0.1:0"])
            .args(["--admin-listen", "127.0.0.1:0", "--log-format", "json", "--data-dir"])
            .arg(directory.path())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let mut log = BufReader::new(child.stderr.take().unwrap()).lines();
        let serves = async {
            while let Some(line) = log.next_line().await.unwrap() {
                if line.contains("the control plane serves") {
                    return serde_json::from_str::<serde_json::Value>(&line).unwrap();
                }
            }
            panic!("it ended before it served");
        };
        let serves = timeout(DEADLINE, serves).await.expect("serves in time");
        let address = |name: &str| serves[name].as_str().unwrap().parse::<SocketAddr>().unwrap();
        let lines = Arc::new(AtomicU64::new(0));
        let counting = Arc::clone(&lines);
        tokio::spawn(async move {
            while let Ok(Some(_)) = log.next_line().await {
                counting.fetch_add(1, Ordering::Relaxed);
            }
        });
        let token = std::fs::read_to_string(directory.path().join("operator.token")).unwrap();
        let client = ApiClient::try_new(&format!("http://{}", address("api")), token.trim(), &[]).unwrap();
        let (xds, admin) = (address("xds"), address("admin"));
        Self { child, xds, admin, client, lines, _directory: directory }
    }

    async fn token(&self, service: &str) -> JoinToken {
        let request = TokenRequest {
            service: service.to_owned(),
            uses: Some(1000),
            ahead: true,
            ..TokenRequest::default()
        };
        self.client.create_token(&request).await.unwrap().token.parse().unwrap()
    }

    async fn fetch(&self, path: &str) -> Result<String, String> {
        use http_body_util::BodyExt as _;
        let uri: http::Uri = format!("http://{}{path}", self.admin).parse().unwrap();
        let executor = hyper_util::rt::TokioExecutor::new();
        // A new connection for each, as probes do.
        let client = hyper_util::client::legacy::Client::builder(executor)
            .build_http::<http_body_util::Empty<bytes::Bytes>>();
        let answer = client.get(uri).await.map_err(|error| error.to_string())?;
        let status = answer.status();
        let body = answer.into_body().collect().await.map_err(|error| error.to_string())?.to_bytes();
        let body = String::from_utf8_lossy(&body).into_owned();
        if status == 200 { Ok(body) } else { Err(format!("{status}: {body}")) }
    }
}

/// What the others do, and how it went.
#[derive(Default)]
struct Record(Mutex<BTreeMap<&'static str, Vec<Outcome>>>);

/// How long something took, and what went wrong.
type Outcome = (Duration, Option<String>);

impl Record {
    async fn of<T, E: std::fmt::Display>(
        &self,
        what: &'static str,
        doing: impl Future<Output = Result<T, E>>,
    ) -> Option<T> {
        let start = Instant::now();
        let (done, error) = match timeout(TIMEOUT, doing).await {
            Ok(Ok(done)) => (Some(done), None),
            Ok(Err(error)) => (None, Some(error.to_string())),
            Err(_) => (None, Some("not in time".to_owned())),
        };
        self.0.lock().unwrap().entry(what).or_default().push((start.elapsed(), error));
        done
    }

    fn check(&self, least: &[(&str, usize)]) {
        let record = self.0.lock().unwrap();
        for (what, outcomes) in record.iter() {
            let failed: Vec<_> = outcomes.iter().filter_map(|(_, error)| error.as_ref()).collect();
            let slowest = outcomes.iter().map(|(took, _)| *took).max().unwrap_or_default();
            eprintln!("{what}: {} done, {} failed, slowest {slowest:?}", outcomes.len(), failed.len());
        }
        for (what, least) in least {
            let outcomes = record.get(what).map_or(&[][..], Vec::as_slice);
            let failed: Vec<_> = outcomes.iter().filter_map(|(_, error)| error.as_ref()).collect();
            assert!(failed.is_empty(), "{what}: {failed:#?}");
            assert!(outcomes.len() >= *least, "{what}: only {}", outcomes.len());
        }
    }
}

/// Does something again and again until the end.
async fn each(pause: Duration, end: &CancellationToken, mut step: impl AsyncFnMut(usize)) {
    let mut ticks = interval(pause);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    for number in 0.. {
        tokio::select! {
            _ = ticks.tick() => step(number).await,
            () = end.cancelled() => return,
        }
    }
}

/// Joins with a token that is none, as fast as that, and without waiting for answers but for those of a second.
async fn bogus_joins(member: Member, xds: SocketAddr, end: CancellationToken, answered: Arc<AtomicU64>) {
    let client = JoinServiceClient::new(member.anonymous(xds).await);
    let waiting = Arc::new(Semaphore::new(JOINS_OF_A_TICK * 100));
    let mut ticks = interval(TICK);
    while !end.is_cancelled() {
        ticks.tick().await;
        for _ in 0..JOINS_OF_A_TICK {
            let Ok(permit) = Arc::clone(&waiting).try_acquire_owned() else { break };
            let (mut client, answered) = (client.clone(), Arc::clone(&answered));
            tokio::spawn(async move {
                let request =
                    JoinRequest { token_id: "t-0".to_owned(), secret: vec![0; 32], ..JoinRequest::default() };
                let code = client.join(request).await.unwrap_err().code();
                if matches!(code, tonic::Code::Unauthenticated | tonic::Code::ResourceExhausted) {
                    answered.fetch_add(1, Ordering::Relaxed);
                }
                drop(permit);
            });
        }
    }
}

async fn silent_connections(xds: SocketAddr, end: CancellationToken) {
    let mut ticks = interval(Duration::from_secs(1) / SILENT_PER_SECOND);
    let mut held = VecDeque::new();
    while !end.is_cancelled() {
        ticks.tick().await;
        held.extend(timeout(TIMEOUT, TcpStream::connect(xds)).await.ok().and_then(Result::ok));
        if held.len() > IDLE {
            held.pop_front();
        }
    }
}

/// Keeps so many connections that do TLS and answer pings; what is closed is opened again, not too fast.
async fn idle_connections(member: Member, xds: SocketAddr, end: CancellationToken, most: usize) {
    let mut ticks = interval(Duration::from_millis(8));
    let mut open: Vec<JoinHandle<()>> = Vec::new();
    while !end.is_cancelled() {
        ticks.tick().await;
        open.retain(|connection| !connection.is_finished());
        if open.len() < most {
            open.extend(timeout(TIMEOUT, member.idle(xds)).await.ok().and_then(Result::ok));
        }
    }
    open.iter().for_each(JoinHandle::abort);
}

/// All of the attack, until the end; gives the number of bogus joins that were answered.
fn attack(trusting: &Member, xds: SocketAddr, end: &CancellationToken) -> Arc<AtomicU64> {
    let answered = Arc::new(AtomicU64::new(0));
    for _ in 0..FLOODERS {
        tokio::spawn(bogus_joins(trusting.clone(), xds, end.clone(), Arc::clone(&answered)));
    }
    tokio::spawn(silent_connections(xds, end.clone()));
    for _ in 0..4 {
        tokio::spawn(idle_connections(trusting.clone(), xds, end.clone(), IDLE / 4));
    }
    answered
}

/// The limits have answered and counted, and the reserve of open files was never touched.
fn check_metrics(metrics: &str) {
    let value = |name: &str| {
        let line = metrics.lines().find_map(|line| line.strip_prefix(name)?.trim().parse::<f64>().ok());
        line.unwrap_or_default()
    };
    assert!(value(r#"weft_limited_total{limit="bad_tokens_of_a_source"}"#) > 100.0, "{metrics}");
    assert!(
        value(r#"weft_connections_closed_total{listener="xds",reason="made_room"}"#) > 100.0,
        "{metrics}"
    );
    for listener in ["xds", "api", "admin"] {
        let errors = value(&format!(r#"weft_accept_errors_total{{listener="{listener}"}}"#));
        assert!(errors == 0.0, "the reserve is kept: {metrics}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn h4_m1_m2_strangers_take_nothing_from_anybody() {
    weft_control_plane::server::descriptors::raise_limit();
    let mut plane = Small::start().await;
    let (xds, end) = (plane.xds, CancellationToken::new());
    let documents = service("web") + &checked("cart", "/healthz");
    plane.client.apply(&documents, &ApplyOptions::default()).await.unwrap();
    let token = plane.token("shop/web").await;
    let mut members = Vec::new();
    for n in 0..3 {
        members.push(join(&token, declared(&format!("web-{n}"), "127.0.0.2")).await.unwrap());
    }
    let cart = join(&plane.token("shop/cart").await, declared("cart-1", "127.0.0.3")).await.unwrap();
    let mut watcher = Sidecar::start(&members[0], xds).await;
    let _proxy = Sidecar::start(&cart, xds).await.go_on();
    let mut checker = Checker::open(&cart, xds).await;
    checker.assignment().await;

    let answered = attack(&members[0], xds, &end);
    // The idle ones fill up first.
    tokio::time::sleep(Duration::from_secs(2)).await;
    let lines = plane.lines.load(Ordering::Relaxed);

    let (record, plane_ref) = (Record::default(), &plane);
    let joins = each(Duration::from_millis(400), &end, async |n| {
        record.of("join", join(&token, declared(&format!("new-{n}"), "127.0.0.4"))).await;
    });
    let renewals = each(Duration::from_millis(400), &end, async |n| {
        let member = &mut members[n % 3];
        if let Some(renewed) = record.of("renewal", member.renew(xds)).await {
            *member = renewed;
        }
    });
    let probes = each(Duration::from_millis(100), &end, async |_| {
        record.of("ready", plane_ref.fetch("/ready")).await;
        record.of("live", plane_ref.fetch("/live")).await;
    });
    let api = each(Duration::from_millis(300), &end, async |_| {
        record.of("api", plane_ref.client.proxies()).await;
    });
    let streams = each(Duration::from_millis(600), &end, async |_| {
        let open = async {
            let mut stream = Delta::open_as(&cart, &cart.id, xds).await?;
            stream.subscribe(ResourceKind::Cluster, &[]).await;
            stream.next().await
        };
        record.of("stream", open).await;
    });
    let health = each(Duration::from_millis(500), &end, async |n| {
        let health = if n % 2 == 0 { HealthStatus::Unhealthy } else { HealthStatus::Healthy };
        let told = async {
            checker.report("inbound/shop/cart/http", health).await;
            watcher.until_health("shop/cart/http", health as i32).await;
            Ok::<_, std::convert::Infallible>(())
        };
        record.of("health", told).await;
    });
    let ending = async {
        tokio::time::sleep(attack_time()).await;
        end.cancel();
    };
    let before = answered.load(Ordering::Relaxed);
    tokio::join!(joins, renewals, probes, api, streams, health, ending);

    let seconds = attack_time().as_secs();
    let bogus = (answered.load(Ordering::Relaxed) - before) / seconds;
    let lines = plane.lines.load(Ordering::Relaxed) - lines;
    eprintln!("{bogus} bogus joins/s, {lines} lines of log");
    record.check(&[
        ("join", 5),
        ("renewal", 5),
        ("ready", 10),
        ("live", 10),
        ("api", 5),
        ("stream", 3),
        ("health", 3),
    ]);
    // Ten times what stopped the mesh; a quiet machine does all 3,000.
    assert!(bogus > 1000, "the flood is one: {bogus}/s");
    // One for each stream and join, and a few of the strangers.
    assert!(lines < 100 + 20 * seconds, "{lines} lines of log in {seconds} s");
    check_metrics(&plane.fetch("/metrics").await.unwrap());
    assert!(plane.child.try_wait().unwrap().is_none());
}
