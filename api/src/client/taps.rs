//! Requests as they end: the events of a tap, as the API sends them.

use serde::de::DeserializeOwned;

use super::{ApiClient, BodyPieces, ClientError, query};
use crate::rest::{TapLine, TapListening, TapNotShown};

/// Bytes of one event: a request with all its headers.
const LONGEST_EVENT: usize = 1 << 20;

/// Which requests are asked for, in the words of the API; nothing for any.
#[derive(Clone, Debug, Default)]
pub struct TapQuery {
    /// Of calls from this service, `NAMESPACE/SERVICE`.
    pub source: Option<String>,
    /// Of calls to this service.
    pub destination: Option<String>,
    /// Of requests with this method.
    pub method: Option<String>,
    /// Whose path begins so.
    pub path: Option<String>,
    /// Answered so: `503`, or `5xx`.
    pub status: Option<String>,
    /// Of requests that failed or were refused.
    pub only_failures: bool,
    /// Headers to be shown.
    pub headers: Vec<String>,
}

impl TapQuery {
    fn path(&self) -> String {
        let headers = (!self.headers.is_empty()).then(|| self.headers.join(","));
        let failures = self.only_failures.then(|| "true".to_owned());
        let given = [
            ("source", self.source.clone()),
            ("destination", self.destination.clone()),
            ("method", self.method.clone()),
            ("path", self.path.clone()),
            ("status", self.status.clone()),
            ("onlyFailures", failures),
            ("headers", headers),
        ];
        format!("/v1/taps?{}", query(given))
    }
}

/// What a tap says.
#[derive(Clone, Debug, PartialEq)]
pub enum TapNews {
    /// Whose requests are heard, at the beginning and when it changes.
    Listening(TapListening),
    /// A request ended, and was asked for.
    Request(Box<TapLine>),
    /// So many were too many.
    NotShown(TapNotShown),
}

/// A tap that is open.
#[derive(Debug)]
pub struct TapFeed {
    client: ApiClient,
    pieces: BodyPieces,
    text: Vec<u8>,
}

impl ApiClient {
    /// Begins a tap, which ends when it is dropped.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn tap(&self, query: &TapQuery) -> Result<TapFeed, ClientError> {
        let pieces = self.pieces(&query.path()).await?;
        Ok(TapFeed { client: self.clone(), pieces, text: Vec::new() })
    }
}

impl TapFeed {
    /// What it says next; none when the control plane has ended it.
    ///
    /// # Errors
    /// When the connection is lost, or what comes is no event.
    pub async fn next(&mut self) -> Result<Option<TapNews>, ClientError> {
        loop {
            while let Some(end) = self.text.windows(2).position(|two| two == b"\n\n") {
                let event: Vec<u8> = self.text.drain(..end + 2).collect();
                if let Some(news) = self.read(&String::from_utf8_lossy(&event))? {
                    return Ok(Some(news));
                }
            }
            if self.text.len() > LONGEST_EVENT {
                let reason = "an event of it has no end".to_owned();
                return Err(ClientError::Garbled { api: self.client.api.clone(), reason });
            }
            let Some(piece) = self.pieces.next().await? else { return Ok(None) };
            self.text.extend_from_slice(&piece);
        }
    }

    /// An event; none where it is a sign of life, or says what only a newer client understands.
    fn read(&self, event: &str) -> Result<Option<TapNews>, ClientError> {
        let field = |name: &str| {
            let value = event.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
            value.map(str::trim_start)
        };
        let (Some(kind), Some(data)) = (field("event"), field("data")) else { return Ok(None) };
        Ok(Some(match kind {
            "listening" => TapNews::Listening(self.data(data)?),
            "request" => TapNews::Request(Box::new(self.data(data)?)),
            "notShown" => TapNews::NotShown(self.data(data)?),
            _ => return Ok(None),
        }))
    }

    fn data<T: DeserializeOwned>(&self, data: &str) -> Result<T, ClientError> {
        serde_json::from_str(data).map_err(|error| self.client.garbled(&error))
    }
}
