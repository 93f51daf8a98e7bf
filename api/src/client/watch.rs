//! Changes as they come: the events of one stream, each with its id.

use http::Method;

use super::{APPLY_TIMEOUT, ApiClient, BodyPieces, ClientError, encode};
use crate::rest::{ObjectChanges, ObjectList};

/// The longest event: a mesh's whole list of one kind, as a page of any answer.
const LONGEST: usize = super::MAX_ANSWER;

/// What is told of the objects of one kind.
#[derive(Debug)]
pub enum ObjectEvent {
    /// All of them, at the beginning.
    Snapshot(ObjectList),
    /// Those that changed with one revision.
    Changes(ObjectChanges),
    /// Changes are missing: begin again.
    Gone,
}

/// The objects of one kind, as they change.
#[derive(Debug)]
pub struct ObjectEvents {
    client: ApiClient,
    pieces: BodyPieces,
    unread: Vec<u8>,
    /// So many bytes of it were looked at, and no event ended there.
    searched: usize,
}

impl ApiClient {
    /// Watches the objects of a kind; after `revision`, or from all that there are now on.
    ///
    /// # Errors
    /// [`NOT_KEPT`](crate::rest::NOT_KEPT) where changes after the revision were pruned; see [`ClientError`].
    pub async fn watch(
        &self,
        kind: &str,
        namespace: Option<&str>,
        revision: Option<u64>,
    ) -> Result<ObjectEvents, ClientError> {
        let mut path = format!("/v1/watch/{}?", encode(kind));
        if let Some(namespace) = namespace {
            path.push_str(&format!("namespace={}&", encode(namespace)));
        }
        if let Some(revision) = revision {
            path.push_str(&format!("revision={revision}"));
        }
        let request = self.request(Method::GET, &path, "application/json", String::new())?;
        let asking = async { self.pool.request(request).await.map_err(|error| self.unreachable(&error)) };
        let answer = self.within(self.limit(APPLY_TIMEOUT), asking).await?;
        if !answer.status().is_success() {
            return Err(self.refused(answer).await?);
        }
        let pieces = BodyPieces { client: self.clone(), body: answer.into_body() };
        Ok(ObjectEvents { client: self.clone(), pieces, unread: Vec::new(), searched: 0 })
    }
}

impl ObjectEvents {
    /// The next event; none when the control plane has ended the stream.
    ///
    /// # Errors
    /// When the connection is lost, or what comes is no event.
    pub async fn next(&mut self) -> Result<Option<ObjectEvent>, ClientError> {
        loop {
            while let Some(end) = self.end_of_event() {
                let event: Vec<u8> = self.unread.drain(..end).collect();
                if let Some(event) = self.read(&event)? {
                    return Ok(Some(event));
                }
            }
            match self.pieces.next().await? {
                Some(piece) if self.unread.len() + piece.len() <= LONGEST => self.unread.extend(piece),
                Some(_) => return Err(self.garbled("an event is too long")),
                None => return Ok(None),
            }
        }
    }

    fn end_of_event(&mut self) -> Option<usize> {
        let from = self.searched.saturating_sub(1);
        let end = self.unread[from..].windows(2).position(|pair| pair == b"\n\n").map(|end| from + end + 2);
        self.searched = if end.is_some() { 0 } else { self.unread.len() };
        end
    }

    /// One event; none of a comment.
    fn read(&self, event: &[u8]) -> Result<Option<ObjectEvent>, ClientError> {
        let text = std::str::from_utf8(event).map_err(|error| self.client.garbled(&error))?;
        let field = |name: &str| {
            text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':')).map(str::trim_start)
        };
        let data = field("data").unwrap_or("null");
        let unreadable = |error: serde_json::Error| self.client.garbled(&error);
        Ok(match field("event") {
            Some("snapshot") => Some(ObjectEvent::Snapshot(serde_json::from_str(data).map_err(unreadable)?)),
            Some("changes") => Some(ObjectEvent::Changes(serde_json::from_str(data).map_err(unreadable)?)),
            Some("gone") => Some(ObjectEvent::Gone),
            Some(_) | None => None,
        })
    }

    fn garbled(&self, reason: &str) -> ClientError {
        ClientError::Garbled { api: self.client.api.clone(), reason: reason.to_owned() }
    }
}
