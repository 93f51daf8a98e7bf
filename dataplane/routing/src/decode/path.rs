//! How a connection manager normalises paths.

use envoy_types::pb::envoy::extensions::filters::network::http_connection_manager::v3::HttpConnectionManager;
use envoy_types::pb::envoy::extensions::filters::network::http_connection_manager::v3::http_connection_manager::PathWithEscapedSlashesAction as Action;

use crate::path::{EscapedSlashes, PathOptions};
use crate::rejection::Rejection;

/// Reads `normalize_path` and the fields beside it.
///
/// # Errors
/// A value that is unknown.
pub fn options(given: &HttpConnectionManager) -> Result<PathOptions, Rejection> {
    let escaped_slashes = match Action::try_from(given.path_with_escaped_slashes_action) {
        Ok(Action::ImplementationSpecificDefault | Action::KeepUnchanged) => EscapedSlashes::Keep,
        Ok(Action::RejectRequest) => EscapedSlashes::Reject,
        Ok(Action::UnescapeAndRedirect) => EscapedSlashes::UnescapeAndRedirect,
        Ok(Action::UnescapeAndForward) => EscapedSlashes::UnescapeAndForward,
        Err(_) => return Err(Rejection::new("path_with_escaped_slashes_action", "unknown value")),
    };
    Ok(PathOptions {
        normalize: given.normalize_path.as_ref().is_some_and(|flag| flag.value),
        merge_slashes: given.merge_slashes,
        escaped_slashes,
        lenient: false,
    })
}
