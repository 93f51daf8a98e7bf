//! Why there was no answer, and which of scheme, roots and address to correct.

use std::error::Error;
use std::io::{self, ErrorKind};

use http::Uri;
use rustls::{AlertDescription, CertificateError, InvalidMessage};

/// What stands in the way, in the order in which one thing hides the next.
pub(super) fn explain(api: &Uri, error: &(dyn Error + 'static), has_roots: bool) -> String {
    let place = api.authority().map_or_else(String::new, ToString::to_string);
    let is_tls = api.scheme_str() == Some("https");
    if let Some(error) = find::<rustls::Error>(error) {
        return tls(&place, error, has_roots);
    }
    if find::<hyper::Error>(error).is_some_and(hyper::Error::is_parse) && !is_tls {
        return format!("{place} does not speak plain HTTP: use https://{place}");
    }
    let reason = innermost(error);
    match find::<io::Error>(error).map(io::Error::kind) {
        Some(ErrorKind::ConnectionRefused) => {
            format!("nothing listens on {place}: is the control plane running, and is --api right?")
        }
        Some(ErrorKind::TimedOut | ErrorKind::HostUnreachable | ErrorKind::NetworkUnreachable) => {
            format!("{place} cannot be reached ({reason}): is --api right, and is the machine up?")
        }
        Some(ErrorKind::ConnectionReset | ErrorKind::UnexpectedEof) if !is_tls => {
            format!("{place} closed the connection ({reason}): if it speaks TLS, use https://{place}")
        }
        _ => format!(
            "no answer from the control plane at {place} ({reason}): is it running, and is --api right?"
        ),
    }
}

fn tls(place: &str, error: &rustls::Error, has_roots: bool) -> String {
    use rustls::Error::{AlertReceived, InvalidCertificate, InvalidMessage as Message};
    match error {
        Message(InvalidMessage::InvalidContentType) => {
            format!("{place} does not speak TLS: use http://{place}")
        }
        InvalidCertificate(CertificateError::UnknownIssuer) if has_roots => format!(
            "the certificate of {place} is not signed by the roots that are given: give with --ca the ca.pem of this \
             mesh's control plane, as it is now, or correct --api"
        ),
        InvalidCertificate(CertificateError::UnknownIssuer) => format!(
            "the certificate of {place} is signed by the mesh's own roots: give them with --ca FILE (ca.pem in the \
             control plane's data directory)"
        ),
        InvalidCertificate(CertificateError::NotValidForNameContext { presented, .. }) => format!(
            "the certificate of {place} is for {}: use one of these, or start the control plane with --public or \
             --xds-name",
            names(presented)
        ),
        InvalidCertificate(CertificateError::Expired | CertificateError::ExpiredContext { .. }) => {
            format!("the certificate of {place} has expired: compare the clocks of both machines")
        }
        InvalidCertificate(CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. }) => {
            format!("the certificate of {place} is not valid yet: compare the clocks of both machines")
        }
        AlertReceived(AlertDescription::NoApplicationProtocol) => {
            format!("{place} is not the API (xDS, perhaps?): correct --api")
        }
        other => format!("no TLS with {place} ({other}): is --api right?"),
    }
}

/// Names as rustls shows them, `DnsName("a")` and `IpAddress(10.0.0.1)`, in the form that people type.
fn names(presented: &[String]) -> String {
    let bare = |name: &String| {
        let inside = name.split_once('(').map_or(name.as_str(), |(_, inside)| inside.trim_end_matches(')'));
        inside.trim_matches('"').to_owned()
    };
    let is_typed = |name: &&String| !name.starts_with("UniformResourceIdentifier");
    presented.iter().filter(is_typed).map(bare).collect::<Vec<_>>().join(", ")
}

/// Each cause within the one before. An I/O error hides what it wraps from `source`.
fn causes<'a>(error: &'a (dyn Error + 'static)) -> impl Iterator<Item = &'a (dyn Error + 'static)> {
    std::iter::successors(Some(error), |&error| {
        let wrapped = error.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
        wrapped.map(|wrapped| wrapped as &(dyn Error + 'static)).or_else(|| error.source())
    })
}

fn find<'a, T: Error + 'static>(error: &'a (dyn Error + 'static)) -> Option<&'a T> {
    causes(error).find_map(|cause| cause.downcast_ref())
}

/// The innermost cause says the most ("connection refused").
pub(super) fn innermost(error: &(dyn Error + 'static)) -> String {
    causes(error).last().map(ToString::to_string).unwrap_or_default()
}
