//! `weft debug bundle`: all that somebody needs who is to help, in one file, without secrets.

mod archive;
mod redaction;

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{SystemTime, UNIX_EPOCH};

use serde::Serialize;
use serde_json::Value;
use weft_api::client::{ApiClient, AuditPart, ClientError, HistoryPart};
use weft_policies::kinds::Kind;

use super::check;
use crate::args::BundleArgs;
use crate::output::{Palette, outln};
use crate::replicas::ReplicaClients;

use archive::Archive;
use redaction::Redaction;

/// Proxies whose configuration is in a bundle.
const CONFIGURATIONS: usize = 100;
/// Changes and calls that are in a bundle.
const CHANGES: usize = 100;
const CALLS: usize = 500;

/// A bundle on its way.
struct GatheredBundle<'a> {
    replicas: &'a ReplicaClients,
    redaction: Redaction,
    archive: Archive,
}

pub async fn run(replicas: &ReplicaClients, token: &str, args: BundleArgs) -> anyhow::Result<ExitCode> {
    let made_at = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    let name = format!("weft-debug-{made_at}");
    let out = args.out.unwrap_or_else(|| PathBuf::from(format!("{name}.tar.gz")));
    // Before everything is asked for.
    anyhow::ensure!(!out.exists(), "--out {}: there is such a file; choose another name", out.display());
    let mut bundle =
        GatheredBundle { replicas, redaction: Redaction::new(token), archive: Archive::default() };
    bundle.gather().await?;
    let notes = bundle.archive.notes.clone();
    bundle.archive.add("README.txt", readme(&notes));
    let count = bundle.archive.len();
    let size = bundle.archive.write(&out, &name, made_at)?;
    outln!("{}: {count} files, {} KiB", out.display(), size.div_ceil(1024));
    outln!("tokens, private keys and values of headers are taken out; look through it before you pass it on");
    for note in notes {
        outln!("  {note}");
    }
    Ok(ExitCode::SUCCESS)
}

fn readme(notes: &[String]) -> String {
    let mut text = format!(
        "Made by weft {} debug bundle.

check.txt, check.json    what is wrong
version.json             control planes and proxies by version
proxies.json, proxies/   who is connected, what each took, and what each should have
documents/               what was applied
history.json             what was changed, the newest first
audit.json               who did what, the newest first
requests.json            what failed or was refused of late
edges.json               traffic between services
control-planes/          each control plane from inside: dump, metrics, newest log lines

Tokens, private keys and values of headers are taken out. Names of services and workloads, addresses and paths are not.
",
        env!("CARGO_PKG_VERSION")
    );
    if !notes.is_empty() {
        text.push_str("\nNot here, or not whole:\n");
        for note in notes {
            text.push_str(&format!("  {note}\n"));
        }
    }
    text
}

impl GatheredBundle<'_> {
    /// What matters most first: where a bundle is full, the rest is left out.
    async fn gather(&mut self) -> anyhow::Result<()> {
        let replicas = self.replicas;
        match check::gather(replicas).await {
            Ok(found) => {
                let text = check::report(&found, 100, Palette::Plain);
                self.archive.add("check.txt", self.redaction.text(&text));
                self.add("check.json", Ok(found));
            }
            Err(error) => self.add::<Value>("check.json", Err(error)),
        }
        self.add("version.json", replicas.any(async |api: &ApiClient| api.version().await).await);
        self.control_planes().await;
        self.add("requests.json", replicas.requests(None, None).await);
        self.add("edges.json", replicas.edges().await);
        let part = HistoryPart { limit: Some(CHANGES), ..HistoryPart::default() };
        self.add("history.json", replicas.any(async |api: &ApiClient| api.history(&part).await).await);
        let part = AuditPart { limit: Some(CALLS), ..AuditPart::default() };
        self.add("audit.json", replicas.any(async |api: &ApiClient| api.audit(&part).await).await);
        for kind in Kind::ALL {
            let list = replicas.any(async |api: &ApiClient| api.list(kind.plural(), None).await).await;
            if list.as_ref().is_ok_and(|list| list.items.is_empty()) {
                continue;
            }
            self.add(&format!("documents/{}.json", kind.plural()), list);
        }
        self.proxies().await;
        anyhow::ensure!(
            self.archive.len() > 2,
            "there is nothing to bundle:\n  {}",
            self.archive.notes.join("\n  ")
        );
        Ok(())
    }

    async fn proxies(&mut self) {
        let list = self.replicas.proxies().await;
        let ids: Vec<String> =
            list.iter().flat_map(|list| &list.items).map(|proxy| proxy.id.clone()).collect();
        self.add("proxies.json", list);
        if ids.len() > CONFIGURATIONS {
            let left_out = ids.len() - CONFIGURATIONS;
            self.archive
                .notes
                .push(format!("proxies/: the configurations of {left_out} proxies are left out"));
        }
        for id in ids.iter().take(CONFIGURATIONS) {
            let config = self.replicas.any(async |api: &ApiClient| api.proxy_config(id).await).await;
            self.add(&format!("proxies/{}.json", id.replace('/', ".")), config);
        }
    }

    async fn control_planes(&mut self) {
        let info = match self.replicas.any(async |api: &ApiClient| api.debug().await).await {
            Ok(info) => info,
            Err(error) => return self.add::<Value>("control-planes/", Err(error)),
        };
        for (address, error) in info.unheard {
            self.archive.notes.push(format!("control-planes/{address}: {error}"));
        }
        for replica in info.replicas {
            let folder = format!("control-planes/{}", replica.address.replace([':', '[', ']'], "_"));
            let mut log = replica.log.join("\n");
            log.push('\n');
            if replica.log_dropped > 0 {
                log.insert_str(0, &format!("{} older lines are not kept\n", replica.log_dropped));
            }
            self.archive.add(&format!("{folder}/log.txt"), self.redaction.text(&log));
            self.archive.add(&format!("{folder}/dump.json"), self.redaction.document(replica.dump));
            self.archive.add(&format!("{folder}/metrics.txt"), self.redaction.text(&replica.metrics));
        }
    }

    fn add<T: Serialize>(&mut self, name: &str, answer: Result<T, ClientError>) {
        match answer.map(|answer| serde_json::to_value(answer).unwrap_or_default()) {
            Ok(value) => self.archive.add(name, self.redaction.document(value)),
            Err(error) => self.archive.notes.push(format!("{name}: {error}")),
        }
    }
}
