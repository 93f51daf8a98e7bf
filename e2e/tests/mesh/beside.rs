//! `weft run`: an application beside its sidecar, under one process.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, ensure};
use rustix::process::{Pid, Signal, kill_process};
use weft_e2e::harness::{Calls, Mesh, Options, Process, StoreKind, child, free_port, marked_by, ours, until};
use weft_e2e::load::{Load, LoadTarget};

use crate::shop::service;
use crate::steady::rate;

const SOON: Duration = Duration::from_secs(30);
/// Longer than a sidecar may drain.
const ENDS: Duration = Duration::from_secs(45);
const USAGE: i32 = 64;

#[tokio::test]
async fn application_is_told_of_its_sidecar_and_its_code_is_the_commands() {
    Mesh::run(Options::new(StoreKind::Embedded), async |mesh: &mut Mesh| {
        mesh.apply(&service("web")).await?;
        let seen = mesh.dir().join("environment");
        let script = format!("env > {}; exit 7", seen.display());
        let run = Run::new(mesh, "web-1", &[], &["sh", "-c", &script]);
        let (code, said) = run.to_its_end(mesh).await?;
        ensure!(code == Some(7), "{code:?}: {said}");
        ensure!(said.contains("shop/web-1 serves shop/web"), "{said}");
        let environment = std::fs::read_to_string(seen)?;
        let proxy = format!("http://{}:15001", run.address);
        for expected in [format!("HTTP_PROXY={proxy}"), format!("http_proxy={proxy}")] {
            ensure!(environment.lines().any(|line| line == expected), "{expected}: {environment}");
        }
        for name in ["NO_PROXY=", "no_proxy="] {
            let found = environment.lines().find_map(|line| line.strip_prefix(name)).context(name)?;
            ensure!(found.contains("localhost") && found.contains("127.0.0.0/8"), "{found}");
        }
        ensure!(!environment.contains("WEFT_JOIN=") && !environment.contains("WEFT_TOKEN="), "{environment}");

        for (name, script, expected) in [("web-2", "kill -KILL $$", 137), ("web-3", "exit 0", 0)] {
            let run = Run::new(mesh, name, &[], &["sh", "-c", script]);
            let (code, said) = run.to_its_end(mesh).await?;
            ensure!(code == Some(expected), "{script}: {code:?}: {said}");
            run.left_nothing()?;
        }
        Ok(())
    })
    .await;
}

#[tokio::test]
async fn start_that_cannot_succeed_says_why_and_joins_nothing() {
    Mesh::run(Options::new(StoreKind::Embedded), async |mesh: &mut Mesh| {
        mesh.apply(&service("web")).await?;
        let taken = std::net::TcpListener::bind((mesh.next_address(), 0))?;
        let taken = taken.local_addr()?.to_string();
        let text = mesh.dir().join("no-program");
        std::fs::write(&text, "")?;
        let text = text.to_str().context("path")?;
        for (flags, command, code, says) in [
            (vec![], vec!["./nowhere"], 127, vec!["./nowhere", "no such program"]),
            (vec![], vec![text], 126, vec![text, "executed"]),
            (vec![], vec![], USAGE, vec!["COMMAND"]),
            (vec!["--app-prot", "http=80"], vec!["true"], USAGE, vec!["--app-prot", "--app-port"]),
            (vec!["--service", "shop/nowhere"], vec!["true"], 1, vec!["shop/nowhere", "kind: Service"]),
            (vec!["--app-port", "htpp=80"], vec!["true"], 1, vec!["htpp", "http"]),
            (vec!["--app-port", "http"], vec!["true"], USAGE, vec!["--app-port", "NAME=PORT"]),
            (vec!["--inbound", &taken], vec!["true"], 1, vec!["--inbound", &taken, "was not started"]),
            (vec!["--admin-listen", &taken], vec!["true"], 1, vec!["--admin-listen", &taken, "--address"]),
        ] {
            let run = Run::new(mesh, "web-1", &flags, &command);
            let (found, said) = run.to_its_end(mesh).await?;
            ensure!(found == Some(code), "{flags:?} {command:?}: {found:?}: {said}");
            ensure!(says.iter().all(|part| said.contains(part)), "{flags:?} {command:?}: {said}");
            run.left_nothing()?;
        }
        ensure!(mesh.proxies().await?.is_empty(), "{:?}", mesh.proxies().await?);
        Ok(())
    })
    .await;
}

/// What it says about a missing service can be applied, and then it starts.
#[tokio::test]
async fn service_that_is_missing_is_shown_as_it_could_be() {
    Mesh::run(Options::new(StoreKind::Embedded), async |mesh: &mut Mesh| {
        let flags = ["--app-port", "http=8080"];
        let (code, said) = Run::new(mesh, "web-1", &flags, &["true"]).to_its_end(mesh).await?;
        ensure!(code == Some(1), "{said}");
        let (_, yaml) = said.split_once("\n\n").context("no example")?;
        mesh.apply(yaml).await?;
        let (code, said) = Run::new(mesh, "web-1", &flags, &["true"]).to_its_end(mesh).await?;
        ensure!(code == Some(0), "{said}");
        Ok(())
    })
    .await;
}

#[tokio::test]
async fn signals_are_passed_on() {
    Mesh::run(Options::new(StoreKind::Embedded), async |mesh: &mut Mesh| {
        mesh.apply(&service("web")).await?;
        let heard = mesh.dir().join("heard");
        let script = format!(
            "trap 'echo HUP >> {0}' HUP; trap 'echo USR1 >> {0}' USR1; trap 'exit 5' TERM; echo up >> {0}; while :; do \
             sleep 0.05; done",
            heard.display()
        );
        let run = Run::new(mesh, "web-1", &[], &["sh", "-c", &script]);
        let process = run.start(mesh)?;
        for (signal, word) in [(None, "up"), (Some(Signal::HUP), "HUP"), (Some(Signal::USR1), "USR1")] {
            if let Some(signal) = signal {
                process.signal(signal);
            }
            until(word, SOON, async || {
                let words = std::fs::read_to_string(&heard)?;
                ensure!(words.lines().any(|line| line == word), "{words}");
                Ok(())
            })
            .await?;
        }
        let status = process.end(ENDS).await?;
        ensure!(status.code() == Some(5), "{status}");
        run.left_nothing()
    })
    .await;
}

/// Two instances, one of which is stopped while requests that take their time are on their way to it.
#[tokio::test]
async fn stop_under_load_loses_no_request() {
    Mesh::run(Options::new(StoreKind::Embedded), async |mesh: &mut Mesh| {
        mesh.apply(&[service("web"), service("front")].join("\n---\n")).await?;
        let stays = mesh.workload("shop/web").named("web-0").serving().start().await?;
        let caller = mesh.workload("shop/front").named("front-0").start().await?;
        let port = free_port()?;
        let run = Run::serving(mesh, "web-1", port, &[]);
        let process = run.start(mesh)?;
        mesh.in_sync(&[stays.id(), caller.id()]).await?;
        // Requests take their time in both, so that both have their share of them, and some are under way at the stop.
        for app in [format!("http://127.0.0.1:{port}"), stays.app()] {
            let slow = format!("{app}/fault?delay=150ms");
            until("the application serves", SOON, async || Calls::direct().get(&slow).await).await?;
        }
        until("both are called", SOON, async || {
            let answer = caller.calls().get("http://web/").await?.tree()?;
            ensure!(answer.workload == "web-1", "{answer:?}");
            Ok(())
        })
        .await?;
        let load = Load::start(LoadTarget {
            name: "stop".to_owned(),
            sidecar: caller.outbound(),
            url: "http://web/echo".to_owned(),
            rate: rate(),
        });
        load.reach(0, u64::from(rate()) * 2).await?;
        let status = process.end(ENDS).await?;
        ensure!(status.code() == Some(0), "{status}");
        load.reach(0, u64::from(rate()) * 6).await?;
        let tally = load.stop().await;
        let of = |name: &str| tally.era(0).answers.get(name).copied().unwrap_or(0);
        ensure!(tally.failed() == 0, "{tally}");
        ensure!(of("web-1") > 50 && of("web-0") > of("web-1"), "{tally} {:?}", tally.era(0));
        run.left_nothing()
    })
    .await;
}

/// An application that needs others to answer what it was asked before the stop, and to end.
#[tokio::test]
async fn own_calls_go_on_until_the_application_has_ended() {
    Mesh::run(Options::new(StoreKind::Embedded), async |mesh: &mut Mesh| {
        mesh.apply(&[service("web"), service("front"), service("store")].join("\n---\n")).await?;
        let store = mesh.workload("shop/store").named("store-0").serving().start().await?;
        let caller = mesh.workload("shop/front").named("front-0").start().await?;
        let port = free_port()?;
        let farewell = mesh.dir().join("farewell");
        let run = Run::serving(mesh, "web-1", port, &["--call", "http://store/"]);
        // Beside the application, something that calls when it is told to end.
        let at_the_end = format!(
            "trap '{demo} call http://store/ --sidecar ${{HTTP_PROXY#http://}} > {file}; kill $app' TERM; {app} & app=$!; \
             wait $app; wait $app; exit 4",
            demo = ours("weft-demo")?.display(),
            file = farewell.display(),
            app = run.command.join(" "),
        );
        let run = Run { command: ["sh", "-c", &at_the_end].map(str::to_owned).to_vec(), ..run };
        let process = run.start(mesh)?;
        mesh.in_sync(&[store.id(), caller.id()]).await?;
        let slow = format!("http://127.0.0.1:{port}/fault?delay=2500ms");
        until("the application serves", SOON, async || Calls::direct().get(&slow).await).await?;
        until("it is called", SOON, async || caller.calls().get("http://web/").await?.tree()).await?;
        let (answer, status) = tokio::join!(
            async { caller.calls().get("http://web/").await },
            async {
                tokio::time::sleep(Duration::from_millis(300)).await;
                process.end(ENDS).await
            },
        );
        let tree = answer?.tree()?;
        ensure!(tree.calls.len() == 1 && tree.calls[0].workload == "store-0", "{tree:?}");
        ensure!(status?.code() == Some(4));
        let said = std::fs::read_to_string(&farewell)?;
        ensure!(said.contains("store-0"), "{said}");
        run.left_nothing()
    })
    .await;
}

#[tokio::test]
async fn death_of_the_sidecar_ends_the_application_and_is_said() {
    Mesh::run(Options::new(StoreKind::Embedded), async |mesh: &mut Mesh| {
        mesh.apply(&service("web")).await?;
        let run = Run::serving(mesh, "web-1", free_port()?, &[]);
        let process = run.start(mesh)?;
        until("both run", SOON, async || child(process.id(), "weft-demo")).await?;
        let sidecar = child(process.id(), "weft-proxy")?;
        kill_process(Pid::from_raw(sidecar.cast_signed()).context("pid")?, Signal::KILL)?;
        let log = process.log_path().to_owned();
        let status = process.ended(ENDS).await?;
        let said = std::fs::read_to_string(log)?;
        ensure!(status.code() == Some(1), "{status}: {said}");
        ensure!(said.contains("the sidecar ended (signal 9)"), "{said}");
        run.left_nothing()
    })
    .await;
}

/// A container's process 1 inherits orphans, and no signal ends it that it does not handle.
#[tokio::test]
async fn process_one_of_a_container_reaps_orphans_and_hears_signals() {
    Mesh::run(Options::new(StoreKind::Embedded), async |mesh: &mut Mesh| {
        mesh.apply(&service("web")).await?;
        let dead = "grep -qs '^State:.Z' /proc/[0-9]*/status";
        let script =
            format!("(sleep 0.1 &); (sleep 0.2 &); sleep 1; if {dead}; then exit 9; else exit 5; fi");
        let run = Run::new(mesh, "web-1", &[], &["sh", "-c", &script]);
        let status = run.start_as_process_one(mesh)?.ended(ENDS).await?;
        ensure!(status.code() == Some(5), "{status}");

        let ready = mesh.dir().join("ready");
        let script = format!("trap 'exit 6' TERM; touch {}; while :; do sleep 0.05; done", ready.display());
        let run = Run::new(mesh, "web-2", &[], &["sh", "-c", &script]);
        let process = run.start_as_process_one(mesh)?;
        until("the application runs", SOON, async || ready.is_file().then_some(()).context("not yet"))
            .await?;
        let first = child(process.id(), "weft")?;
        kill_process(Pid::from_raw(first.cast_signed()).context("pid")?, Signal::TERM)?;
        let status = process.ended(ENDS).await?;
        ensure!(status.code() == Some(6), "{status}");
        run.left_nothing()
    })
    .await;
}

#[tokio::test]
async fn identity_that_is_kept_needs_no_second_token() {
    Mesh::run(Options::new(StoreKind::Embedded), async |mesh: &mut Mesh| {
        mesh.apply(&service("web")).await?;
        let kept = mesh.dir().join("kept");
        let flags = ["--identity-dir", kept.to_str().context("path")?];
        for _ in 0..2 {
            let (code, said) = Run::new(mesh, "web-1", &flags, &["true"]).to_its_end(mesh).await?;
            ensure!(code == Some(0), "{said}");
        }
        let tokens = mesh.client().tokens().await?.items;
        ensure!(kept.join("workload.json").is_file() && tokens.len() <= 1, "{tokens:?}");
        Ok(())
    })
    .await;
}

/// One `weft run`.
struct Run {
    address: Ipv4Addr,
    name: String,
    flags: Vec<String>,
    command: Vec<String>,
    /// Where it makes what is gone at its end.
    temporary: PathBuf,
}

impl Run {
    fn new(mesh: &mut Mesh, name: &str, flags: &[&str], command: &[&str]) -> Self {
        let address = mesh.next_address();
        let owned = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect();
        let temporary = mesh.dir().join(format!("tmp-{name}-{address}"));
        Self { address, name: name.to_owned(), flags: owned(flags), command: owned(command), temporary }
    }

    /// The demo application, which answers by its name.
    fn serving(mesh: &mut Mesh, name: &str, port: u16, more: &[&str]) -> Self {
        let demo = ours("weft-demo").map(|path| path.display().to_string()).unwrap_or_default();
        let http = SocketAddr::from(([127, 0, 0, 1], port)).to_string();
        let mut run = Self::new(mesh, name, &["--app-port", &format!("http={port}")], &[]);
        let sidecar = format!("{}:15001", run.address);
        let words =
            [&demo, "serve", "--service", "web", "--workload", name, "--http", &http, "--sidecar", &sidecar];
        run.command = words.iter().chain(more).map(|word| (*word).to_owned()).collect();
        run
    }

    fn arrange(&self, mesh: &mut Mesh, command: &mut std::process::Command) {
        std::fs::create_dir_all(&self.temporary).expect("a directory");
        let control_plane = mesh.control_plane();
        command.env("TMPDIR", &self.temporary).env("WEFT_TOKEN_FILE", control_plane.token_file());
        command.args(["run", "--api", &control_plane.api(), "--workers", "1", "--name", &self.name]);
        command.arg("--address").arg(self.address.to_string());
        if !self.flags.iter().any(|flag| flag == "--service") {
            command.args(["--service", "shop/web"]);
        }
        command.args(&self.flags);
        if !self.command.is_empty() {
            command.arg("--").args(&self.command);
        }
    }

    fn start(&self, mesh: &mut Mesh) -> anyhow::Result<Process> {
        self.start_by(mesh, &ours("weft")?, &[])
    }

    fn start_as_process_one(&self, mesh: &mut Mesh) -> anyhow::Result<Process> {
        let weft = ours("weft")?;
        let words = ["--user", "--map-root-user", "--pid", "--fork", "--mount-proc", "--kill-child"];
        let words = words.into_iter().chain([weft.to_str().context("path")?]).collect::<Vec<_>>();
        self.start_by(mesh, Path::new("/usr/bin/unshare"), &words)
    }

    fn start_by(&self, mesh: &mut Mesh, program: &Path, before: &[&str]) -> anyhow::Result<Process> {
        let dir = mesh.dir().to_owned();
        let name = format!("run-{}-{}", self.name, self.address);
        Process::start(&dir, &name, program, |command| {
            command.args(before);
            self.arrange(mesh, command);
        })
    }

    /// Exit code, and what was said.
    async fn to_its_end(&self, mesh: &mut Mesh) -> anyhow::Result<(Option<i32>, String)> {
        let process = self.start(mesh)?;
        let log = process.log_path().to_owned();
        let status = process.ended(ENDS).await?;
        Ok((status.code(), std::fs::read_to_string(log)?))
    }

    /// No process and no file.
    fn left_nothing(&self) -> anyhow::Result<()> {
        let processes = marked_by(&self.temporary);
        ensure!(processes.is_empty(), "{processes:?}");
        let files: Vec<_> = self.temporary.read_dir()?.flatten().map(|entry| entry.path()).collect();
        ensure!(files.is_empty(), "{files:?}");
        Ok(())
    }
}
