//! What a joiner says about itself, read strictly: nothing of it decides who the joiner is.

use std::collections::BTreeMap;
use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};

use weft_api::{Name, ServiceId, join};

use crate::tokens::{LabelPattern, is_label_key, is_label_value};
use crate::workloads::{Declared, DeclaredUpstream, Proxy};

const MAX_LABELS: usize = 32;
const MAX_PORTS: usize = 64;
const MAX_UPSTREAMS: usize = 128;

/// What is wrong with a declaration.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DeclarationError {
    /// A field that cannot be read.
    #[error("{field}: {reason}")]
    Invalid {
        /// Which field of the request.
        field: &'static str,
        /// What is wrong with it.
        reason: String,
    },
    /// A label that the token does not permit.
    #[error("the token does not permit the label {0}={1}; make one with `--allow-label {0}={1}`")]
    Label(String, String),
}

/// Reads a declaration within what a token permits.
///
/// # Errors
/// At the first field that is invalid, or label that is not permitted.
pub(super) fn read(
    workload: &join::Workload,
    allowed: &[LabelPattern],
) -> Result<Declared, DeclarationError> {
    let address: IpAddr =
        workload.address.parse().map_err(|_| invalid("address", "write one IP address".to_owned()))?;
    if address.is_unspecified() || address.is_multicast() {
        return Err(invalid("address", format!("{address} is no address of one machine")));
    }
    Ok(Declared {
        address,
        app_ports: app_ports(&workload.app_ports)?,
        labels: labels(&workload.labels, allowed)?,
        region: place("region", &workload.region)?,
        zone: place("zone", &workload.zone)?,
        upstreams: upstreams(&workload.upstreams)?,
        proxy: proxy(workload.proxy_type)?,
        inbound: listener("inbound", &workload.inbound)?,
        outbound: listener("outbound", &workload.outbound)?,
    })
}

fn app_ports(ports: &HashMap<String, u32>) -> Result<BTreeMap<String, u16>, DeclarationError> {
    at_most("app_ports", ports.len(), MAX_PORTS)?;
    let read = |(name, port): (&String, &u32)| {
        Name::try_new(name).map_err(|error| invalid("app_ports", error.to_string()))?;
        let number = u16::try_from(*port).ok().filter(|port| *port != 0);
        let number =
            number.ok_or_else(|| invalid("app_ports", format!("{name}={port} is no port number")))?;
        Ok((name.clone(), number))
    };
    ports.iter().map(read).collect()
}

fn labels(
    labels: &HashMap<String, String>,
    allowed: &[LabelPattern],
) -> Result<BTreeMap<String, String>, DeclarationError> {
    at_most("labels", labels.len(), MAX_LABELS)?;
    for (key, value) in labels {
        if !is_label_key(key) || !is_label_value(value) {
            return Err(invalid("labels", format!("{:?} is no label", shorten(&format!("{key}={value}")))));
        }
        if !allowed.iter().any(|pattern| pattern.permits(key, value)) {
            return Err(DeclarationError::Label(key.clone(), value.clone()));
        }
    }
    Ok(labels.clone().into_iter().collect())
}

fn upstreams(upstreams: &[join::Upstream]) -> Result<Vec<DeclaredUpstream>, DeclarationError> {
    at_most("upstreams", upstreams.len(), MAX_UPSTREAMS)?;
    let read = |upstream: &join::Upstream| {
        let service: ServiceId =
            upstream.service.parse().map_err(|error| invalid("upstreams", format!("{error}")))?;
        let port = upstream.port.clone();
        if Name::try_new(&port).is_err() && !port.parse::<u16>().is_ok_and(|port| port != 0) {
            return Err(invalid("upstreams", format!("{:?} is no port name or number", shorten(&port))));
        }
        let bind = listener("upstreams", &upstream.bind)?
            .ok_or_else(|| invalid("upstreams", format!("{service} has no IP:PORT to listen on")))?;
        Ok(DeclaredUpstream { service, port, bind })
    };
    upstreams.iter().map(read).collect()
}

fn proxy(value: i32) -> Result<Proxy, DeclarationError> {
    match join::ProxyType::try_from(value) {
        Ok(join::ProxyType::Weft) => Ok(Proxy::Weft),
        Ok(join::ProxyType::Envoy) => Ok(Proxy::Envoy),
        Ok(join::ProxyType::Grpc) => Ok(Proxy::Grpc),
        Ok(join::ProxyType::None) => Ok(Proxy::None),
        Ok(join::ProxyType::Unspecified) | Err(_) => {
            Err(invalid("proxy_type", "say which proxy stands beside the application".to_owned()))
        }
    }
}

fn place(field: &'static str, text: &str) -> Result<String, DeclarationError> {
    if is_label_value(text) {
        return Ok(text.to_owned());
    }
    Err(invalid(field, format!("{:?}: use at most 63 letters, digits, '-', '_' and '.'", shorten(text))))
}

fn listener(field: &'static str, text: &str) -> Result<Option<SocketAddr>, DeclarationError> {
    if text.is_empty() {
        return Ok(None);
    }
    let address: Option<SocketAddr> = text.parse().ok().filter(|address: &SocketAddr| address.port() != 0);
    address.map(Some).ok_or_else(|| invalid(field, format!("{:?} is not IP:PORT", shorten(text))))
}

fn at_most(field: &'static str, count: usize, most: usize) -> Result<(), DeclarationError> {
    if count <= most {
        Ok(())
    } else {
        Err(invalid(field, format!("{count} are too many; the most is {most}")))
    }
}

fn invalid(field: &'static str, reason: String) -> DeclarationError {
    DeclarationError::Invalid { field, reason }
}

fn shorten(text: &str) -> String {
    text.chars().take(80).collect()
}
