//! What is asked, read.

use http::{HeaderMap, HeaderName, HeaderValue, Method};
use weft_api::ServiceId;
use weft_api::rest::{ExplainHeader, ExplainQuestion};
use weft_api::text::shorten;
use weft_policies::value::PortRef;

use super::super::error::ApiError;

/// Headers of a request that is asked about; a proxy takes no more.
const HEADERS: usize = 100;

/// A question that can be answered.
#[derive(Debug, Clone)]
pub struct Question {
    /// A service or a workload: both are called `NAMESPACE/NAME`.
    pub source: ServiceId,
    pub destination: AskedDestination,
    pub request: Option<AskedRequest>,
    /// The host name that the request is sent to, where it is not the destination's own.
    pub host: Option<String>,
}

/// What is called, as people name it: by its service or by a host.
#[derive(Debug, Clone)]
pub enum AskedDestination {
    /// A service, and one of its ports.
    Service(ServiceId, Option<PortRef>),
    /// A host name as the application writes it, with a port or without.
    Host(String),
}

/// A request, as it leaves the application.
#[derive(Debug, Clone)]
pub struct AskedRequest {
    pub method: String,
    pub path: String,
    pub headers: HeaderMap,
}

impl Question {
    /// Reads it.
    ///
    /// # Errors
    /// What cannot be a name, a request or a header, and what to write.
    pub fn read(asked: &ExplainQuestion) -> Result<Self, ApiError> {
        let source = asked.source.parse::<ServiceId>().map_err(|_| {
            let written = shorten(&asked.source);
            ApiError::bad_request(format!(
                "source: {written:?} is no service and no workload; write NAMESPACE/NAME"
            ))
        })?;
        let (headers, host) = headers(&asked.headers)?;
        let request = match (&asked.method, &asked.path) {
            (None, None) if headers.is_empty() => None,
            (None, None) => {
                return Err(ApiError::bad_request(
                    "headers are those of a request; give a method and a path too",
                ));
            }
            (_, None) => return Err(ApiError::bad_request("path: is missing; a request has one")),
            (method, Some(path)) => Some(AskedRequest {
                method: self::method(method.as_deref().unwrap_or("GET"))?,
                path: self::path(path)?,
                headers,
            }),
        };
        Ok(Self { source, destination: destination(&asked.destination)?, request, host })
    }
}

fn destination(text: &str) -> Result<AskedDestination, ApiError> {
    let wrong = || {
        let written = shorten(text);
        ApiError::bad_request(format!(
            "destination: {written:?} is no NAMESPACE/SERVICE[:PORT] and no host name"
        ))
    };
    let Some((namespace, rest)) = text.split_once('/') else {
        let is_host =
            !text.is_empty() && text.bytes().all(|b| b.is_ascii_graphic() && !b"/?#@\\".contains(&b));
        return if is_host { Ok(AskedDestination::Host(text.to_owned())) } else { Err(wrong()) };
    };
    let (name, port) = rest.split_once(':').map_or((rest, None), |(name, port)| (name, Some(port)));
    let service = ServiceId::try_new(namespace, name).map_err(|_| wrong())?;
    let port = port.map(|port| match port.parse::<u16>() {
        Ok(number) => Ok(PortRef::Number(number)),
        Err(_) => port.parse().map(PortRef::Name),
    });
    let port = port.transpose().map_err(|_| wrong())?;
    Ok(AskedDestination::Service(service, port))
}

fn method(text: &str) -> Result<String, ApiError> {
    match Method::from_bytes(text.as_bytes()) {
        Ok(Method::CONNECT) => Err(ApiError::bad_request(
            "method: a tunnel shows neither path nor headers, and follows the rule that takes what no other does; ask about \
             the requests within",
        )),
        Ok(method) => Ok(method.to_string()),
        Err(_) => Err(ApiError::bad_request(format!("method: {:?} is no method", shorten(text)))),
    }
}

fn path(text: &str) -> Result<String, ApiError> {
    let is_sent = text.bytes().all(|b| b.is_ascii_graphic());
    if !text.starts_with('/') || !is_sent {
        let written = shorten(text);
        return Err(ApiError::bad_request(format!(
            "path: {written:?} cannot be sent: a path begins with a slash, and what is no visible ASCII is written as %XX"
        )));
    }
    Ok(text.to_owned())
}

fn headers(asked: &[ExplainHeader]) -> Result<(HeaderMap, Option<String>), ApiError> {
    if asked.len() > HEADERS {
        return Err(ApiError::bad_request(format!("headers: a request has {HEADERS} at most")));
    }
    let (mut headers, mut host) = (HeaderMap::new(), None);
    for ExplainHeader { name, value } in asked {
        let wrong = |what: &str, text: &str| {
            ApiError::bad_request(format!("headers: {:?} is no {what} of a header", shorten(text)))
        };
        let name = HeaderName::from_bytes(name.as_bytes()).map_err(|_| wrong("name", name))?;
        // As it arrives: white space around a value is none of it.
        let sent = value.trim_matches([' ', '\t']);
        let sent = HeaderValue::from_bytes(sent.as_bytes()).map_err(|_| wrong("value", value))?;
        if name == http::header::HOST {
            if host.replace(value.trim().to_owned()).is_some() {
                return Err(ApiError::bad_request("headers: a request has one host"));
            }
        } else {
            headers.append(name, sent);
        }
    }
    Ok((headers, host))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(destination: &str, path: Option<&str>) -> Result<Question, ApiError> {
        Question::read(&ExplainQuestion {
            source: "shop/web".to_owned(),
            destination: destination.to_owned(),
            path: path.map(str::to_owned),
            ..ExplainQuestion::default()
        })
    }

    #[test]
    fn a_destination_is_a_service_or_a_host() {
        let service = |text: &str| match read(text, None).unwrap().destination {
            AskedDestination::Service(id, port) => (id.to_string(), port.map(|port| port.to_string())),
            AskedDestination::Host(host) => panic!("{host}"),
        };
        assert_eq!(service("shop/cart"), ("shop/cart".to_owned(), None));
        assert_eq!(service("shop/cart:http"), ("shop/cart".to_owned(), Some("http".to_owned())));
        assert_eq!(service("shop/cart:80"), ("shop/cart".to_owned(), Some("80".to_owned())));
        assert!(matches!(read("Cart.Shop:80", None).unwrap().destination, AskedDestination::Host(_)));
        for wrong in ["", "shop/", "shop/cart:", "a b", "shop/cart/http"] {
            assert!(read(wrong, None).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn what_cannot_be_sent_cannot_be_asked() {
        for path in ["items", "/a b", "/a\n", "/é"] {
            assert!(read("shop/cart", Some(path)).is_err(), "{path:?}");
        }
        assert!(read("shop/cart", Some("/a%2Fb;c//..?x=%00")).unwrap().request.is_some());
    }
}
