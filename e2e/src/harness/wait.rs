//! Waiting for a condition with a deadline.

use std::time::Duration;

use anyhow::Context as _;
use tokio::time::Instant;

/// Between two looks.
const PAUSE: Duration = Duration::from_millis(25);

/// Tries until it succeeds; after `limit`, fails with the last reason.
///
/// # Errors
/// When the condition did not come true in time.
pub async fn until<T>(
    what: &str,
    limit: Duration,
    mut attempt: impl AsyncFnMut() -> anyhow::Result<T>,
) -> anyhow::Result<T> {
    let deadline = Instant::now() + limit;
    let mut last = anyhow::anyhow!("no attempt ended");
    loop {
        match tokio::time::timeout_at(deadline, attempt()).await {
            Ok(Ok(value)) => return Ok(value),
            Ok(Err(error)) if Instant::now() < deadline => last = error,
            Ok(Err(error)) => return Err(error).with_context(|| format!("not within {limit:?}: {what}")),
            Err(_) => return Err(last).with_context(|| format!("not within {limit:?}: {what}")),
        }
        tokio::time::sleep(PAUSE).await;
    }
}
