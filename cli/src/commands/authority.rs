//! `weft ca`: the roots of the mesh, and replacing them.

use std::io::Read as _;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use weft_api::client::ClientError;
use weft_api::rest::{
    AuthorityStatus, IssuerImport, Resealed, RotationRequest, RotationStageName, RotationStatus, SealStatus,
};

use crate::args::{CaCsr, CaImport, CaReseal, CaRotate, ListArgs, OutputFormat};
use crate::output::{self, out};
use crate::replicas::{ReplicaClients, is_silence};

/// How often a rotation is asked after that is waited for.
const PAUSE: Duration = Duration::from_secs(1);
/// Digits of a serial number that tell one from another.
const SHORT: usize = 12;
/// How many are named for whom a rotation waits.
const NAMED: usize = 10;
/// More than any chain that a control plane takes, in bytes.
const LARGEST: u64 = 128 << 10;
/// What a rotation to a root means that nobody here can vouch for.
const UNVOUCHED: &str = "the old root does not vouch for the new one: tokens and contexts that name the old one alone end with stage 2";

pub async fn status(replicas: &ReplicaClients, args: ListArgs) -> anyhow::Result<ExitCode> {
    let status = replicas.any(async |client| client.ca().await).await?;
    show(&status, args.output)?;
    Ok(ExitCode::SUCCESS)
}

pub async fn rotate(replicas: &ReplicaClients, args: CaRotate) -> anyhow::Result<ExitCode> {
    let request = RotationRequest { spread: args.spread.clone() };
    let begun = if args.abort {
        replicas.any(async |client| client.abort_rotation().await).await?
    } else {
        replicas.any(async |client| client.rotate_root(&request).await).await?
    };
    follow(replicas, begun, args.wait, args.output).await
}

pub async fn csr(replicas: &ReplicaClients, args: &CaCsr) -> anyhow::Result<ExitCode> {
    let request = replicas.any(async |client| client.issuer_request().await).await?;
    if args.output.is_table() {
        out!("{}", request.pem);
    } else {
        output::print(args.output, &request, &[], Vec::new)?;
    }
    Ok(ExitCode::SUCCESS)
}

pub async fn import(replicas: &ReplicaClients, args: CaImport) -> anyhow::Result<ExitCode> {
    let chain = read_chain(&args.file).with_context(|| args.file.clone())?;
    let request = IssuerImport { chain, spread: args.spread.clone() };
    let begun = replicas.any(async |client| client.import_issuer(&request).await).await?;
    follow(replicas, begun, args.wait, args.output).await
}

/// Certificates from a file. What it should not hold does not leave this machine.
fn read_chain(file: &str) -> anyhow::Result<String> {
    let mut text = String::new();
    if file == "-" {
        std::io::stdin().take(LARGEST).read_to_string(&mut text)?;
    } else {
        std::fs::File::open(file)?.take(LARGEST).read_to_string(&mut text)?;
    }
    ensure!(
        !text.contains("PRIVATE KEY"),
        "it holds a private key: bring certificates only, and keep the key"
    );
    Ok(text)
}

/// Shows what was begun, or what it came to within the time that is waited.
async fn follow(
    replicas: &ReplicaClients,
    begun: AuthorityStatus,
    limit: Option<Duration>,
    output: OutputFormat,
) -> anyhow::Result<ExitCode> {
    let Some(limit) = limit else {
        show(&begun, output)?;
        return Ok(ExitCode::SUCCESS);
    };
    let reached = wait(replicas, begun, Instant::now() + limit, output.is_table()).await?;
    show(&reached, output)?;
    Ok(if reached.rotation.is_none() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

pub async fn reseal(replicas: &ReplicaClients, args: &CaReseal) -> anyhow::Result<ExitCode> {
    let done = replicas.any(async |client| client.reseal().await).await?;
    if args.output.is_table() {
        out!("{}", resealed(&done));
    } else {
        output::print(args.output, &done, &[], Vec::new)?;
    }
    Ok(ExitCode::SUCCESS)
}

fn resealed(done: &Resealed) -> String {
    let Resealed { key, records } = done;
    if *records == 0 {
        return format!(
            "every record is sealed with {key}, the first key of the seal key's file: put a new one before it to replace it\n"
        );
    }
    format!(
        "{records} records are sealed anew, with {key}: leave only the first line in the seal key's file of each control plane, and \
         keep the old one as long as the backups that were taken before\n"
    )
}

/// Follows a rotation to its end, or until then, and says when a stage is reached.
async fn wait(
    replicas: &ReplicaClients,
    begun: AuthorityStatus,
    until: Instant,
    speaks: bool,
) -> Result<AuthorityStatus, ClientError> {
    let (mut last, mut told) = (begun, None);
    while let Some(rotation) = &last.rotation {
        let stage = (rotation.stage, rotation.aborted);
        if speaks && told.is_none() && !rotation.vouched && !rotation.aborted {
            eprintln!("{UNVOUCHED}");
        }
        if speaks && told.replace(stage) != Some(stage) {
            eprintln!("{}", words(rotation));
        }
        if Instant::now() >= until {
            break;
        }
        tokio::time::sleep(PAUSE).await;
        match replicas.any(async |client| client.ca().await).await {
            Ok(status) => last = status,
            // Nothing of a rotation is lost when control planes are away: it goes on when one is back.
            Err(error) if is_silence(&error) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(last)
}

fn words(rotation: &RotationStatus) -> String {
    let (number, what) = match (rotation.stage, rotation.aborted) {
        (RotationStageName::DistributingRoot, _) => {
            (1, "the new root is brought to everybody beside the old one")
        }
        (RotationStageName::RenewingLeaves, false) => (2, "certificates are renewed under the new root"),
        (RotationStageName::RenewingLeaves, true) => {
            (2, "undone: certificates are renewed under the old root")
        }
        (RotationStageName::MovingControlPlanes, false) => (3, "the control planes move to the new root"),
        (RotationStageName::MovingControlPlanes, true) => {
            (3, "undone: the control planes stay under the old root")
        }
    };
    format!("stage {number} of 3: {what}")
}

fn show(status: &AuthorityStatus, output: OutputFormat) -> anyhow::Result<()> {
    if output.is_table() {
        out!("{}", describe(status));
        Ok(())
    } else {
        output::print(output, status, &[], Vec::new)
    }
}

fn describe(status: &AuthorityStatus) -> String {
    let short = |serial: &str| serial.chars().take(SHORT).collect::<String>();
    let roots: Vec<_> = status
        .roots
        .iter()
        .map(|root| {
            let word = root.state.as_str().to_owned();
            let (origin, leaves) = (root.origin.as_str().to_owned(), root.leaves.to_string());
            vec![short(&root.serial), word, origin, output::until(root.expires_at), leaves]
        })
        .collect();
    let issuers: Vec<_> = status
        .issuers
        .iter()
        .map(|issuer| {
            let root = issuer.root.as_deref().map_or_else(|| "-".to_owned(), short);
            let word = issuer.state.as_str().to_owned();
            let (end, leaves) = (output::until(issuer.expires_at), issuer.leaves.to_string());
            vec![short(&issuer.serial), root, word, end, leaves]
        })
        .collect();
    let mut text = output::table(&["ROOT", "STATE", "ORIGIN", "EXPIRES", "LEAVES"], &roots);
    text.push('\n');
    text.push_str(&output::table(&["ISSUER", "ROOT", "STATE", "EXPIRES", "LEAVES"], &issuers));
    if let Some(rotation) = &status.rotation {
        text.push_str(&format!("\n{}, for {}\n", words(rotation), output::since(rotation.stage_since)));
        if !rotation.vouched && !rotation.aborted {
            text.push_str(UNVOUCHED);
            text.push('\n');
        }
        text.push_str(&waits(rotation));
    }
    if let Some(seal) = &status.seal {
        text.push_str(&sealed(seal));
    }
    text
}

fn sealed(seal: &SealStatus) -> String {
    if let Some(problem) = &seal.problem {
        return format!("\n{problem}\n");
    }
    let words = |id: &str, held: bool, records: usize| match (id == seal.sealing, held, records) {
        (true, ..) => "seals",
        (false, false, _) => "missing in the file",
        (false, true, 0) => "not needed any more",
        (false, true, _) => "needed until weft ca reseal",
    };
    let row = |key: &weft_api::rest::SealKeyStatus| {
        let word = words(&key.id, key.held, key.records).to_owned();
        vec![key.id.clone(), word, key.records.to_string()]
    };
    let rows: Vec<_> = seal.keys.iter().map(row).collect();
    format!("\n{}", output::table(&["SEAL KEY", "STATE", "RECORDS"], &rows))
}

fn waits(rotation: &RotationStatus) -> String {
    let mut text = String::new();
    if rotation.waits > 0 {
        text.push_str(&format!("it waits for {}:\n", rotation.waits));
    }
    for wait in rotation.waits_for.iter().take(NAMED) {
        text.push_str(&format!("  {} {}", wait.who, wait.reason.words()));
        if let Some(until) = wait.until {
            text.push_str(&format!(", {} at most", output::until(until)));
        }
        text.push('\n');
    }
    if rotation.waits > NAMED {
        text.push_str(&format!("  and {} more (-o json)\n", rotation.waits - NAMED));
    }
    for id in rotation.left_behind.iter().take(NAMED) {
        text.push_str(&format!(
            "left behind: {id} is away and its certificate has ended; it joins again when it comes\n"
        ));
    }
    text
}
