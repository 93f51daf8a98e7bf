//! Command line of `weft-proxy`: flags, their environment variables, and the file given with `--config`.

use std::ffi::OsString;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

use clap::{Args as ClapArgs, Parser, Subcommand};
use weft_api::ControlPlanes;
pub use weft_api::flags::{EX_USAGE, UsageError};
use weft_api::flags::{LogFormat, TokenSource};

mod values;

pub use values::{AppPort, Label, LocalityFlag, UpstreamBinding};

/// The sidecar proxy of the Weft service mesh.
#[derive(Debug, Parser)]
#[command(name = "weft-proxy", version, about, max_term_width = 100)]
pub struct Args {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
    /// YAML file with any of these flags, written without the dashes
    #[arg(long, global = true, env = "WEFT_CONFIG", value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Level of the log, or a filter such as `info,weft_dataplane=debug`
    #[arg(long, global = true, env = "WEFT_LOG", value_name = "FILTER")]
    pub log: Option<String>,
    /// How the log on standard error is written; text for a terminal and JSON otherwise by default
    #[arg(long, global = true, env = "WEFT_LOG_FORMAT", value_name = "FORMAT")]
    pub log_format: Option<LogFormat>,
}

/// What `weft-proxy` can do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run the proxy: join first (or use an identity joined before), or start from an Envoy bootstrap
    Run(Box<RunArgs>),
    /// Join the mesh and write the identity's files, for a stock Envoy to use
    Join(Box<JoinArgs>),
    /// Ask a proxy that runs here, weft-proxy or Envoy, whether it is ready: exits 0 if so, 1 and says why if not
    Health(HealthArgs),
}

/// `weft-proxy run`.
#[derive(Debug, Clone, ClapArgs)]
pub struct RunArgs {
    /// Who this workload is.
    #[command(flatten)]
    pub workload: WorkloadArgs,
    /// Worker threads; one a core by default
    #[arg(long, env = "WEFT_WORKERS", value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub workers: Option<u16>,
    /// Where the admin endpoints listen; 127.0.0.1:15000 unless the bootstrap says otherwise
    #[arg(long, env = "WEFT_ADMIN_LISTEN", value_name = "IP:PORT")]
    pub admin_listen: Option<SocketAddr>,
    /// Envoy v3 bootstrap, YAML or JSON, in place of joining
    #[arg(short = 'c', long, env = "WEFT_CONFIG_PATH", value_name = "FILE")]
    pub config_path: Option<PathBuf>,
}

/// `weft-proxy health`.
#[derive(Debug, Clone, ClapArgs)]
pub struct HealthArgs {
    /// Its admin endpoint
    #[arg(long, env = "WEFT_ADMIN_LISTEN", value_name = "IP:PORT", default_value = "127.0.0.1:15000")]
    pub admin: SocketAddr,
    /// Ask nobody, but look whether the identity in this directory is there and holds: before a proxy runs beside it
    #[arg(long, value_name = "DIR")]
    pub identity_dir: Option<PathBuf>,
}

/// `weft-proxy join`.
#[derive(Debug, Clone, ClapArgs)]
pub struct JoinArgs {
    /// Who this workload is.
    #[command(flatten)]
    pub workload: WorkloadArgs,
    /// Stay, renew the identity in time, and say goodbye at the end
    #[arg(long, env = "WEFT_KEEP")]
    pub keep: bool,
    /// Where the Envoy beside this process has its admin endpoint (told to the control plane only)
    #[arg(long, env = "WEFT_ADMIN_LISTEN", value_name = "IP:PORT")]
    pub admin_listen: Option<SocketAddr>,
}

/// How a workload joins and what it declares of itself.
#[derive(Debug, Clone, ClapArgs)]
pub struct WorkloadArgs {
    /// The token, where one is needed.
    #[command(flatten)]
    pub token: TokenSource,
    /// Where xDS is, each replica; the token says it too
    #[arg(long, env = "WEFT_CONTROL_PLANE", value_name = "HOST:PORT[,HOST:PORT…]")]
    pub control_plane: Option<ControlPlanes>,
    /// Where key, certificate, bundle and the last good configuration are kept
    #[arg(long, env = "WEFT_IDENTITY_DIR", value_name = "DIR", default_value = "./weft-identity")]
    pub identity_dir: PathBuf,
    /// Where the application listens, for each service port
    #[arg(long = "app-port", env = "WEFT_APP_PORT", value_name = "NAME=PORT", value_delimiter = ',')]
    pub app_ports: Vec<AppPort>,
    /// Address that others reach this workload on; that of the route to the control plane by default
    #[arg(long, env = "WEFT_ADDRESS", value_name = "IP")]
    pub address: Option<IpAddr>,
    /// Name of the workload; SERVICE-HOSTNAME by default
    #[arg(long, env = "WEFT_NAME", value_name = "NAME")]
    pub name: Option<String>,
    /// Label of the workload, where the token permits it
    #[arg(long = "label", env = "WEFT_LABEL", value_name = "K=V", value_delimiter = ',')]
    pub labels: Vec<Label>,
    /// Region and zone of the workload
    #[arg(long, env = "WEFT_LOCALITY", value_name = "REGION/ZONE")]
    pub locality: Option<LocalityFlag>,
    /// Only call others: peers are never told of this workload, and it has no listener for them
    #[arg(long, env = "WEFT_CLIENT", conflicts_with_all = ["app_ports", "inbound"])]
    pub client: bool,
    /// TCP service that gets a local port
    #[arg(
        long = "upstream",
        env = "WEFT_UPSTREAM",
        value_name = "NS/SERVICE:PORT=IP:PORT",
        value_delimiter = ','
    )]
    pub upstreams: Vec<UpstreamBinding>,
    /// Where the listener for other workloads binds
    #[arg(long, env = "WEFT_INBOUND", value_name = "IP:PORT", default_value = "0.0.0.0:15006")]
    pub inbound: SocketAddr,
    /// Where the listener for the application's requests binds
    #[arg(long, env = "WEFT_OUTBOUND", value_name = "IP:PORT", default_value = "127.0.0.1:15001")]
    pub outbound: SocketAddr,
    /// Directory that access logs with sink File are written into, and nothing outside of it; standard output takes them by
    /// default
    #[arg(long, env = "WEFT_ACCESS_LOG_DIR", value_name = "DIR")]
    pub access_log_dir: Option<PathBuf>,
}

impl Args {
    /// Reads a command line, with the file that it names.
    ///
    /// # Errors
    /// When a flag, its environment variable or the file is wrong; the message names it.
    pub fn try_read<I, T>(given: I) -> Result<Self, UsageError>
    where
        I: IntoIterator<Item = T>,
        T: Into<OsString>,
    {
        weft_api::flags::try_read(given)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory as _;
    use std::io::Write as _;

    fn run(args: &[&str]) -> Result<RunArgs, UsageError> {
        match Args::try_read(args)?.command {
            Command::Run(run) => Ok(*run),
            Command::Join(_) | Command::Health(_) => panic!("these tests run `run`"),
        }
    }

    fn file(text: &str) -> tempfile::NamedTempFile {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(text.as_bytes()).unwrap();
        file
    }

    #[test]
    fn the_command_line_is_consistent() {
        Args::command().debug_assert();
    }

    /// What systemd starts is told by its environment alone.
    #[test]
    fn every_flag_of_a_service_has_its_variable() {
        let command = Args::command();
        for name in ["run", "join"] {
            let flags = command.find_subcommand(name).unwrap().get_arguments();
            // A token has a variable of its own, WEFT_JOIN, which is not shown in `--help`.
            for flag in flags.filter(|flag| flag.get_id() != "join") {
                let variable = flag.get_env().unwrap_or_default().to_string_lossy().into_owned();
                assert!(variable.starts_with("WEFT_"), "{name} {}: {variable:?}", flag.get_id());
            }
        }
    }

    #[test]
    fn defaults_are_the_documented_ones() {
        let run = run(&["weft-proxy", "run"]).unwrap();
        assert_eq!(run.workload.inbound.to_string(), "0.0.0.0:15006");
        assert_eq!(run.workload.outbound.to_string(), "127.0.0.1:15001");
        assert_eq!(run.admin_listen, None);
    }

    #[test]
    fn the_file_fills_what_the_command_line_leaves_open() {
        let file =
            file("outbound: 127.0.0.9:1\ninbound: 127.0.0.9:2\napp-port: {http: 8080}\nlabel: [a=b, c=d]\n");
        let path = file.path().to_str().unwrap();
        let run = run(&["weft-proxy", "run", "--inbound", "127.0.0.1:9", "--config", path]).unwrap();
        assert_eq!(run.workload.inbound.to_string(), "127.0.0.1:9");
        assert_eq!(run.workload.outbound.to_string(), "127.0.0.9:1");
        assert_eq!(run.workload.app_ports[0].port, 8080);
        assert_eq!(run.workload.labels.len(), 2);
    }

    #[test]
    fn a_bad_entry_of_the_file_is_named() {
        for (text, named) in [
            ("inbuond: x\n", "inbuond"),
            ("inbound: nowhere\n", "inbound"),
            ("workers: 0\n", "workers"),
            ("- a\n", "mapping"),
            ("a: b: c\n", "mapping values"),
        ] {
            let file = file(text);
            let path = file.path().to_str().unwrap();
            let error = run(&["weft-proxy", "run", "--config", path]).unwrap_err();
            assert_eq!(error.exit_status(), EX_USAGE);
            let shown = error.to_string();
            assert!(shown.contains(named) && shown.contains(path), "{text}: {shown}");
        }
    }

    #[test]
    fn a_bad_flag_exits_64_and_is_named() {
        for (args, named) in [
            (vec!["weft-proxy", "run", "--app-port", "http"], "--app-port"),
            (vec!["weft-proxy", "run", "--label", "=v"], "--label"),
            (vec!["weft-proxy", "run", "--upstream", "db:5432=127.0.0.1:1"], "--upstream"),
            (vec!["weft-proxy", "run", "--nonsense"], "--nonsense"),
            (vec!["weft-proxy", "run", "--client", "--app-port", "http=8080"], "--app-port"),
            (vec!["weft-proxy", "join", "--client", "--inbound", "127.0.0.1:9"], "--inbound"),
        ] {
            let error = run(&args).unwrap_err();
            assert_eq!(error.exit_status(), EX_USAGE);
            assert!(error.to_string().contains(named), "{error}");
        }
    }

    #[test]
    fn help_exits_zero() {
        assert_eq!(run(&["weft-proxy", "run", "--help"]).unwrap_err().exit_status(), 0);
    }
}
