//! A sign that something is waited for: on a terminal, once it takes longer than a second.

use std::io::IsTerminal as _;
use std::pin::Pin;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};

/// What is done sooner needs no sign.
const SOON: Duration = Duration::from_secs(1);
const TICK: Duration = Duration::from_millis(100);

/// Does the work, and shows on standard error for whom it waits and how long already. The sign is gone when the work is done.
pub async fn shown<T>(whom: &'static str, mut work: Pin<Box<impl Future<Output = T>>>) -> T {
    if !std::io::stderr().is_terminal() {
        return work.await;
    }
    if let Ok(done) = tokio::time::timeout(SOON, &mut work).await {
        return done;
    }
    let style = ProgressStyle::with_template("{spinner} waiting for {msg} ({elapsed})").expect("a template");
    let sign = ProgressBar::new_spinner().with_style(style).with_message(whom).with_elapsed(SOON);
    sign.enable_steady_tick(TICK);
    let done = work.await;
    sign.finish_and_clear();
    done
}
