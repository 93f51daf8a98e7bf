//! `weft dev`: several applications in a mesh of their own, with nothing prepared.

use std::net::{SocketAddr, TcpListener};
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use rustix::process::Signal;
use serde_json::Value;
use tempfile::TempDir;
use weft_e2e::harness::{Calls, Process, free_port, marked_by, ours, until};

const SOON: Duration = Duration::from_secs(30);
const ENDS: Duration = Duration::from_secs(45);
/// What is promised from the command to the first call that is answered.
const FIRST_CALL: Duration = Duration::from_secs(10);

/// Two processes, nothing prepared; the second speaks gRPC, the first starts a process of its own, the third is reached by
/// a local port.
#[tokio::test]
async fn applications_call_each_other_within_seconds_and_leave_nothing_behind() {
    let ports = [(); 3].map(|()| free_port().expect("a port"));
    let [web, cart, db] = ports;
    let demo = ours("weft-demo").expect("weft-demo").display().to_string();
    // The application's own `--` passes.
    let script = format!(
        "sleep 1000 & exec {demo} serve --service web --http 127.0.0.1:{web} --call http://shop/ --sidecar \
         ${{HTTP_PROXY#http://}}"
    );
    let (first, second, third) = (format!("web:{web}"), format!("cart:{cart}/GRPC"), format!("db:{db}/TCP"));
    let shop = format!("shop:{}", free_port().expect("a port"));
    let (shop_listens, cart_listens) = (shop.replace("shop", "127.0.0.1"), format!("127.0.0.1:{cart}"));
    // On all addresses: the local ports that callers have of it are not in its way.
    let db_listens = format!("0.0.0.0:{db}");
    let words = [
        &[first.as_str(), "sh", "-c", &script, "--", "x"][..],
        &["--", &second, &demo, "serve", "--service", "cart", "--grpc", &cart_listens],
        &["--", &third, &demo, "serve", "--service", "db", "--tcp", &db_listens],
        &["--", &shop, &demo, "serve", "--service", "shop", "--http", &shop_listens],
    ]
    .concat();
    let started = Instant::now();
    let dev = Dev::start(&["-o", "json"], &words);
    let used = use_it(&dev, started).await;
    let addresses = used.unwrap_or_else(|error| panic!("{error:?}\n{}", dev.process.log()));
    dev.ends_by(Signal::INT).await;
    for address in addresses {
        TcpListener::bind(address).unwrap_or_else(|error| panic!("{address} is still taken: {error}"));
    }
}

async fn use_it(dev: &Dev, started: Instant) -> anyhow::Result<Vec<SocketAddr>> {
    let told = dev.told().await?;
    let service = |name: &str| {
        let mut services = told["services"].as_array().into_iter().flatten();
        let found = services.find(|service| service["name"] == name);
        found.cloned().with_context(|| format!("{name}: {told}"))
    };
    let outbound = |name: &str| -> anyhow::Result<SocketAddr> {
        Ok(service(name)?["outbound"].as_str().context("no outbound")?.parse()?)
    };
    let calls = Calls::through(outbound("cart")?);
    let tree = until("the first call", SOON, async || calls.get("http://web/").await?.tree()).await?;
    let took = started.elapsed();
    println!("weft dev: the first proxied call was answered after {took:.1?}");
    ensure!(took < FIRST_CALL, "the first call was answered after {took:?}");
    ensure!(tree.peer == "spiffe://mesh.local/ns/default/svc/cart", "{tree:?}");
    // The one that is called calls on, by its HTTP_PROXY.
    ensure!(tree.calls[0].peer == "spiffe://mesh.local/ns/default/svc/web", "{tree:?}");
    let grpc = Calls::through(outbound("web")?).grpc_unary("cart").await?;
    ensure!(grpc.peer == "spiffe://mesh.local/ns/default/svc/web", "{grpc:?}");
    let db: SocketAddr = service("web")?["upstreams"]["db"].as_str().context("no upstream")?.parse()?;
    ensure!(Calls::tcp(db).await?.contains("db"));
    let api = told["api"].as_str().context("no api")?;
    let token = std::fs::read_to_string(told["tokenFile"].as_str().context("no token")?)?;
    let proxies = weft_api::client::ApiClient::try_new(api, token.trim(), &[])?.proxies().await?;
    ensure!(proxies.items.len() == 4, "{:?}", proxies.items);
    let api: SocketAddr = api.strip_prefix("http://").context("http")?.parse()?;
    ensure!(api.ip().is_loopback() && api.ip() != SocketAddr::from(([127, 0, 0, 1], 0)).ip(), "{api}");
    Ok(vec![api, outbound("web")?, outbound("cart")?, db])
}

#[tokio::test]
async fn first_application_that_ends_ends_the_others_and_gives_its_code() {
    let [web, cart] = [(); 2].map(|()| free_port().expect("a port"));
    let demo = ours("weft-demo").expect("weft-demo").display().to_string();
    let (first, second) = (format!("web:{web}"), format!("cart:{cart}"));
    let http = format!("127.0.0.1:{web}");
    let words = [
        &[first.as_str(), &demo, "serve", "--service", "web", "--http", &http][..],
        &["--", &second, "sh", "-c", "echo it is over; exit 3"],
    ]
    .concat();
    let dev = Dev::start(&[], &words);
    let (code, said) = dev.ended().await;
    assert_eq!(code, Some(3), "{said}");
    assert!(said.contains("cart | it is over"), "{said}");
    assert!(said.contains("cart ended"), "{said}");
}

#[tokio::test]
async fn what_cannot_start_is_said_before_anything_does() {
    let (taken, free) = (TcpListener::bind("127.0.0.1:0").expect("a port"), free_port().expect("a port"));
    let taken = format!("web:{}", taken.local_addr().expect("an address").port());
    let free = format!("web:{free}");
    for (words, code, says) in [
        (vec![taken.as_str(), "true"], 1, vec!["web", "taken"]),
        (vec![&free, "./nowhere"], 127, vec!["./nowhere"]),
        (vec![&free], 64, vec!["web", "no command"]),
        (vec!["./web"], 64, vec!["NAME:PORT", "./web"]),
        (vec![], 64, vec!["NAME:PORT"]),
    ] {
        let (found, said) = Dev::start(&[], &words).ended().await;
        assert_eq!(found, Some(code), "{words:?}: {said}");
        assert!(says.iter().all(|part| said.contains(part)), "{words:?}: {said}");
    }
}

/// One `weft dev`, with a place of its own for what is temporary.
struct Dev {
    process: Process,
    logs: TempDir,
    temporary: TempDir,
}

impl Dev {
    fn start(flags: &[&str], words: &[&str]) -> Self {
        let (logs, temporary) = (tempfile::tempdir().expect("logs"), tempfile::tempdir().expect("TMPDIR"));
        let weft = ours("weft").expect("weft");
        let process = Process::start(logs.path(), "dev", &weft, |command| {
            command.env("TMPDIR", temporary.path()).arg("dev").args(flags).arg("--").args(words);
        });
        Self { process: process.expect("weft dev starts"), logs, temporary }
    }

    /// The one line of JSON.
    async fn told(&self) -> anyhow::Result<Value> {
        until("it says how services are reached", SOON, async || {
            let log = self.process.log();
            let line = log.lines().find(|line| line.starts_with('{')).context("not yet")?;
            Ok(serde_json::from_str(line)?)
        })
        .await
    }

    async fn ends_by(self, signal: Signal) {
        self.process.signal(signal);
        let (code, said) = self.ended().await;
        assert_eq!(code, Some(0), "{said}");
    }

    /// Exit code and words; nothing is left.
    async fn ended(self) -> (Option<i32>, String) {
        let log = self.process.log_path().to_owned();
        let status = self.process.ended(ENDS).await.expect("weft dev ends");
        let said = std::fs::read_to_string(log).expect("a log");
        let processes = marked_by(self.temporary.path());
        assert!(processes.is_empty(), "{processes:?}: {said}");
        let files: Vec<_> = self.temporary.path().read_dir().expect("TMPDIR").flatten().collect();
        assert!(files.is_empty(), "{files:?}: {said}");
        drop(self.logs);
        (status.code(), said)
    }
}
