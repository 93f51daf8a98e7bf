//! The API keeps what its description says. Schemathesis reads the description of a control plane that runs and asks what it
//! allows, and what it does not: values at their bounds and beyond, other types and media types, headers that are missing,
//! methods that are not there, no token, another token. What comes back must be what the description says of it.
//!
//! Streams are left out: their answers do not end. The seed is fixed, so that a failure is found again.

use std::fmt::Write as _;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, ensure};
use weft_api::client::ApplyOptions;
use weft_e2e::harness::ControlPlane;

const ADDRESS: Ipv4Addr = Ipv4Addr::new(127, 7, 61, 1);
/// On a machine with nothing else to do each takes a third of that.
const LIMIT: Duration = Duration::from_secs(120);
const SEED: &str = "7";

/// Something of what can be read, and a principal that may read it.
const POLICIES: &str = include_str!("conformance.yaml");

/// What differs from what Schemathesis takes for granted, each with its reason.
const SETTINGS: &str = r#"
# They do not end.
[[operations]]
include-path-regex = "^/v1/(watch/|taps)"
enabled = false

# Which revision there is, and which objects, no schema can say.
[checks.positive_data_acceptance]
expected-statuses = ["2xx", "3xx", "401", "403", "404", "409", "410", "412", "429"]

# What documents mean beside each other, no schema can say: a reference to nothing, weights that add up to nothing; nor what makes
# certificates a chain.
[[operations]]
include-path-regex = "^/v1/(apply|namespaces/|ca/import)"
phases.coverage.enabled = false
checks.positive_data_acceptance.expected-statuses = ["2xx", "3xx", "401", "403", "404", "409", "410", "412", "422", "429"]

# Nor that it is of documents or of a revision, and not of both.
[[operations]]
include-path = "/v1/diff"
phases.coverage.enabled = false
checks.positive_data_acceptance.expected-statuses = ["2xx", "3xx", "400", "401", "403", "404", "409", "410", "412", "422", "429"]

# Nor that a method comes with a path, and what a caller, a destination and a header may be called.
[[operations]]
include-path = "/v1/explain"
checks.positive_data_acceptance.expected-statuses = ["2xx", "3xx", "400", "401", "403", "404", "409", "410", "412", "429"]

# A pattern does not tell which ranges of addresses there are, nor that an operator's word is no principal's name.
[[operations]]
include-path-regex = "^/v1/(tokens|principals)$"
checks.positive_data_acceptance.expected-statuses = ["2xx", "3xx", "400", "401", "403", "404", "409", "410", "412", "429"]
"#;

#[tokio::test]
async fn api_is_what_its_description_says_for_an_operator_and_for_who_only_reads() {
    let dir = tempfile::tempdir().expect("a directory");
    let mut plane = ControlPlane::new(dir.path(), ADDRESS, None, Vec::new());
    plane.start().await.expect("it starts");
    tried(&plane, dir.path()).await.unwrap_or_else(|error| panic!("{error:#}"));
    plane.end().await.expect("it ends");
}

async fn tried(plane: &ControlPlane, dir: &Path) -> anyhow::Result<()> {
    let client = plane.client()?;
    let reader = client.create_principal("reader").await?.token;
    client.apply(POLICIES, &ApplyOptions::default()).await?;
    let operator = std::fs::read_to_string(plane.token_file())?;
    // The reader first: the operator's questions take away what there is to read.
    for (who, token, more) in [
        // A principal that calls more often waits, which would be most of the answers.
        ("reader", reader.as_str(), &["--rate-limit", "45/s", "--max-examples", "4"][..]),
        ("operator", operator.trim(), &["--max-examples", "15"][..]),
    ] {
        let found = schemathesis(plane, dir, (who, token), more).await?;
        ensure!(found.is_empty(), "as {who}:\n{found}");
    }
    // It was asked a few thousand odd things, and is as it was.
    client.edges().await.context("it answers still")?;
    Ok(())
}

/// What it finds.
async fn schemathesis(
    plane: &ControlPlane,
    dir: &Path,
    (who, token): (&str, &str),
    more: &[&str],
) -> anyhow::Result<String> {
    let settings = dir.join("schemathesis.toml");
    std::fs::write(&settings, SETTINGS)?;
    let mut command = tokio::process::Command::new(program()?);
    command.arg("--config-file").arg(&settings).arg("run").arg(format!("{}/openapi.json", plane.api()));
    command.args(["--header", &format!("Authorization: Bearer {token}"), "--seed", SEED, "--checks", "all"]);
    command.args(["--phases", "examples,coverage,fuzzing", "--continue-on-failure", "--no-shrink"]);
    command.args(["--suppress-health-check", "all", "--warnings", "off"]).args(more);
    command.current_dir(dir).env("NO_COLOR", "1").env("COLUMNS", "120").kill_on_drop(true);
    let output = tokio::time::timeout(LIMIT, command.output()).await;
    let output = output.with_context(|| format!("Schemathesis took more than {LIMIT:?} as {who}"))??;
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    // Whatever it could not ask must not pass for an answer.
    let asked = said
        .lines()
        .find_map(|line| line.trim().strip_suffix("generated").or(line.split(" generated").next()));
    ensure!(said.contains("generated"), "{said}\n{}", String::from_utf8_lossy(&output.stderr));
    println!("as {who}: {}", asked.unwrap_or_default());
    if output.status.success() {
        return Ok(String::new());
    }
    let mut found = said;
    write!(found, "{}", String::from_utf8_lossy(&output.stderr))?;
    Ok(found)
}

fn program() -> anyhow::Result<PathBuf> {
    let found = Path::new(env!("CARGO_MANIFEST_DIR")).join("../.tools/schemathesis/bin/schemathesis");
    ensure!(found.exists(), "no {}: `scripts/install test` brings it", found.display());
    Ok(found)
}
