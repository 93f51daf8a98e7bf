//! Values of flags that have a form of their own.

use std::net::SocketAddr;
use std::str::FromStr;

use weft_api::ServiceId;

/// `NAME=PORT`: where the application listens for one port of its service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AppPort {
    /// Name of the service's port.
    pub name: String,
    /// Port on loopback.
    pub port: u16,
}

impl FromStr for AppPort {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let (name, port) = text.split_once('=').ok_or("write it as NAME=PORT")?;
        let port: u16 = port.parse().map_err(|_| format!("{port:?} is not a port (1 to 65535)"))?;
        if port == 0 {
            return Err("port 0 is nowhere".to_owned());
        }
        weft_api::Name::try_new(name).map_err(|error| error.to_string())?;
        Ok(Self { name: name.to_owned(), port })
    }
}

/// `K=V`: one label.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Label {
    /// Key.
    pub key: String,
    /// Value, may be empty.
    pub value: String,
}

impl FromStr for Label {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        match text.split_once('=') {
            Some((key, value)) if !key.is_empty() => {
                Ok(Self { key: key.to_owned(), value: value.to_owned() })
            }
            _ => Err("write it as KEY=VALUE".to_owned()),
        }
    }
}

/// `REGION/ZONE`, or `REGION` alone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LocalityFlag {
    /// Region.
    pub region: String,
    /// Zone, empty when not given.
    pub zone: String,
}

impl FromStr for LocalityFlag {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let (region, zone) = text.split_once('/').unwrap_or((text, ""));
        if region.is_empty() || zone.contains('/') {
            return Err("write it as REGION/ZONE".to_owned());
        }
        Ok(Self { region: region.to_owned(), zone: zone.to_owned() })
    }
}

/// `NS/SERVICE:PORT=IP:PORT`: a local port for one TCP port of a service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UpstreamBinding {
    /// The service.
    pub service: ServiceId,
    /// Name or number of its port.
    pub port: String,
    /// Where to listen.
    pub listen: SocketAddr,
}

impl FromStr for UpstreamBinding {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let (target, listen) = text.split_once('=').ok_or("write it as NS/SERVICE:PORT=IP:PORT")?;
        let (service, port) = target.rsplit_once(':').ok_or("the service needs a port, NS/SERVICE:PORT")?;
        let service = service.parse().map_err(|error| format!("{error}"))?;
        if port.is_empty() {
            return Err("the service needs a port, NS/SERVICE:PORT".to_owned());
        }
        let listen = listen.parse().map_err(|_| format!("{listen:?} is not IP:PORT"))?;
        Ok(Self { service, port: port.to_owned(), listen })
    }
}

impl std::fmt::Display for UpstreamBinding {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}:{}={}", self.service, self.port, self.listen)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn upstream_reads_back_what_it_writes() {
        let text = "shop/db:tcp=127.0.0.5:5432";
        assert_eq!(text.parse::<UpstreamBinding>().unwrap().to_string(), text);
    }

    #[test]
    fn locality_needs_a_region() {
        assert_eq!("eu/a".parse::<LocalityFlag>().unwrap().zone, "a");
        assert!("/a".parse::<LocalityFlag>().is_err());
        assert!("eu/a/b".parse::<LocalityFlag>().is_err());
    }
}
