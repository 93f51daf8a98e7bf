//! A changeset's body: which documents it puts and deletes, as bytes.
//!
//! ```text
//! change = 1, key, document | 0, key        key, document = u32 little endian length, bytes
//! ```

use std::sync::Arc;

use bytes::{Buf as _, BufMut as _, Bytes, BytesMut};
use imbl::OrdMap;

/// Documents by key. Cheap to clone; clones share what is equal.
pub type Documents = OrdMap<Arc<str>, Bytes>;

/// One document put or deleted. What key and document mean is the caller's affair.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DocumentChange {
    pub key: Arc<str>,
    /// The document; `None` deletes.
    pub document: Option<Bytes>,
}

impl DocumentChange {
    pub fn put(key: impl Into<Arc<str>>, document: impl Into<Bytes>) -> Self {
        Self { key: key.into(), document: Some(document.into()) }
    }

    pub fn delete(key: impl Into<Arc<str>>) -> Self {
        Self { key: key.into(), document: None }
    }
}

/// The documents after these changes.
pub(super) fn apply(documents: &mut Documents, changes: &[DocumentChange]) {
    for change in changes {
        match &change.document {
            Some(document) => drop(documents.insert(Arc::clone(&change.key), document.clone())),
            None => drop(documents.remove(&change.key)),
        }
    }
}

/// The body of a changeset; `None` when a length does not fit 32 bits.
pub(super) fn encode(changes: &[DocumentChange]) -> Option<Bytes> {
    let length =
        |change: &DocumentChange| 9 + change.key.len() + change.document.as_ref().map_or(0, Bytes::len);
    let mut body = BytesMut::with_capacity(changes.iter().map(length).sum());
    for change in changes {
        body.put_u8(u8::from(change.document.is_some()));
        put_counted(&mut body, change.key.as_bytes())?;
        if let Some(document) = &change.document {
            put_counted(&mut body, document)?;
        }
    }
    Some(body.freeze())
}

/// Reads a body; `None` when it is not one. Documents share its memory.
pub(super) fn decode(mut body: Bytes) -> Option<Vec<DocumentChange>> {
    let mut changes = Vec::new();
    while body.has_remaining() {
        let is_put = match body.get_u8() {
            0 => false,
            1 => true,
            _ => return None,
        };
        let key = std::str::from_utf8(&take_counted(&mut body)?).ok()?.into();
        let document = if is_put { Some(take_counted(&mut body)?) } else { None };
        changes.push(DocumentChange { key, document });
    }
    Some(changes)
}

fn put_counted(body: &mut BytesMut, bytes: &[u8]) -> Option<()> {
    body.put_u32_le(u32::try_from(bytes.len()).ok()?);
    body.put_slice(bytes);
    Some(())
}

fn take_counted(body: &mut Bytes) -> Option<Bytes> {
    let length = usize::try_from(body.try_get_u32_le().ok()?).ok()?;
    (length <= body.len()).then(|| body.split_to(length))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn change() -> impl Strategy<Value = DocumentChange> {
        let document = proptest::option::of(proptest::collection::vec(any::<u8>(), 0..64));
        ("[a-zA-Z0-9/]{0,20}", document).prop_map(|(key, document)| DocumentChange {
            key: key.into(),
            document: document.map(Bytes::from),
        })
    }

    proptest! {
        #[test]
        fn body_reads_back_what_it_writes(changes in proptest::collection::vec(change(), 0..20)) {
            prop_assert_eq!(decode(encode(&changes).unwrap()), Some(changes));
        }

        #[test]
        fn no_bytes_make_reading_panic(body in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = decode(Bytes::from(body));
        }

        #[test]
        fn cut_body_is_never_read_as_whole(changes in proptest::collection::vec(change(), 1..5), cut in 1_usize..40) {
            let body = encode(&changes).unwrap();
            let cut = cut.min(body.len());
            prop_assert_ne!(decode(body.slice(..body.len() - cut)), Some(changes));
        }
    }
}
