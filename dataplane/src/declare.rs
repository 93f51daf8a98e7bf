//! What a workload says about itself when it joins, and what is filled in where nobody said it.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::Path;

use data_encoding::HEXLOWER;
use sha2::{Digest as _, Sha256};
use tokio::net::UdpSocket;
use weft_api::join::{ProxyType, Upstream, Workload};
use weft_api::{ControlPlanes, HostPort, Name, ServiceId};

use crate::args::{UpstreamBinding, UsageError, WorkloadArgs};
use crate::reserve::OwnListeners;

const MAX_NAME: usize = 63;
/// Hexadecimal digits of the hash that stands for what a name has no room for.
const HASH_DIGITS: usize = 8;

/// What is said, but for the address, which may have to wait for a route to the control plane.
#[derive(Debug)]
pub struct Declaration {
    name: Name,
    address: Option<IpAddr>,
    args: WorkloadArgs,
    proxy: ProxyType,
    /// Absolute, as it is told.
    access_log_dir: Option<String>,
}

/// There is no way to the control plane now.
#[derive(Debug, thiserror::Error)]
#[error(
    "no route to the control plane, which would say this workload's address ({0}); give it with --address IP"
)]
pub struct NoRoute(String);

impl Declaration {
    /// Checks what the flags say. `service` is whom the token is for, where it says that.
    ///
    /// # Errors
    /// When a flag cannot be meant, or a name is needed and cannot be made.
    pub fn try_new(
        args: &WorkloadArgs,
        proxy: ProxyType,
        service: Option<&ServiceId>,
    ) -> Result<Self, UsageError> {
        let wrong = |flag, reason: String| UsageError::Flag { flag, reason };
        let fixed = [("--inbound", args.inbound), ("--outbound", args.outbound)];
        let upstreams = args.upstreams.iter().map(|upstream| ("--upstream", upstream.listen));
        for (flag, address) in fixed.into_iter().chain(upstreams) {
            if address.port() == 0 {
                return Err(wrong(flag, format!("{address} has no port; others have to know it")));
            }
        }
        if let Some(address) = args.address.filter(IpAddr::is_unspecified) {
            let reason = format!("{address} is where one listens; give the address that others connect to");
            return Err(wrong("--address", reason));
        }
        let name = match &args.name {
            Some(name) => Name::try_new(name).map_err(|error| wrong("--name", error.to_string()))?,
            None => default_name(service, &host_name())
                .ok_or_else(|| wrong("--name", "the host has no name; give the workload one".to_owned()))?,
        };
        let access_log_dir = args.access_log_dir.as_deref().map(log_dir).transpose();
        let access_log_dir = access_log_dir.map_err(|reason| wrong("--access-log-dir", reason))?;
        Ok(Self { name, address: args.address, args: args.clone(), proxy, access_log_dir })
    }

    /// The address that others reach this workload on: as given, else the one that the control plane sees.
    ///
    /// # Errors
    /// When there is no route to any of its replicas, or their names cannot be resolved.
    pub async fn address(&self, control_planes: &ControlPlanes) -> Result<IpAddr, NoRoute> {
        match self.address {
            Some(address) => Ok(address),
            None => facing(control_planes).await,
        }
    }

    /// Where the sidecar of a workload with this address listens.
    #[must_use]
    pub fn listeners(&self, address: IpAddr) -> OwnListeners {
        OwnListeners {
            address,
            inbound: self.inbound(address),
            outbound: self.args.outbound,
            upstreams: self.args.upstreams.iter().map(|upstream| upstream.listen).collect(),
        }
    }

    /// Where it listens for others, unless it only calls them.
    fn inbound(&self, address: IpAddr) -> Option<SocketAddr> {
        (!self.args.client).then(|| inbound(self.args.inbound, address))
    }

    /// All of it, as the join protocol carries it.
    #[must_use]
    pub fn workload(&self, address: IpAddr) -> Workload {
        let args = &self.args;
        let upstream = |given: &UpstreamBinding| Upstream {
            service: given.service.to_string(),
            port: given.port.clone(),
            bind: given.listen.to_string(),
        };
        let locality = args.locality.as_ref();
        Workload {
            name: self.name.to_string(),
            address: address.to_string(),
            app_ports: args.app_ports.iter().map(|port| (port.name.clone(), port.port.into())).collect(),
            labels: args.labels.iter().map(|label| (label.key.clone(), label.value.clone())).collect(),
            region: locality.map(|locality| locality.region.clone()).unwrap_or_default(),
            zone: locality.map(|locality| locality.zone.clone()).unwrap_or_default(),
            upstreams: args.upstreams.iter().map(upstream).collect(),
            proxy_type: self.proxy.into(),
            inbound: self.inbound(address).map(|inbound| inbound.to_string()).unwrap_or_default(),
            outbound: args.outbound.to_string(),
            client: args.client,
            access_log_dir: self.access_log_dir.clone().unwrap_or_default(),
        }
    }
}

/// All addresses of IPv4 are none of a workload that is reached by IPv6: it listens on those of IPv6 then.
fn inbound(given: SocketAddr, address: IpAddr) -> SocketAddr {
    match (given.ip(), address) {
        (IpAddr::V4(Ipv4Addr::UNSPECIFIED), IpAddr::V6(_)) => (Ipv6Addr::UNSPECIFIED, given.port()).into(),
        _ => given,
    }
}

/// The directory by its whole name, links resolved: what the control plane names a file below must be what is meant here. A
/// proxy refuses a file that it cannot open, and with it the listener.
fn log_dir(given: &Path) -> Result<String, String> {
    let whole = given.canonicalize().map_err(|error| format!("{}: {error}", given.display()))?;
    if !whole.is_dir() {
        return Err(format!("{} is no directory", given.display()));
    }
    whole.into_os_string().into_string().map_err(|_| format!("{} is not UTF-8", given.display()))
}

fn host_name() -> String {
    std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default()
}

/// `SERVICE-HOSTNAME`: the first label of the host's name, made valid. What is too long is cut, and ends in a hash of
/// the whole, so that names that begin alike stay apart. Tokens of earlier versions tell no service: HOSTNAME alone.
fn default_name(service: Option<&ServiceId>, host: &str) -> Option<Name> {
    let label = host.trim().split('.').next().unwrap_or_default().to_ascii_lowercase();
    let label: String = label.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '-' }).collect();
    let label = label.trim_matches('-');
    if label.is_empty() {
        return None;
    }
    let whole = service.map_or_else(|| label.to_owned(), |service| format!("{}-{label}", service.name));
    if whole.len() <= MAX_NAME {
        return Name::try_new(&whole).ok();
    }
    let hash = HEXLOWER.encode(&Sha256::digest(&whole));
    let kept = whole[..MAX_NAME - 1 - HASH_DIGITS].trim_end_matches('-');
    Name::try_new(&format!("{kept}-{}", &hash[..HASH_DIGITS])).ok()
}

/// The source address of the route to the control plane. Nothing is sent.
async fn facing(control_planes: &ControlPlanes) -> Result<IpAddr, NoRoute> {
    let mut said = Vec::new();
    for replica in control_planes {
        match source_towards(replica).await {
            Ok(address) => return Ok(address),
            Err(error) => said.push(format!("{replica}: {error}")),
        }
    }
    Err(NoRoute(said.join("; ")))
}

async fn source_towards(replica: &HostPort) -> std::io::Result<IpAddr> {
    let mut last = std::io::Error::other("the name has no address");
    for target in tokio::net::lookup_host((replica.host.bare(), replica.port)).await? {
        let any: IpAddr =
            if target.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
        let socket = UdpSocket::bind((any, 0)).await?;
        match socket.connect(target).await.and_then(|()| socket.local_addr()) {
            Ok(local) => return Ok(local.ip()),
            Err(error) => last = error,
        }
    }
    Err(last)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::args::{Args, Command};

    fn declared(flags: &[&str]) -> Result<Declaration, String> {
        let given = ["weft-proxy", "run"].iter().chain(flags).copied();
        let Command::Run(run) = Args::try_read(given).unwrap().command else { unreachable!("run was given") };
        let service = "shop/web".parse().unwrap();
        Declaration::try_new(&run.workload, ProxyType::Weft, Some(&service))
            .map_err(|error| error.to_string())
    }

    #[test]
    fn a_workload_declares_what_the_flags_say() {
        let flags = [
            "--name",
            "web-1",
            "--app-port",
            "http=8080",
            "--label",
            "version=v2",
            "--locality",
            "eu/a",
            "--upstream",
            "shop/db:tcp=127.0.0.1:5432",
        ];
        let workload = declared(&flags).unwrap().workload([10, 0, 0, 7].into());
        assert_eq!((workload.name.as_str(), workload.address.as_str()), ("web-1", "10.0.0.7"));
        assert_eq!(workload.app_ports["http"], 8080);
        assert_eq!(workload.labels["version"], "v2");
        assert_eq!((workload.region.as_str(), workload.zone.as_str()), ("eu", "a"));
        assert_eq!(workload.upstreams[0].service, "shop/db");
        assert_eq!(workload.inbound, "0.0.0.0:15006");
    }

    #[test]
    fn name_is_the_service_and_the_host_made_valid() {
        let service: ServiceId = "shop/web".parse().unwrap();
        for (host, name) in
            [("vm-7", "web-vm-7"), ("VM_7.example.com\n", "web-vm-7"), ("-a-", "web-a"), ("ü1", "web-1")]
        {
            assert_eq!(default_name(Some(&service), host).unwrap().as_str(), name);
        }
        assert_eq!(default_name(None, "vm-7").unwrap().as_str(), "vm-7");
        assert_eq!(default_name(Some(&service), "---.x"), None);
    }

    #[test]
    fn long_names_are_cut_and_stay_apart() {
        let service: ServiceId = format!("shop/{}", "s".repeat(60)).parse().unwrap();
        let name = |host| default_name(Some(&service), host).unwrap();
        assert_ne!(name("vm-1"), name("vm-2"));
        assert!(name("vm-1").as_str().len() <= 63);
        assert_eq!(name("vm-1"), name("vm-1"));
    }

    #[tokio::test]
    async fn address_is_that_of_the_route_to_the_control_plane() {
        let declared = declared(&[]).unwrap();
        let control_planes = "127.0.0.9:7401".parse().unwrap();
        assert!(declared.address(&control_planes).await.unwrap().is_loopback());
        let nowhere = "name.invalid:7401,127.0.0.9:7401".parse().unwrap();
        assert!(declared.address(&nowhere).await.unwrap().is_loopback(), "another replica will do");
        let error = declared.address(&"name.invalid:7401".parse().unwrap()).await.unwrap_err().to_string();
        assert!(error.contains("name.invalid") && error.contains("--address"), "{error}");
    }

    #[test]
    fn workload_that_is_reached_by_ipv6_listens_there() {
        let declared = declared(&[]).unwrap();
        let address: IpAddr = "2001:db8::7".parse().unwrap();
        assert_eq!(declared.workload(address).inbound, "[::]:15006");
        assert_eq!(declared.listeners(address).inbound.unwrap().to_string(), "[::]:15006");
    }

    #[test]
    fn workload_that_only_calls_others_listens_for_nobody() {
        let declared = declared(&["--client"]).unwrap();
        let address: IpAddr = [10, 0, 0, 7].into();
        let workload = declared.workload(address);
        assert!(workload.client && workload.inbound.is_empty());
        assert_eq!(declared.listeners(address).inbound, None);
    }

    #[test]
    fn flags_that_cannot_be_meant_are_refused_before_anything_is_joined() {
        for flags in [
            ["--inbound", "0.0.0.0:0"],
            ["--outbound", "127.0.0.1:0"],
            ["--upstream", "shop/db:tcp=127.0.0.1:0"],
            ["--address", "0.0.0.0"],
            ["--name", "Not_A_Name"],
        ] {
            let refused = declared(&flags).unwrap_err();
            assert!(refused.contains(flags[0]), "{refused}");
        }
    }
}
