//! The embedded engine killed in the middle of commits, and out of disk: this test program starts
//! itself again as the process that suffers.

use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use rand::Rng;
use tempfile::TempDir;
use weft_store::{CommitError, Location, OpenError, Store, StoreExt, Txn, open};

use crate::bench::{of_snapshot, soak};

const FILE: &str = "WEFT_CRASH_FILE";
const WRITERS: u64 = 4;

/// Every transaction writes its number in three places, one of them large, and moves its writer's counter.
fn marked(writer: u64, n: u64) -> Txn {
    let large = format!("{n}/").repeat(2_000 + (n as usize * 37) % 3_000);
    Txn::new()
        .put(format!("first/{writer}/{}", n % 50), format!("{n}"))
        .put(format!("large/{writer}/{}", n % 50), large)
        .put(format!("last/{writer}/{}", n % 50), format!("{n}"))
        .put(format!("count/{writer}"), format!("{n}"))
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "the process that the crash tests start and kill"]
async fn child_that_writes_until_it_is_killed() {
    let path = PathBuf::from(std::env::var_os(FILE).expect("started by a crash test"));
    let store = open(Location::Embedded(path)).await.unwrap();
    let tasks: Vec<_> = (0..WRITERS)
        .map(|writer| {
            let store = Arc::clone(&store);
            tokio::spawn(async move {
                for n in counter(&store, writer).await + 1.. {
                    match store.commit(marked(writer, n)).await {
                        Ok(_) => say(&format!("ACK {writer} {n}")),
                        Err(error @ CommitError::Unavailable { .. }) => {
                            return say(&format!("REFUSED {error}"));
                        }
                        Err(error) => panic!("{error:?}"),
                    }
                }
            })
        })
        .collect();
    for task in tasks {
        task.await.unwrap();
    }
    // Whoever refuses writes still serves what it has.
    say(&format!("READS {}", store.list_all("").await.unwrap().entries.len()));
}

async fn counter(store: &Arc<dyn Store>, writer: u64) -> u64 {
    let entry = store.get(&format!("count/{writer}")).await.unwrap();
    entry.map_or(0, |entry| std::str::from_utf8(&entry.value).unwrap().parse().unwrap())
}

fn say(line: &str) {
    let mut out = std::io::stdout().lock();
    // One write a line: a kill leaves whole lines.
    out.write_all(format!("\n{line}\n").as_bytes()).unwrap();
    out.flush().unwrap();
}

fn child(path: &Path, shell: &str) -> Command {
    let program = std::env::current_exe().unwrap();
    let mut command = Command::new("/bin/sh");
    command.args(["-c", &format!("{shell} exec \"$@\""), "child"]).arg(program);
    command.args(["--ignored", "--exact", "--nocapture", "--test-threads=1"]);
    command.arg("crash::child_that_writes_until_it_is_killed");
    command.env(FILE, path).stdin(Stdio::null()).stdout(Stdio::piped());
    command
}

/// What is in the file agrees with itself, and holds at least what was acknowledged.
async fn check(path: &Path, acknowledged: &[u64]) -> Vec<u64> {
    let store = open(Location::Embedded(path.into())).await.unwrap();
    let all = of_snapshot(&store.list_all("").await.unwrap());
    let text =
        |key: String| all.get(key.as_str()).map(|value| std::str::from_utf8(value).unwrap().to_owned());
    let mut counts = Vec::new();
    for writer in 0..WRITERS {
        let count = counter(&store, writer).await;
        let acked = acknowledged[writer as usize];
        // One more may have been synced without its answer having been heard.
        assert!(count == acked || count == acked + 1, "writer {writer}: {acked} acknowledged, {count} found");
        for n in count.saturating_sub(49).max(1)..=count {
            let slot = n % 50;
            assert_eq!(text(format!("first/{writer}/{slot}")), Some(n.to_string()));
            assert_eq!(text(format!("last/{writer}/{slot}")), Some(n.to_string()));
            let large = text(format!("large/{writer}/{slot}")).unwrap();
            assert_eq!(large.len(), format!("{n}/").len() * (2_000 + (n as usize * 37) % 3_000));
            assert!(large.starts_with(&format!("{n}/")) && large.ends_with(&format!("/{n}/")));
        }
        counts.push(count);
    }
    let revision = store.list_all("").await.unwrap().revision;
    assert_eq!(revision.0, counts.iter().sum::<u64>(), "every transaction is one revision");
    counts
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_at_any_moment_it_loses_nothing_acknowledged_and_leaves_nothing_half_written() {
    let directory = TempDir::new().unwrap();
    let path = directory.path().join("store");
    let rounds = if soak() { 200 } else { 12 };
    let mut counts = vec![0; WRITERS as usize];
    for round in 0..rounds {
        let mut child = child(&path, "").spawn().unwrap();
        let mut acknowledged = counts.clone();
        let mut heard = 0;
        let enough = rand::rng().random_range(1..40);
        for line in BufReader::new(child.stdout.take().unwrap()).lines() {
            let line = line.unwrap();
            assert!(!line.starts_with("REFUSED"), "round {round}: {line}");
            let Some((writer, n)) = line.strip_prefix("ACK ").and_then(|rest| rest.split_once(' ')) else {
                continue;
            };
            acknowledged[writer.parse::<usize>().unwrap()] = n.parse().unwrap();
            heard += 1;
            if heard == enough {
                // At some moment of the next commits; what is said until then still counts.
                std::thread::sleep(Duration::from_micros(rand::rng().random_range(0..20_000)));
                child.kill().unwrap();
            }
        }
        child.wait().unwrap();
        assert!(heard >= enough, "round {round}: the child ended by itself after {heard} commits");
        counts = check(&path, &acknowledged).await;
    }
    println!("{} commits survived {rounds} kills", counts.iter().sum::<u64>());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_another_process_has_is_refused_until_that_one_is_gone() {
    let directory = TempDir::new().unwrap();
    let path = directory.path().join("store");
    let mut child = child(&path, "").spawn().unwrap();
    let mut said = BufReader::new(child.stdout.take().unwrap()).lines().map(Result::unwrap);
    assert!(said.any(|line| line.starts_with("ACK")));
    let refused = open(Location::Embedded(path.clone())).await;
    assert!(matches!(refused, Err(OpenError::InUse { .. })), "{refused:?}");
    child.kill().unwrap();
    child.wait().unwrap();
    open(Location::Embedded(path)).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn out_of_disk_it_refuses_writes_keeps_what_was_acknowledged_and_still_reads() {
    let directory = TempDir::new().unwrap();
    let path = directory.path().join("store");
    // Files may grow to 3 MiB; the write beyond that fails instead of killing the process.
    let output = child(&path, "trap '' XFSZ; ulimit -f 6144;").output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    let mut acknowledged = vec![0; WRITERS as usize];
    for line in said.lines() {
        if let Some((writer, n)) = line.strip_prefix("ACK ").and_then(|rest| rest.split_once(' ')) {
            acknowledged[writer.parse::<usize>().unwrap()] = n.parse::<u64>().unwrap();
        }
    }
    assert!(acknowledged.iter().all(|n| *n > 0), "{said}");
    assert_eq!(said.lines().filter(|line| line.starts_with("REFUSED")).count(), WRITERS as usize, "{said}");
    assert!(said.contains("check the disk and its space"), "{said}");
    assert!(said.lines().any(|line| line.starts_with("READS")), "{said}");
    check(&path, &acknowledged).await;
}
