//! What filters remember of a stream from the request to its end.

use super::header_mutation::Trailers;

/// One thing that a filter remembers.
#[derive(Debug)]
pub(crate) enum State {
    /// Changes of the trailers that are to come.
    Trailers(Trailers),
}
