//! Failures that are planted, and whether a person who knows nothing but the answer's `x-request-id`, or that something is
//! wrong, finds the cause with at most two commands. The words are looked for in what the commands print.

mod applications;
mod certificates;
mod notebook;
mod requests;

use weft_e2e::harness::{Mesh, Options, Pair, Sidecar, StoreKind};

use notebook::Notebook;

use crate::shop::Callers;

/// What is planted in a mesh whose certificates live long.
const PLANTED: [&str; 24] = [
    "denied by a rule",
    "allowed by no rule",
    "no such service",
    "a service without members",
    "no route matches",
    "a route to a service that does not exist",
    "the application answers 500",
    "escaped slash in the path",
    "no head of HTTP",
    "head too large",
    "an HTTP/1.1 client at an HTTP/2 application",
    "an HTTP/2 client at an HTTP/1.1 application",
    "the application listens on another port",
    "the application closes without an answer",
    "the application resets the connection",
    "the application hangs",
    "circuit breaker open",
    "every member ejected",
    "answer later than the limit",
    "the caller went away",
    "plain text at the port of mutual TLS",
    "application down",
    "TCP application down",
    "sidecar gone",
];

/// What is planted where certificates end soon.
const PLANTED_CERTIFICATES: [&str; 7] = [
    "client with an expired certificate",
    "client of another mesh",
    "member that is not renewed",
    "server with an expired certificate",
    "server of another mesh",
    "server of another service",
    "server without TLS",
];

#[tokio::test]
async fn cause_of_each_planted_failure_is_found_with_two_commands() {
    Mesh::run(Options::new(StoreKind::Embedded), async |mesh| {
        let mut notebook = Notebook::default();
        requests::plant(mesh, &mut notebook).await?;
        applications::plant(mesh, &mut notebook).await?;
        notebook.has_all(&PLANTED)
    })
    .await;
}

#[tokio::test]
async fn clock_that_is_off_is_found_with_one_command() {
    // All machines are ahead of one that is behind: Envoy does not start with another clock than the machine's.
    Mesh::run(Options::new(StoreKind::Embedded).clock("-1h"), async |mesh| {
        let (callers, mut notebook) = (Callers::start(mesh).await?, Notebook::default());
        for beside in Sidecar::ALL {
            let caller = callers.of(Pair { caller: beside, server: beside });
            let words = format!("the clock of {} is 60m ahead of the control plane's", caller.id());
            notebook.find(mesh, ("clock off", beside), &[&["proxy", "list"]], &[&words, "NTP"]).await?;
        }
        notebook.has_all(&["clock off"])
    })
    .await;
}

#[tokio::test]
async fn cause_of_each_planted_certificate_is_found_with_two_commands() {
    Mesh::run(Options::new(StoreKind::Embedded).leaf_ttl(certificates::LIFE), async |mesh| {
        let mut notebook = Notebook::default();
        certificates::plant(mesh, &mut notebook).await?;
        notebook.has_all(&PLANTED_CERTIFICATES)
    })
    .await;
}
