//! `weft-control-plane`: reads the command line, starts, and ends on SIGTERM or Ctrl-C. SIGHUP is ignored.

use std::process::ExitCode;

use tokio::signal::unix::{Signal, SignalKind, signal};
use weft_api::flags::{self, UsageError};
use weft_api::supervisor::{ServiceState, Supervisor};
use weft_api::{CONTEXT_FILE, probe};
use weft_control_plane::args::{Args, CliCommand};
use weft_control_plane::backup;
use weft_control_plane::clock::Clock;
use weft_control_plane::server::supervision::supervise;
use weft_control_plane::server::{self, descriptors, telemetry};

fn main() -> ExitCode {
    let args: Args = match flags::try_read(std::env::args_os()) {
        Ok(args) => args,
        Err(error) => {
            error.print();
            return ExitCode::from(error.exit_status());
        }
    };
    if let Some(CliCommand::Health { admin }) = &args.command {
        return match probe::ready(admin.unwrap_or(args.admin_listen)) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => {
                eprintln!("{error}");
                ExitCode::FAILURE
            }
        };
    }
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("weft-control-plane: cannot start: {error}");
            return ExitCode::FAILURE;
        }
    };
    match runtime.block_on(carry_out(&args)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => match error.downcast_ref::<UsageError>() {
            Some(usage) => {
                usage.print();
                ExitCode::from(usage.exit_status())
            }
            None => {
                eprintln!("weft-control-plane: {error:#}");
                ExitCode::FAILURE
            }
        },
    }
}

async fn carry_out(args: &Args) -> anyhow::Result<()> {
    let clock = Clock::system();
    let said = match &args.command {
        None | Some(CliCommand::Health { .. }) => return run(args).await,
        Some(CliCommand::Backup { file }) => backup::back_up(args, file, &clock).await?,
        Some(CliCommand::Restore { file }) => backup::restore(args, file, &clock).await?,
        Some(CliCommand::Store(command)) => backup::store(args, command, &clock).await?,
    };
    println!("{said}");
    Ok(())
}

async fn run(args: &Args) -> anyhow::Result<()> {
    let telemetry = telemetry::start(args)?;
    let mut signals = ServerSignals::listen()?;
    descriptors::raise_limit();
    let supervisor = Supervisor::of_this_process();
    supervisor.tell(ServiceState::Waiting("opens the store"));
    let running = tokio::select! {
        running = server::start(args, Clock::system(), telemetry.events.clone()) => running?,
        // What is stored is whole after every write, as it must be after a crash.
        why = signals.end() => {
            tracing::info!(event = "ended_early", why, "ended before it served");
            supervisor.tell(ServiceState::Stopping("ends before it served"));
            telemetry.end();
            return Ok(());
        }
    };
    telemetry.observe(&running.reconciler);
    tokio::spawn(supervise(supervisor.clone(), running.reconciler.clone()));
    tracing::info!(
        event = "serving",
        api = %running.api, xds = %running.xds, admin = %running.admin,
        trust_domain = %args.trust_domain, data_dir = %args.data_dir.display(),
        "the control plane serves"
    );
    if !running.api.ip().is_loopback() && args.api_cert.is_none() {
        let file = args.data_dir.join(CONTEXT_FILE);
        tracing::info!(
            event = "operator_context_written",
            file = %file.display(),
            "to use weft elsewhere, take this file there: weft login operator.context"
        );
    }
    let why = signals.end().await;
    tracing::info!(event = "ending", why, "ending");
    supervisor.tell(ServiceState::Stopping("finishes what is under way"));
    running.end().await;
    telemetry.end();
    tracing::info!(event = "ended", "ended");
    Ok(())
}

/// What the process is told from outside.
struct ServerSignals {
    terminate: Signal,
    interrupt: Signal,
    hangup: Signal,
}

impl ServerSignals {
    fn listen() -> std::io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            // Heard, so that a terminal that closes or a habit of reloading ends nothing.
            hangup: signal(SignalKind::hangup())?,
        })
    }

    /// Waits until the process is to end, and says by what.
    async fn end(&mut self) -> &'static str {
        loop {
            tokio::select! {
                _ = self.terminate.recv() => return "SIGTERM",
                _ = self.interrupt.recv() => return "Ctrl-C",
                _ = self.hangup.recv() => {
                    tracing::info!(
                        event = "signal_ignored",
                        "SIGHUP is ignored: there is nothing to reload; SIGTERM ends the process"
                    );
                }
            }
        }
    }
}
