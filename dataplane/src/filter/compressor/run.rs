//! Decides which content is compressed.

use http::HeaderMap;
use http::header::{
    ACCEPT_ENCODING, CACHE_CONTROL, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE, ETAG, HeaderName,
    HeaderValue, VARY,
};

use super::super::Override;
use super::super::request::{Flow, Request, Response};
use super::super::state::FilterState;
use super::accept::{AcceptedCoding, choose};
use super::gzip::GzipTransform;
use super::{Compressor, CompressorDirection};
use crate::stats::Shard;

const GZIP: HeaderValue = HeaderValue::from_static("gzip");

impl Compressor {
    pub(in super::super) fn on_request(&self, request: &mut Request<'_>, special: Option<&Override>) -> Flow {
        let said = special.map(Override::compressor).unwrap_or_default();
        if let Some(accepted) = all(&request.parts.headers, &ACCEPT_ENCODING) {
            request.remember(FilterState::AcceptEncoding(accepted));
        }
        if said.responses.unwrap_or(self.responses.enabled)
            && said.remove_accept_encoding.unwrap_or(self.remove_accept_encoding)
        {
            request.parts.headers.remove(ACCEPT_ENCODING);
        }
        let worker = request.stream.connection.worker.clone();
        let (direction, headers) = (&self.requests, &mut request.parts.headers);
        let compressed = request.content.as_ref().is_some_and(|content| !content.is_end_stream())
            && direction.enabled
            && direction.is_long_enough(headers, &worker.shard)
            && direction.takes_type(headers)
            && !headers.contains_key(CONTENT_ENCODING);
        if !compressed {
            worker.shard.inc(direction.stats.not_compressed);
            return Flow::Continue;
        }
        headers.remove(CONTENT_LENGTH);
        headers.insert(CONTENT_ENCODING, GZIP);
        worker.shard.inc(direction.stats.compressed);
        request.transform(Box::new(GzipTransform::new(self.level, worker, direction.stats)));
        Flow::Continue
    }

    pub(in super::super) fn on_response(&self, response: &mut Response<'_>, special: Option<&Override>) {
        let said = special.map(Override::compressor).unwrap_or_default();
        let worker = response.stream.connection.worker.clone();
        let (direction, shard) = (&self.responses, &worker.shard);
        // What the caller takes is looked at, and counted, only where the rest would allow it.
        let considered =
            said.responses.unwrap_or(direction.enabled) && direction.is_long_enough(response.headers, shard);
        let compressible = considered
            && direction.takes_type(response.headers)
            && !forbids_transform(response.headers)
            && self.takes_etag(response.headers, shard)
            && !response.headers.contains_key(CONTENT_ENCODING);
        if response.has_content && considered && self.is_accepted(response, shard) && compressible {
            drop_strong_etag(response.headers);
            response.headers.remove(CONTENT_LENGTH);
            response.headers.insert(CONTENT_ENCODING, GZIP);
            shard.inc(direction.stats.compressed);
            let transform = GzipTransform::new(self.level, worker.clone(), direction.stats);
            response.transforms.push(Box::new(transform));
        } else {
            shard.inc(direction.stats.not_compressed);
        }
        // A cache must not give to one caller what another one takes, compressed or not.
        if compressible {
            vary_by_coding(response.headers);
        }
    }

    /// Whether the caller takes gzip, by what it said when the filter saw its request.
    fn is_accepted(&self, response: &Response<'_>, shard: &Shard) -> bool {
        let accepted = response.remembered().find_map(|state| {
            if let FilterState::AcceptEncoding(accepted) = state { Some(accepted) } else { None }
        });
        let Some(accepted) = accepted else {
            shard.inc(self.stats.no_accept_header);
            return false;
        };
        let text = accepted.to_str().unwrap_or_default();
        let choice = match self.responses.takes_type(response.headers) {
            true => choose(text, self.choose_first),
            false => AcceptedCoding::None,
        };
        let (counter, takes) = match choice {
            AcceptedCoding::Gzip => (self.stats.header_compressor_used, true),
            AcceptedCoding::Any => (self.stats.header_wildcard, true),
            AcceptedCoding::Identity => (self.stats.header_identity, false),
            AcceptedCoding::None => (self.stats.header_not_valid, false),
        };
        shard.inc(counter);
        takes
    }

    fn takes_etag(&self, headers: &HeaderMap, shard: &Shard) -> bool {
        let takes = !(self.disable_on_etag && headers.contains_key(ETAG));
        if !takes {
            shard.inc(self.stats.not_compressed_etag);
        }
        takes
    }
}

impl CompressorDirection {
    /// Content that does not say its length is long enough.
    fn is_long_enough(&self, headers: &HeaderMap, shard: &Shard) -> bool {
        let Some(length) = headers.get(CONTENT_LENGTH) else { return true };
        let length = length.to_str().ok().and_then(|length| length.parse::<u64>().ok());
        let enough = length.is_some_and(|length| length >= self.min_length);
        if !enough {
            shard.inc(self.stats.content_length_too_small);
        }
        enough
    }

    /// Content that does not say its type is taken.
    fn takes_type(&self, headers: &HeaderMap) -> bool {
        let Some(value) = headers.get(CONTENT_TYPE) else { return true };
        let value = value.to_str().unwrap_or_default();
        let bare = value.split(';').next().unwrap_or_default().trim();
        self.content_types.contains(&*bare.to_ascii_lowercase())
    }
}

/// All values of a header as one, joined by commas.
fn all(headers: &HeaderMap, name: &HeaderName) -> Option<HeaderValue> {
    let mut values = headers.get_all(name).iter();
    let first = values.next()?;
    let Some(second) = values.next() else { return Some(first.clone()) };
    let mut joined = [first.as_bytes(), second.as_bytes()].join(&b","[..]);
    for value in values {
        joined.push(b',');
        joined.extend_from_slice(value.as_bytes());
    }
    HeaderValue::from_bytes(&joined).ok()
}

fn names(value: &HeaderValue, wanted: &str) -> bool {
    let text = value.to_str().unwrap_or_default();
    text.split(',').any(|word| word.trim().eq_ignore_ascii_case(wanted))
}

fn forbids_transform(headers: &HeaderMap) -> bool {
    headers.get_all(CACHE_CONTROL).iter().any(|value| names(value, "no-transform"))
}

/// A strong tag says that the bytes are the same, which they are not any more.
fn drop_strong_etag(headers: &mut HeaderMap) {
    let strong = |etag: &HeaderValue| {
        let etag = etag.as_bytes();
        etag.len() > 2 && !etag[..2].eq_ignore_ascii_case(b"w/")
    };
    if headers.get(ETAG).is_some_and(strong) {
        headers.remove(ETAG);
    }
}

fn vary_by_coding(headers: &mut HeaderMap) {
    let wanted = HeaderValue::from_static("Accept-Encoding");
    let Some(given) = all(headers, &VARY) else {
        headers.insert(VARY, wanted);
        return;
    };
    if !names(&given, "accept-encoding")
        && let Ok(value) = HeaderValue::from_bytes(&[given.as_bytes(), wanted.as_bytes()].join(&b", "[..]))
    {
        headers.insert(VARY, value);
    }
}
