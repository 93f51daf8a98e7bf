//! What `--help` shows as examples is run, each line as it stands there, in the mesh of `weft up`: every command has some,
//! and none of them fails.

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use rustix::process::Signal;
use weft_e2e::harness::{MachineNetwork, Process, envoy_program, ours, process_tails};

use crate::page::root;
use crate::shell::{Ended, Shell};

/// Commands that go on until Ctrl-C, and get it after a while.
const GO_ON: [&str; 6] = ["weft up", "weft top", "weft tap", "weft dev", "weft run", "-w"];
/// Commands that have a machine of their own: the one beside them runs a mesh already.
const ALONE: [&str; 2] = ["weft up", "weft dev"];
/// What ends something that other examples need comes last.
const END_THINGS: [&str; 3] = ["weft delete", "revoke", "weft context remove"];
/// What cannot be known when the help is written, and what stands here in its place.
const KNOWN_LATER: [(&str, &str); 6] = [
    ("--to 12", "--to 1"),
    ("--to 11", "--to 1"),
    ("--revision 12", "--revision 1"),
    // The examples before it have begun a rotation and are undoing it: what is imported has to be refused.
    (
        "weft ca import chain.pem",
        "weft ca status -o json | jq -r '.roots[0].pem' > chain.pem; ! weft ca import chain.pem",
    ),
    ("token revoke ID", "token revoke $(weft token list -o name | head -n 1)"),
    ("5c1b0d4e-7f3a-4d3e-9a52-0d9f6f0c2a11", "$(weft explain --recent -o name | head -n 1)"),
];
/// What examples of applying and validating name: documents of the shop.
const DOCUMENTS: [(&str, &str); 3] = [
    ("policies/split.yaml", "catalog-split.yaml"),
    ("shop/split.yaml", "catalog-split.yaml"),
    ("cart.yaml", "deny-refunds.yaml"),
];
/// What examples of importing name.
const FROM_OTHERS: [(&str, &str); 3] = [
    (
        "consul/orders.json",
        r#"{"Kind": "service-intentions", "Name": "orders", "Sources": [{"Name": "web", "Action": "allow"}]}"#,
    ),
    (
        "kuma.yaml",
        "{type: MeshTimeout, name: cart, spec: {to: [{targetRef: {kind: MeshService, name: cart}, default: {connectionTimeout: 2s}}]}}\n",
    ),
    (
        "app-mesh.json",
        r#"{"virtualNode": {"virtualNodeName": "cart", "spec": {"listeners": [{"portMapping": {"port": 80, "protocol": "http"}}]}}}"#,
    ),
];
const ENDS: Duration = Duration::from_secs(60);

#[tokio::test]
async fn examples_of_each_command_do_what_they_say() {
    let dir = tempfile::Builder::new().prefix("weft-docs-").tempdir().expect("a directory");
    let gone = go_through(dir.path()).await;
    gone.unwrap_or_else(|error| panic!("{error:#}\n{}", process_tails(dir.path())));
}

async fn go_through(dir: &Path) -> anyhow::Result<()> {
    let mut wire = MachineNetwork::start(dir).await?;
    let (alpha, beta) = (wire.machine("alpha").await?, wire.machine("beta").await?);
    let (mesh, other) = (alpha.place(), beta.place());
    let homes = [dir.join("home"), dir.join("another")];
    homes.iter().try_for_each(|home| prepare(home))?;
    let [home, other_home] = &homes;
    let up = Process::start_at(mesh, dir, "up", &ours("weft")?, |command| {
        command.arg("up").arg("--envoy").arg(envoy_program().unwrap_or_default()).current_dir(home);
    })?;
    let mut shells = [Shell::start(mesh, home)?, Shell::start(other, other_home)?];
    for shell in &mut shells {
        let programs = ours("weft")?;
        let programs = programs.parent().context("no directory")?.display();
        run(shell, &format!("export HOME=$PWD PATH={programs}:$PATH; unset XDG_CONFIG_HOME")).await?;
    }
    let [shell, alone] = &mut shells;
    run(shell, "until [ $(weft get edges -o name | wc -l) -ge 6 ]; do sleep 0.5; done").await?;
    run(shell, "weft token create --service shop/cart --uses 9 --out cart.token").await?;
    let mut examples = Vec::new();
    collect(shell, "weft", &mut examples).await?;
    examples.sort_by_key(|example| END_THINGS.iter().any(|ends| example.contains(ends)));
    for example in &examples {
        let shell =
            if ALONE.iter().any(|word| example.starts_with(word)) { &mut *alone } else { &mut *shell };
        run(shell, &as_here(example)).await?;
    }
    ensure!(examples.len() >= 60, "{} examples", examples.len());
    up.signal(Signal::INT);
    let status = up.ended(ENDS).await?;
    ensure!(status.success(), "weft up: {status}");
    Ok(())
}

/// The files that examples name.
fn prepare(home: &Path) -> anyhow::Result<()> {
    for folder in ["policies", "shop", "tokens", "consul"] {
        std::fs::create_dir_all(home.join(folder))?;
    }
    for (file, of) in DOCUMENTS {
        std::fs::copy(root().join("policies/examples").join(of), home.join(file)).context(of)?;
    }
    for (file, text) in FROM_OTHERS {
        std::fs::write(home.join(file), text)?;
    }
    std::fs::write(
        home.join("envoy.yaml"),
        "admin: {address: {socket_address: {address: 127.0.0.1, port_value: 9901}}}\n",
    )?;
    let demo = ours("weft-demo")?;
    for (name, listens) in [
        ("web", "--http 127.0.0.1:8080"),
        ("cart", "--http 127.0.0.1:8081"),
        ("orders", "--grpc 127.0.0.1:50051"),
    ] {
        let text = format!(
            "#!/bin/sh\nexec {} serve --service {name} --workload {name}-1 {listens}\n",
            demo.display()
        );
        std::fs::write(home.join(name), text)?;
        std::fs::set_permissions(home.join(name), std::fs::Permissions::from_mode(0o755))?;
    }
    Ok(())
}

/// The examples below a command, which has some where it has no commands of its own.
async fn collect(shell: &mut Shell, command: &str, found: &mut Vec<String>) -> anyhow::Result<()> {
    let help = run(shell, &format!("{command} --help")).await?.output;
    let below = below(&help);
    for name in &below {
        Box::pin(collect(shell, &format!("{command} {name}"), found)).await?;
    }
    let own: Vec<String> = section(&help, "Examples:").map(str::to_owned).collect();
    ensure!(!own.is_empty() || !below.is_empty(), "{command} --help shows no example");
    for example in &own {
        ensure!(example.contains(command), "{command} --help shows another command: {example}");
    }
    found.extend(own);
    Ok(())
}

/// The commands that a help lists, but for the one that shows helps.
fn below(help: &str) -> Vec<String> {
    let named = section(help, "Commands:").filter(|line| !line.starts_with(' '));
    named
        .filter_map(|line| line.split_whitespace().next())
        .filter(|name| *name != "help")
        .map(str::to_owned)
        .collect()
}

/// The lines of a section of a help, without the two spaces before them.
fn section<'a>(help: &'a str, title: &str) -> impl Iterator<Item = &'a str> {
    let lines = help.lines().skip_while(move |line| *line != title).skip(1);
    lines.map_while(|line| line.strip_prefix("  "))
}

fn as_here(example: &str) -> String {
    let mut example = example.to_owned();
    for (written, here) in KNOWN_LATER {
        example = example.replace(written, here);
    }
    if GO_ON.iter().any(|word| example.contains(word)) {
        return example.replacen(
            "weft ",
            "timeout --signal INT --kill-after 30 --preserve-status 6 weft ",
            1,
        );
    }
    example
}

async fn run(shell: &mut Shell, command: &str) -> anyhow::Result<Ended> {
    let ended = shell.run(command).await?;
    // A difference that is found is told by the status; and who watches ends as Ctrl-C ends.
    let expected: &[i32] = match command {
        diff if diff.starts_with("weft diff") => &[0, 2],
        watch if watch.ends_with(" -w") => &[128 + 2],
        _ => &[0],
    };
    ensure!(expected.contains(&ended.status), "{command}: {}\n{}", ended.status, ended.output);
    println!("{command}");
    Ok(ended)
}
