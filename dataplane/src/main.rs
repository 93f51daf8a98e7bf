//! `weft-proxy`: the data plane of the Weft service mesh.

use std::process::ExitCode;

use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;
use weft_api::probe;
use weft_api::supervisor::{ServiceState, Supervisor};
use weft_dataplane::args::{Args, Command, EX_USAGE};
use weft_dataplane::joining::{self, JoinError};
use weft_dataplane::{descriptors, join_keep, logs, run};

#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> ExitCode {
    let args = match Args::try_read(std::env::args_os()) {
        Ok(args) => args,
        Err(error) => {
            error.print();
            return error.exit_status().into();
        }
    };
    if let Command::Health(health) = &args.command {
        let ready = match &health.identity_dir {
            Some(directory) => joining::check_joined(directory).map_err(|error| error.to_string()),
            None => probe::ready(health.admin).map_err(|error| error.to_string()),
        };
        return match ready {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => {
                eprintln!("{error}");
                ExitCode::FAILURE
            }
        };
    }
    let log = match logs::start(args.log.as_deref(), args.log_format) {
        Ok(log) => log,
        Err(error) => {
            eprintln!("error: --log: {error}");
            return EX_USAGE.into();
        }
    };
    // The control thread: workers have threads and event loops of their own.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = match runtime {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("error: the event loop cannot be started: {error}");
            return ExitCode::FAILURE;
        }
    };
    let status = runtime.block_on(async {
        let (stop, supervisor) = (CancellationToken::new(), Supervisor::of_this_process());
        if let Err(error) = stop_on_signals(&stop, &supervisor) {
            eprintln!("error: signals cannot be handled: {error}");
            return ExitCode::FAILURE;
        }
        match args.command {
            Command::Run(args) => {
                descriptors::raise_limit();
                match Box::pin(run::run(&args, log, stop, supervisor)).await {
                    Ok(()) => ExitCode::SUCCESS,
                    Err(error) => {
                        eprintln!("{error}");
                        error.exit_status().into()
                    }
                }
            }
            // Answered above, without an event loop.
            Command::Health(_) => ExitCode::SUCCESS,
            Command::Join(args) => match Box::pin(join_keep::run(&args, stop, supervisor)).await {
                Ok(()) => ExitCode::SUCCESS,
                Err(error) => {
                    eprintln!("{error}");
                    if matches!(error, JoinError::Usage(_)) { EX_USAGE.into() } else { ExitCode::FAILURE }
                }
            },
        }
    });
    // A look-up under way must not hold up the end.
    runtime.shutdown_background();
    status
}

/// SIGTERM and SIGINT end gracefully; a second one ends at once. SIGHUP is heard and ignored, as by Envoy: a terminal
/// that closes and a habit of reloading must not cut connections.
fn stop_on_signals(stop: &CancellationToken, supervisor: &Supervisor) -> std::io::Result<()> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut hangup = signal(SignalKind::hangup())?;
    let (stop, supervisor) = (stop.clone(), supervisor.clone());
    tokio::spawn(async move {
        loop {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
                _ = hangup.recv() => {
                    tracing::info!(
                        event = "signal_ignored",
                        "SIGHUP is ignored: there is nothing to reload; SIGTERM ends the process"
                    );
                    continue;
                }
            }
            if stop.is_cancelled() {
                std::process::exit(1);
            }
            supervisor.tell(ServiceState::Stopping("says goodbye"));
            stop.cancel();
        }
    });
    Ok(())
}
