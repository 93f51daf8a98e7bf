//! Command line of `weft run`, and how it becomes the sidecar's.

use std::ffi::OsString;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use clap::Args as ClapArgs;
use weft_api::flags::TokenSource;
use weft_api::{ControlPlanes, Name, ServiceId};

#[derive(Debug, ClapArgs)]
#[command(after_help = "Examples:
  weft run --service shop/cart --app-port http=8080 -- ./cart --verbose
  weft run --join-file cart.token --app-port http=8080 -- ./cart")]
pub struct Run {
    /// Service that the workload belongs to; a token is made for it, unless one is given
    #[arg(long, env = "WEFT_SERVICE", value_name = "NAMESPACE/SERVICE")]
    pub service: Option<ServiceId>,
    /// A token that was made elsewhere, in place of an operator's.
    #[command(flatten)]
    pub token: TokenSource,
    #[command(flatten)]
    pub sidecar: SidecarFlags,
    /// At the end: how long requests under way may take before the application is told
    #[arg(long, env = "WEFT_DRAIN_TIME", value_name = "DURATION", default_value = "5s",
        value_parser = humantime::parse_duration)]
    pub drain_time: Duration,
    /// The application and its arguments
    #[arg(last = true, required = true, value_name = "COMMAND")]
    pub command: Vec<OsString>,
}

/// Flags of `weft-proxy run`, which is who reads most of their values.
#[derive(Debug, Clone, Default, ClapArgs)]
#[command(next_help_heading = "Sidecar")]
pub struct SidecarFlags {
    /// Where the application listens, for each service port
    #[arg(long = "app-port", env = "WEFT_APP_PORT", value_name = "NAME=PORT", value_delimiter = ',')]
    pub app_ports: Vec<String>,
    /// Name of the workload; SERVICE-HOSTNAME by default
    #[arg(long, env = "WEFT_NAME")]
    pub name: Option<Name>,
    /// Address that others reach this workload on; that of the route to the control plane by default. One of 127/8 is
    /// where the sidecar listens, too: several share a machine so
    #[arg(long, env = "WEFT_ADDRESS", value_name = "IP")]
    pub address: Option<IpAddr>,
    /// Where the listener for other workloads binds; 0.0.0.0:15006 by default
    #[arg(long, env = "WEFT_INBOUND", value_name = "IP:PORT")]
    pub inbound: Option<SocketAddr>,
    /// Where the listener for the application's requests binds; 127.0.0.1:15001 by default
    #[arg(long, env = "WEFT_OUTBOUND", value_name = "IP:PORT")]
    pub outbound: Option<SocketAddr>,
    /// Where its admin endpoints listen; 127.0.0.1:15000 by default
    #[arg(long, env = "WEFT_ADMIN_LISTEN", value_name = "IP:PORT")]
    pub admin_listen: Option<SocketAddr>,
    /// TCP service that gets a local port
    #[arg(
        long = "upstream",
        env = "WEFT_UPSTREAM",
        value_name = "NS/SERVICE:PORT=IP:PORT",
        value_delimiter = ','
    )]
    pub upstreams: Vec<String>,
    /// Label of the workload, where the token permits it
    #[arg(long = "label", env = "WEFT_LABEL", value_name = "K=V", value_delimiter = ',')]
    pub labels: Vec<String>,
    /// Region and zone of the workload
    #[arg(long, env = "WEFT_LOCALITY", value_name = "REGION/ZONE")]
    pub locality: Option<String>,
    /// Directory that access logs with sink File are written into; standard output takes them by default
    #[arg(long, env = "WEFT_ACCESS_LOG_DIR", value_name = "DIR")]
    pub access_log_dir: Option<PathBuf>,
    /// Where xDS is, each replica; the token says it by default
    #[arg(long, env = "WEFT_CONTROL_PLANE", value_name = "HOST:PORT[,HOST:PORT…]")]
    pub control_plane: Option<ControlPlanes>,
    /// Keep the identity here, for the next start; it is forgotten at the end by default
    #[arg(long, env = "WEFT_IDENTITY_DIR", value_name = "DIR")]
    pub identity_dir: Option<PathBuf>,
    /// Worker threads; one a core by default
    #[arg(long, env = "WEFT_WORKERS", value_name = "N")]
    pub workers: Option<u16>,
    /// Level of the sidecar's log, or a filter such as `info,weft_dataplane=debug`; `warn` by default
    #[arg(long, env = "WEFT_LOG", value_name = "FILTER")]
    pub log: Option<String>,
}

impl SidecarFlags {
    /// Where others reach the workload.
    pub fn inbound(&self) -> SocketAddr {
        self.inbound
            .unwrap_or_else(|| (self.own_loopback().unwrap_or(Ipv4Addr::UNSPECIFIED.into()), 15_006).into())
    }

    /// Where the application reaches others.
    pub fn outbound(&self) -> SocketAddr {
        self.outbound.unwrap_or_else(|| self.on_loopback(15_001))
    }

    /// Where the sidecar is asked how it is.
    pub fn admin(&self) -> SocketAddr {
        self.admin_listen.unwrap_or_else(|| self.on_loopback(15_000))
    }

    fn on_loopback(&self, port: u16) -> SocketAddr {
        (self.own_loopback().unwrap_or(Ipv4Addr::LOCALHOST.into()), port).into()
    }

    fn own_loopback(&self) -> Option<IpAddr> {
        self.address.filter(IpAddr::is_loopback)
    }

    /// As `weft-proxy run` takes them, but for what says where the identity is kept and what is logged.
    pub fn flags(&self) -> Vec<String> {
        let always = [
            ("--inbound", self.inbound().to_string()),
            ("--outbound", self.outbound().to_string()),
            ("--admin-listen", self.admin().to_string()),
        ];
        let given = [
            ("--name", self.name.as_ref().map(ToString::to_string)),
            ("--address", self.address.map(|address| address.to_string())),
            ("--locality", self.locality.clone()),
            ("--control-plane", self.control_plane.as_ref().map(ToString::to_string)),
            ("--access-log-dir", self.access_log_dir.as_ref().map(|dir| dir.display().to_string())),
            ("--workers", self.workers.map(|count| count.to_string())),
        ];
        let given = given.into_iter().filter_map(|(flag, value)| Some((flag, value?)));
        let many =
            [("--app-port", &self.app_ports), ("--upstream", &self.upstreams), ("--label", &self.labels)];
        let many =
            many.into_iter().flat_map(|(flag, values)| values.iter().map(move |value| (flag, value.clone())));
        always.into_iter().chain(given).chain(many).map(|(flag, value)| format!("{flag}={value}")).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::args::{Args, Command};

    fn run(words: &[&str]) -> Run {
        let words = ["weft", "run", "--service", "shop/web"].iter().chain(words);
        match weft_api::flags::try_read::<Args, _, _>(words).unwrap().command {
            Command::Run(run) => *run,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn what_stands_behind_the_dashes_is_the_applications() {
        let run = run(&["--name", "web-1", "--", "./web", "--name", "x", "--", "--port", "80"]);
        assert_eq!(run.command, ["./web", "--name", "x", "--", "--port", "80"]);
        assert_eq!(run.sidecar.name.unwrap().as_str(), "web-1");
    }

    #[test]
    fn file_of_flags_says_nothing_to_the_application() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "workers: 2\napp-port: {http: 8080}\n").unwrap();
        let run = run(&["--config", file.path().to_str().unwrap(), "--", "./web", "-v"]);
        assert_eq!(run.command, ["./web", "-v"]);
        assert_eq!((run.sidecar.workers, run.sidecar.app_ports), (Some(2), vec!["http=8080".to_owned()]));
    }

    #[test]
    fn sidecars_of_one_machine_listen_on_the_addresses_of_their_own() {
        let alone = run(&["--", "./web"]).sidecar;
        assert_eq!(alone.inbound().to_string(), "0.0.0.0:15006");
        assert_eq!(alone.outbound().to_string(), "127.0.0.1:15001");
        let second = run(&["--address", "127.0.0.2", "--outbound", "127.0.0.9:1", "--", "./web"]).sidecar;
        assert_eq!(second.inbound().to_string(), "127.0.0.2:15006");
        assert_eq!(second.outbound().to_string(), "127.0.0.9:1");
        assert_eq!(second.admin().to_string(), "127.0.0.2:15000");
        let elsewhere = run(&["--address", "10.0.0.2", "--", "./web"]).sidecar;
        assert_eq!(elsewhere.inbound().to_string(), "0.0.0.0:15006");
        assert!(elsewhere.flags().contains(&"--address=10.0.0.2".to_owned()));
    }
}
