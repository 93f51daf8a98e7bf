//! `weft-demo`: a small application, and a load for it, to see a mesh with.

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use weft_e2e::demo::{self, CallArgs, CollectArgs, IssueArgs, LoadArgs, ServeArgs};

/// A demo application for a service mesh: services by flags, and a load generator.
#[derive(Debug, Parser)]
#[command(name = "weft-demo", version, about)]
struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run one instance of a service: HTTP/1.1, h2, gRPC and TCP echo, calls on to others, faults on request
    Serve(ServeArgs),
    /// Call one URL through a sidecar, and print the answer
    Call(CallArgs),
    /// Send a steady load
    Load(LoadArgs),
    /// Take OTLP and count it, where the OpenTelemetry collector cannot be had
    Collect(CollectArgs),
    /// Publish keys and give out tokens signed with them, where no identity provider can be had
    Issue(IssueArgs),
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let args = match Args::try_parse() {
        Ok(args) => args,
        Err(error) => {
            drop(error.print());
            return ExitCode::from(if error.use_stderr() { 64 } else { 0 });
        }
    };
    let done = match args.command {
        Command::Serve(args) => demo::run_service(args).await,
        Command::Call(args) => demo::run_call(args).await,
        Command::Load(args) => demo::run_load(args).await,
        Command::Collect(args) => demo::run_collector(args).await,
        Command::Issue(args) => demo::run_issuer(args).await,
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("weft-demo: {error:#}");
            ExitCode::FAILURE
        }
    }
}
