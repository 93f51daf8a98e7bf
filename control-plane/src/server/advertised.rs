//! How this control plane is reached: where it listens, and what it tells others of that.
//!
//! ```text
//! --advertise HOST[:PORT]   this replica ──┐
//!                                          ├──▶ public ──▶ tokens, bootstraps
//! --public HOST:PORT[,…]    all replicas ──┘        └────▶ names in the server certificate
//! ```
//!
//! A bind address is never told: who listens on all addresses has to say under which one others find it.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use weft_api::flags::UsageError;
use weft_api::{ControlPlanes, Host, HostPort, host_and_port};

use crate::args::Args;
use crate::ca::ServerName;

/// Port of xDS and join.
pub const XDS_PORT: u16 = 7401;

/// What the flags say about reaching this control plane. Checked when it is made.
#[derive(Debug, Clone)]
pub struct Advertised {
    /// Where xDS and join listen.
    pub xds_listen: SocketAddr,
    advertise: Option<AdvertisedAddress>,
    public: Vec<AdvertisedAddress>,
    names: Vec<ServerName>,
}

type AdvertisedAddress = (Host, Option<u16>);

impl Advertised {
    /// Reads and checks the flags.
    ///
    /// # Errors
    /// When an address cannot be read or connected to, or others could not be told how to reach a listener.
    pub fn of(args: &Args) -> Result<Self, UsageError> {
        let advertise = match &args.advertise {
            Some(text) => Some(parse_address("--advertise", text)?),
            None => None,
        };
        let public =
            args.public.iter().map(|text| parse_address("--public", text)).collect::<Result<Vec<_>, _>>()?;
        let xds_listen = args.xds_listen.unwrap_or_else(|| default_listen(advertise.as_ref()));
        if advertise.is_none() && public.is_empty() {
            reachable_as_it_is("--xds-listen", xds_listen)?;
            reachable_as_it_is("--api-listen", args.api_listen)?;
        }
        let name = |text: &String| {
            ServerName::try_new(text).map_err(|reason| UsageError::Flag { flag: "--xds-name", reason })
        };
        let names = args.xds_names.iter().map(name).collect::<Result<Vec<_>, _>>()?;
        let reach = Self { xds_listen, advertise, public, names };
        // The most that a list may hold is found here, and not when the first token is made.
        reach.control_planes(xds_listen.port())?;
        Ok(reach)
    }

    /// Where workloads are sent to. `xds` is the address that the listener got.
    #[must_use]
    pub fn public(&self, xds: SocketAddr) -> ControlPlanes {
        let own = || HostPort { host: Host::Ip(xds.ip()), port: xds.port() }.into();
        self.control_planes(xds.port()).ok().flatten().unwrap_or_else(own)
    }

    /// All that is known of where control planes are reached: the replicas, and this one's API.
    #[must_use]
    pub fn everywhere(&self, xds: SocketAddr, api: SocketAddr) -> Vec<HostPort> {
        let own_api = HostPort { host: self.own_name(api).host, port: api.port() };
        self.public(xds).iter().cloned().chain([own_api]).collect()
    }

    /// How other replicas, logs and people name this one.
    #[must_use]
    pub fn own_name(&self, xds: SocketAddr) -> HostPort {
        let with_port = |(host, port): &AdvertisedAddress| HostPort {
            host: host.clone(),
            port: port.unwrap_or(xds.port()),
        };
        let first = self.advertise.as_ref().or(self.public.first());
        first.map_or(HostPort { host: Host::Ip(xds.ip()), port: xds.port() }, with_port)
    }

    /// Where other replicas reach this one. `--public` may stand for all of them, behind a balancer, so that it says nothing
    /// of this one where anything else does.
    #[must_use]
    pub fn for_replicas(&self, xds: SocketAddr) -> HostPort {
        match &self.advertise {
            Some((host, port)) => HostPort { host: host.clone(), port: port.unwrap_or(xds.port()) },
            None if xds.ip().is_unspecified() => self.own_name(xds),
            None => HostPort { host: Host::Ip(xds.ip()), port: xds.port() },
        }
    }

    /// Where operators on other machines find this replica's API; none where it is for this machine only.
    #[must_use]
    pub fn api_from_elsewhere(&self, api: SocketAddr) -> Option<String> {
        if api.ip().is_loopback() {
            return None;
        }
        let host = self.own_name(api).host;
        Some(format!("https://{}", HostPort { host, port: api.port() }))
    }

    /// What the server certificate is for: what is listened on, what others are told, and what was asked for.
    #[must_use]
    pub fn server_names(&self, listeners: &[SocketAddr]) -> Vec<ServerName> {
        let mut names = vec![ServerName::Dns("localhost".to_owned())];
        names.push(ServerName::Ip(Ipv4Addr::LOCALHOST.into()));
        names.push(ServerName::Ip(Ipv6Addr::LOCALHOST.into()));
        let specified = listeners.iter().map(SocketAddr::ip).filter(|ip| !ip.is_unspecified());
        names.extend(specified.map(ServerName::Ip));
        names.extend(self.advertise.iter().chain(&self.public).map(|(host, _)| match host {
            Host::Name(name) => ServerName::Dns(name.clone()),
            Host::Ip(ip) => ServerName::Ip(*ip),
        }));
        names.extend(self.names.iter().cloned());
        names.sort();
        names.dedup();
        names
    }

    fn control_planes(&self, port: u16) -> Result<Option<ControlPlanes>, UsageError> {
        let addresses = if self.public.is_empty() { self.advertise.as_slice() } else { &self.public };
        if addresses.is_empty() {
            return Ok(None);
        }
        let with_port =
            addresses.iter().map(|(host, own)| HostPort { host: host.clone(), port: own.unwrap_or(port) });
        match ControlPlanes::try_new(with_port.collect()) {
            Ok(replicas) => Ok(Some(replicas)),
            Err(error) => Err(UsageError::Flag { flag: "--public", reason: error.to_string() }),
        }
    }
}

fn parse_address(flag: &'static str, text: &str) -> Result<AdvertisedAddress, UsageError> {
    let wrong = |reason| UsageError::Flag { flag, reason };
    let (host, port) = host_and_port(text).map_err(|error| wrong(error.to_string()))?;
    if host.is_unspecified() {
        return Err(wrong(format!(
            "{text} stands for all addresses of a machine and nobody can connect to it; give the name or address \
             that others use"
        )));
    }
    Ok((host, port))
}

fn default_listen(advertise: Option<&AdvertisedAddress>) -> SocketAddr {
    let ip = match advertise {
        None => IpAddr::from(Ipv4Addr::LOCALHOST),
        Some((Host::Ip(IpAddr::V6(_)), _)) => Ipv6Addr::UNSPECIFIED.into(),
        Some((Host::Ip(IpAddr::V4(_)) | Host::Name(_), _)) => Ipv4Addr::UNSPECIFIED.into(),
    };
    (ip, XDS_PORT).into()
}

fn reachable_as_it_is(flag: &'static str, address: SocketAddr) -> Result<(), UsageError> {
    if address.ip().is_loopback() {
        return Ok(());
    }
    let reason = format!(
        "{address} is for other machines, and tokens, bootstraps and certificates have to say how they reach this one: \
         give --advertise HOST[:PORT] with this machine's name or address, or --public HOST:PORT[,HOST:PORT…] with \
         those of all replicas"
    );
    Err(UsageError::Flag { flag, reason })
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;

    fn reach(flags: &[&str]) -> Result<Advertised, String> {
        let args = Args::try_parse_from(["weft-control-plane"].iter().chain(flags)).unwrap();
        Advertised::of(&args).map_err(|error| error.to_string())
    }

    fn bound(text: &str) -> SocketAddr {
        text.parse().unwrap()
    }

    #[test]
    fn without_flags_it_is_for_this_machine_only() {
        let reach = reach(&[]).unwrap();
        assert_eq!(reach.xds_listen, bound("127.0.0.1:7401"));
        assert_eq!(reach.public(reach.xds_listen).to_string(), "127.0.0.1:7401");
    }

    #[test]
    fn advertise_opens_the_xds_listener_and_is_what_others_are_told() {
        for (host, listen, expected) in [
            ("10.0.0.1", "0.0.0.0:7401", "10.0.0.1:7401"),
            ("mesh.example:443", "0.0.0.0:7401", "mesh.example:443"),
            ("[2001:db8::1]", "[::]:7401", "[2001:db8::1]:7401"),
        ] {
            let reach = reach(&["--advertise", host]).unwrap();
            assert_eq!(reach.xds_listen, bound(listen));
            assert_eq!(reach.public(reach.xds_listen).to_string(), expected);
        }
    }

    #[test]
    fn listener_that_is_given_stays_as_it_is() {
        let flags = ["--advertise", "mesh.example", "--xds-listen", "127.0.0.1:9401"];
        let reach = reach(&flags).unwrap();
        assert_eq!(reach.xds_listen, bound("127.0.0.1:9401"));
        assert_eq!(reach.public(reach.xds_listen).to_string(), "mesh.example:9401");
    }

    #[test]
    fn others_are_told_of_all_replicas() {
        let flags = ["--advertise", "10.0.0.2", "--public", "10.0.0.1,10.0.0.2:7401,mesh.example:9"];
        let reach = reach(&flags).unwrap();
        let public = reach.public(reach.xds_listen).to_string();
        assert_eq!(public, "10.0.0.1:7401,10.0.0.2:7401,mesh.example:9");
        assert_eq!(reach.own_name(reach.xds_listen).to_string(), "10.0.0.2:7401");
    }

    #[test]
    fn replicas_reach_each_other_and_not_whoever_a_balancer_chooses() {
        for (flags, reached) in [
            (&["--advertise", "10.0.0.2", "--public", "mesh.example"][..], "10.0.0.2:7401"),
            (&["--xds-listen", "10.0.0.3:9401", "--public", "mesh.example"], "10.0.0.3:9401"),
            (&["--xds-listen", "0.0.0.0:9401", "--public", "a.example:9,b.example:9"], "a.example:9"),
            (&[], "127.0.0.1:7401"),
        ] {
            let reach = reach(flags).unwrap();
            assert_eq!(reach.for_replicas(reach.xds_listen).to_string(), reached, "{flags:?}");
        }
    }

    #[test]
    fn operators_elsewhere_use_the_name_of_this_replica() {
        let flags =
            ["--advertise", "10.0.0.2:9401", "--public", "mesh.example", "--api-listen", "0.0.0.0:7400"];
        let reach = reach(&flags).unwrap();
        assert_eq!(reach.api_from_elsewhere(bound("0.0.0.0:7400")).unwrap(), "https://10.0.0.2:7400");
        assert_eq!(reach.api_from_elsewhere(bound("127.0.0.1:7400")), None);
    }

    #[test]
    fn certificate_names_what_others_use_and_what_is_bound() {
        let reach =
            reach(&["--advertise", "10.0.0.2", "--public", "mesh.example:9", "--xds-name", "b.example"]);
        let names = reach.unwrap().server_names(&[bound("0.0.0.0:7401"), bound("10.0.0.9:7400")]);
        for name in ["localhost", "127.0.0.1", "10.0.0.2", "mesh.example", "b.example", "10.0.0.9"] {
            assert!(names.contains(&ServerName::try_new(name).unwrap()), "{name}: {names:?}");
        }
        assert!(!names.contains(&ServerName::try_new("0.0.0.0").unwrap()));
    }

    #[test]
    fn listening_for_other_machines_wants_to_know_how_they_get_here() {
        for flags in [
            ["--xds-listen", "0.0.0.0:7401"],
            ["--xds-listen", "10.0.0.1:7401"],
            ["--api-listen", "[::]:7400"],
        ] {
            let refused = reach(&flags).unwrap_err();
            assert!(refused.contains(flags[0]) && refused.contains(flags[1]), "{refused}");
            assert!(refused.contains("--advertise") && refused.contains("--public"), "{refused}");
            assert!(reach(&[flags[0], flags[1], "--advertise", "a.example"]).is_ok());
            assert!(reach(&[flags[0], flags[1], "--public", "a.example:1"]).is_ok());
        }
    }

    #[test]
    fn bind_address_is_never_told() {
        for (flag, value) in [
            ("--advertise", "0.0.0.0"),
            ("--advertise", "[::]:7401"),
            ("--public", "a.example:1,0.0.0.0:7401"),
            ("--public", "http://a.example"),
        ] {
            let refused = reach(&[flag, value]).unwrap_err();
            assert!(refused.contains(flag), "{refused}");
        }
    }
}
