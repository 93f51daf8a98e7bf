//! `weft`: the command line for people. It talks to the control plane as any client does.
//!
//! ```text
//! args ──▶ access (where is the API, which token) ──▶ commands::… ──▶ output (table, yaml, json)
//!                                                 └──▶ up, dev (a mesh on this machine), run (one process)
//! ```

mod access;
mod args;
mod commands;
mod completion;
mod contexts;
mod dev;
mod import;
mod lines;
mod output;
mod progress;
mod replicas;
mod run;
mod top;
mod up;

use std::cell::Cell;
use std::process::ExitCode;

use args::{
    Args, CaCommand, Command, ContextCommand, DebugCommand, OperatorCommand, ProxyCommand, TokenCommand,
};
use weft_api::flags::UsageError;

fn main() -> ExitCode {
    completion::answer_the_shell();
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("weft: {error}");
            return ExitCode::FAILURE;
        }
    };
    runtime.block_on(run_as_told())
}

async fn run_as_told() -> ExitCode {
    let args: Args = match weft_api::flags::try_read(std::env::args_os()) {
        Ok(args) => args,
        Err(error) => {
            error.print();
            return ExitCode::from(error.exit_status());
        }
    };
    match carry_out(args).await {
        Ok(code) => code,
        Err(error) => match error.downcast_ref::<UsageError>() {
            Some(usage) => {
                usage.print();
                ExitCode::from(usage.exit_status())
            }
            None => {
                eprintln!("weft: {error:#}");
                ExitCode::FAILURE
            }
        },
    }
}

async fn carry_out(args: Args) -> anyhow::Result<ExitCode> {
    let asked = Cell::new(false);
    let access = || {
        asked.set(true);
        access::replicas(&args.access)
    };
    let done = by_command(args.command, &args.access, access).await;
    if asked.get() && done.is_ok() {
        access::follow_roots(&args.access).await;
    }
    done
}

async fn by_command(
    command: Command,
    to: &args::Access,
    access: impl Fn() -> anyhow::Result<replicas::ReplicaClients>,
) -> anyhow::Result<ExitCode> {
    match command {
        Command::Up(up) => up::run(up).await,
        Command::Top => {
            let found = access::find(to)?;
            top::run(&access::all_of(&found)?.quietly(), &found.api).await
        }
        Command::Run(run) => run::run(|| access::client(to), *run).await,
        Command::Dev(dev) => dev::run(dev).await,
        Command::Login(login) => commands::login::run(to, login).await,
        Command::Context(context) => match context.command {
            ContextCommand::List(list) => commands::context::list(&list),
            ContextCommand::Use { name } => commands::context::use_from_now_on(&name),
            ContextCommand::Remove { name } => commands::context::remove(&name),
        },
        Command::Check(check) => commands::check::run(&access()?, check).await,
        Command::Drain(drain) => commands::drain::run(&access()?, drain).await,
        Command::Debug(debug) => match debug.command {
            DebugCommand::Bundle(bundle) => {
                let found = access::find(to)?;
                commands::bundle::run(&access::all_of(&found)?, &found.token, bundle).await
            }
        },
        Command::Version(version) => commands::version::run(access(), &version).await,
        Command::Apply(apply) => commands::apply::run(&access()?, apply).await,
        Command::Get(get) => commands::get::run(&access()?, get).await,
        Command::Describe(describe) => commands::describe::run(&access()?, describe).await,
        Command::Diff(diff) => commands::diff::run(&access()?, diff).await,
        Command::History(history) => commands::history::run(&access()?, history).await,
        Command::Rollback(rollback) => commands::rollback::run(&access()?, rollback).await,
        Command::Explain(explain) => commands::explain::run(&access()?, explain).await,
        Command::Tap(tap) => commands::tap::run(&access()?, tap).await,
        Command::Delete(delete) => commands::delete::run(&access()?, delete).await,
        Command::Validate(validate) => commands::validate::run(&validate),
        Command::Import(import) => commands::import::run(&import),
        Command::Token(token) => match token.command {
            TokenCommand::Create(create) => commands::token::create(&access()?, create).await,
            TokenCommand::List(list) => commands::token::list(&access()?, list).await,
            TokenCommand::Revoke(revoke) => commands::token::revoke(&access()?, revoke).await,
        },
        Command::Proxy(proxy) => match proxy.command {
            ProxyCommand::List(list) => commands::proxy::list(&access()?, list).await,
            ProxyCommand::Status(status) => commands::proxy::status(&access()?, status).await,
            ProxyCommand::Config(config) => commands::proxy::config(&access()?, config).await,
            ProxyCommand::Revoke(proxy) => commands::proxy::revoke(&access()?, proxy).await,
            ProxyCommand::Bootstrap(bootstrap) => {
                commands::bootstrap::run(|| access::client(to), *bootstrap).await
            }
        },
        Command::Operator(operator) => match operator.command {
            OperatorCommand::Create(create) => commands::operator::create(&access()?, create).await,
            OperatorCommand::Rotate(rotate) => commands::operator::rotate(&access()?, rotate).await,
            OperatorCommand::List(list) => commands::operator::list(&access()?, list).await,
            OperatorCommand::Revoke(revoke) => commands::operator::revoke(&access()?, revoke).await,
            OperatorCommand::Whoami(whoami) => commands::operator::whoami(&access()?, whoami).await,
        },
        Command::Ca(ca) => match ca.command {
            CaCommand::Status(status) => commands::authority::status(&access()?, status).await,
            CaCommand::Rotate(rotate) => commands::authority::rotate(&access()?, rotate).await,
            CaCommand::Reseal(reseal) => commands::authority::reseal(&access()?, &reseal).await,
            CaCommand::Csr(csr) => commands::authority::csr(&access()?, &csr).await,
            CaCommand::Import(import) => commands::authority::import(&access()?, import).await,
        },
        Command::Audit(audit) => commands::audit::run(&access()?, audit).await,
        Command::Ui(ui) => commands::ui::run(&access::client(to)?, &ui).await,
        Command::Completion { shell } => {
            output::write(format_args!("{}", completion::script(shell)?));
            Ok(ExitCode::SUCCESS)
        }
    }
}
