//! `weft up` and the commands beside it, as a person in two terminals uses them.

use std::path::{Path, PathBuf};
use std::process::{Output, Stdio};
use std::time::Duration;

use anyhow::{Context as _, ensure};
use rustix::process::{Pid, Signal, kill_process};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::process::Command;
use weft_api::JoinToken;
use weft_api::rest::{Edge, EdgeList, ProxyList, ProxyStatus, Sync};
use weft_e2e::harness::{Process, envoy_program, ours, until};

const STARTS: Duration = Duration::from_secs(60);
/// The picture covers a window; this is several.
const SHOWS: Duration = Duration::from_secs(90);
const ENDS: Duration = Duration::from_secs(60);

#[tokio::test]
async fn local_mesh_runs_takes_commands_and_leaves_nothing_behind() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let data = dir.path().join("data");
    let person = Person { token_file: data.join("operator.token") };
    let up = start(dir.path(), &data);
    let used = use_it(&person, dir.path()).await;
    used.unwrap_or_else(|error| panic!("{error:?}\n{}", up.log()));
    let outlived = lose_an_application(&up).await;
    outlived.unwrap_or_else(|error| panic!("{error:?}\n{}", up.log()));
    end(up).await;
    assert_eq!(still_there(&data), Vec::<String>::new());

    // What was deleted does not come back with the mesh.
    let up = start(dir.path(), &data);
    let used = find_it_as_it_was_left(&person).await;
    used.unwrap_or_else(|error| panic!("{error:?}\n{}", up.log()));
    end(up).await;
}

/// What dies shows in the picture; the mesh goes on.
async fn lose_an_application(up: &Process) -> anyhow::Result<()> {
    let children = format!("/proc/{0}/task/{0}/children", up.id());
    let children: Vec<i32> =
        std::fs::read_to_string(children)?.split_whitespace().filter_map(|id| id.parse().ok()).collect();
    let mut ours = processes().filter(|(id, _)| children.contains(id));
    let (cart, _) = ours.find(|(_, line)| line.contains("serve --service cart ")).context("no cart")?;
    kill_process(Pid::from_raw(cart).context("no process id")?, Signal::KILL)?;
    until("the picture says that cart is gone", SHOWS, async || {
        let log = up.log();
        let said = log.lines().find(|line| line.contains("cart-v1 has ended")).context("not a word")?;
        ensure!(said.contains("SIGKILL") && said.ends_with("logs/cart-v1.log"), "{said}");
        Ok(())
    })
    .await
}

fn start(dir: &Path, data: &Path) -> Process {
    let started = Process::start(dir, "up", &ours("weft").expect("weft"), |command| {
        command.arg("up").arg("--data-dir").arg(data);
        command.arg("--envoy").arg(envoy_program().expect("Envoy"));
    });
    started.expect("weft up starts")
}

async fn end(up: Process) {
    up.signal(Signal::INT);
    let status = up.ended(ENDS).await.expect("weft up ends");
    assert!(status.success(), "{status}");
}

async fn find_it_as_it_was_left(person: &Person) -> anyhow::Result<()> {
    has_everything(person).await?;
    let missing = person.weft(&["get", "httproute", "catalog-split", "-n", "shop"]).await?;
    ensure!(missing.status.code() == Some(1), "{missing:?}");
    let services = person.weft(&["get", "services"]).await?;
    ensure!(text(&services).contains("payments"), "{services:?}");
    Ok(())
}

async fn has_everything(person: &Person) -> anyhow::Result<()> {
    until("six proxies have everything", STARTS, async || {
        let list: ProxyList = person.json(&["proxy", "list", "-o", "json"]).await?;
        let good = |proxy: &&ProxyStatus| proxy.sync == Sync::Synced && proxy.health == "Healthy";
        let healthy = list.items.iter().filter(good).count();
        let envoys = list.items.iter().filter(|proxy| proxy.proxy == "Envoy").count();
        ensure!((list.items.len(), healthy, envoys) == (6, 6, 2), "{:?}", list.items);
        Ok(())
    })
    .await
}

async fn use_it(person: &Person, dir: &Path) -> anyhow::Result<()> {
    has_everything(person).await?;
    until("the picture shows the traffic and the Deny", SHOWS, async || {
        let edges: EdgeList = person.json(&["get", "edges", "-o", "json"]).await?;
        let edge = |from: &str, to: &str, subset: Option<&str>| {
            let found = edges.items.iter().find(|edge| {
                (edge.source.as_str(), edge.destination.as_str(), edge.subset.as_deref())
                    == (from, to, subset)
            });
            found.with_context(|| format!("{from} to {to}: {:?}", edges.items))
        };
        for (from, to) in [("load", "web"), ("web", "cart"), ("cart", "payments")] {
            goes_well(edge(&format!("shop/{from}"), &format!("shop/{to}"), None)?)?;
        }
        let (v1, v2) =
            (edge("shop/web", "shop/catalog", Some("v1"))?, edge("shop/web", "shop/catalog", Some("v2"))?);
        goes_well(v1)?;
        goes_well(v2)?;
        let share = v1.rate / (v1.rate + v2.rate);
        ensure!((0.6..0.95).contains(&share), "80/20 is {share}");
        let denied = edge("shop/load", "shop/payments", None)?;
        ensure!(denied.denied.is_some_and(|share| share > 0.99), "{denied:?}");
        Ok(())
    })
    .await?;

    watch_it(person).await?;
    let canary = Path::new(env!("CARGO_MANIFEST_DIR")).join("../policies/examples/canary-50.yaml");
    let applied = person.weft(&["apply", "-f", &canary.to_string_lossy(), "--wait"]).await?;
    ensure!(applied.status.success() && text(&applied).contains("6 of 6 proxies have it"), "{applied:?}");
    let (typo, written) = (dir.join("typo.yaml"), std::fs::read_to_string(&canary)?);
    std::fs::write(&typo, written.replacen("weight:", "weigth:", 1))?;
    let refused = person.weft(&["apply", "-f", &typo.to_string_lossy()]).await?;
    let words = text(&refused);
    ensure!(refused.status.code() == Some(1), "{refused:?}");
    ensure!(words.contains("typo.yaml:") && words.contains("did you mean weight?"), "{words}");

    let token = person.weft(&["token", "create", "--service", "shop/cart"]).await?;
    ensure!(token.status.success(), "{token:?}");
    let joins = String::from_utf8_lossy(&token.stdout).trim().parse::<JoinToken>().context("the token")?;
    ensure!(joins.service.is_some_and(|service| service.to_string() == "shop/cart"), "{token:?}");
    let deleted = person.weft(&["delete", "httproute", "catalog-split", "-n", "shop"]).await?;
    ensure!(deleted.status.success(), "{deleted:?}");
    let missing = person.weft(&["get", "httproute", "catalog-split", "-n", "shop"]).await?;
    ensure!(missing.status.code() == Some(1), "{missing:?}");
    let wrong = person.weft(&["get", "httproutes", "--nonsense"]).await?;
    ensure!(wrong.status.code() == Some(64), "{wrong:?}");
    let status = person.weft(&["proxy", "status", "shop/web-v1"]).await?;
    ensure!(status.status.success() && text(&status).contains("CDS"), "{status:?}");
    Ok(())
}

/// `weft top` on a terminal of 80x24: the whole mesh, and the terminal given back on `q`.
async fn watch_it(person: &Person) -> anyhow::Result<()> {
    let weft = ours("weft")?;
    let line = format!(
        "stty rows 24 cols 80; exec {} --token-file {} top",
        weft.display(),
        person.token_file.display()
    );
    let mut script = Command::new("script");
    script
        .args(["--quiet", "--return", "--flush", "--command", &line, "/dev/null"])
        .env("TERM", "xterm-256color");
    let mut child = script.stdin(Stdio::piped()).stdout(Stdio::piped()).kill_on_drop(true).spawn()?;
    let (mut keys, mut screen) =
        (child.stdin.take().context("stdin")?, child.stdout.take().context("stdout")?);
    let watched = async {
        let (mut seen, mut piece) = (String::new(), [0; 4096]);
        // Words that stand together are drawn together; the name of a row is one word.
        while !(seen.contains("in sync") && seen.contains("shop/payments-v1") && seen.contains("shop/web-v1"))
        {
            let read = screen.read(&mut piece).await?;
            ensure!(read > 0, "it ended: {seen:?}");
            seen.push_str(&String::from_utf8_lossy(&piece[..read]));
        }
        keys.write_all(b"q").await?;
        screen.read_to_string(&mut seen).await?;
        ensure!(child.wait().await?.success(), "{seen:?}");
        // The alternate screen is entered and left, and the cursor shown again.
        ensure!(
            seen.contains("\x1b[?1049h") && seen.contains("\x1b[?1049l") && seen.contains("\x1b[?25h"),
            "{seen:?}"
        );
        Ok(())
    };
    tokio::time::timeout(STARTS, watched).await.context("the screen in time")?
}

fn goes_well(edge: &Edge) -> anyhow::Result<()> {
    let whole = edge.success.is_some_and(|share| share >= 1.0) && edge.mtls && edge.rate > 0.0;
    let times = edge.p50_ms.zip(edge.p99_ms).is_some_and(|(p50, p99)| 0.0 < p50 && p50 <= p99);
    ensure!(whole && times, "{edge:?}");
    Ok(())
}

/// Somebody in the second terminal.
struct Person {
    token_file: PathBuf,
}

impl Person {
    async fn weft(&self, args: &[&str]) -> anyhow::Result<Output> {
        let mut command = Command::new(ours("weft")?);
        Ok(command.arg("--token-file").arg(&self.token_file).args(args).output().await?)
    }

    async fn json<T: serde::de::DeserializeOwned>(&self, args: &[&str]) -> anyhow::Result<T> {
        let output = self.weft(args).await?;
        ensure!(output.status.success(), "{}", text(&output));
        Ok(serde_json::from_slice(&output.stdout)?)
    }
}

fn text(output: &Output) -> String {
    [&output.stdout, &output.stderr].map(|bytes| String::from_utf8_lossy(bytes).into_owned()).concat()
}

/// Processes whose command line names the directory of the mesh.
fn still_there(data: &Path) -> Vec<String> {
    processes().map(|(_, line)| line).filter(|line| line.contains(&*data.to_string_lossy())).collect()
}

/// Every process with its command line.
fn processes() -> impl Iterator<Item = (i32, String)> {
    let all = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    all.filter_map(|process| {
        let line = std::fs::read_to_string(process.path().join("cmdline")).ok()?;
        Some((process.file_name().to_str()?.parse().ok()?, line.replace('\0', " ")))
    })
}
