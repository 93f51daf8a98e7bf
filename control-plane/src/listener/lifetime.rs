//! How long a connection may live: as long as its certificate, unless it is cut, or the process ends, before.
//!
//! ```text
//! open ── GOAWAY: no new calls ── end: what is still open is cut
//!         a little before          not_after of the certificate
//!         cut                      100 ms later
//!         shutdown                 5 s later
//! ```

use std::time::Duration;

use time::OffsetDateTime;
use tokio_util::sync::CancellationToken;

use crate::ca::sleep_until;
use crate::clock::Clock;
use crate::metrics::Closed;
use crate::tls::Peer;

/// How long calls may run on once the process is told to end.
const GRACE: Duration = Duration::from_secs(5);
/// How long what is under way may take to leave once a connection is cut.
const FLUSH: Duration = Duration::from_millis(100);

const GOAWAY_SHARE: f64 = 0.05;
const GOAWAY_LEAST: time::Duration = time::Duration::seconds(1);
const GOAWAY_MOST: time::Duration = time::Duration::seconds(60);

/// The ends that a connection may come to.
#[derive(Debug)]
pub(crate) struct Lifetime {
    clock: Clock,
    // Nothing of a connection without a certificate expires.
    not_after: Option<(OffsetDateTime, OffsetDateTime)>,
    cut: CancellationToken,
    shutdown: CancellationToken,
}

impl Lifetime {
    pub(crate) fn new(
        peer: Option<&Peer>,
        cut: CancellationToken,
        shutdown: CancellationToken,
        clock: Clock,
    ) -> Self {
        let now = clock.now();
        let not_after = peer.map(|peer| (goaway_at(now, peer.not_after), peer.not_after));
        Self { clock, not_after, cut, shutdown }
    }

    /// Until no new calls should come.
    pub(crate) async fn goaway(&self) {
        tokio::select! {
            () = self.reaches(self.not_after.map(|(goaway, _)| goaway)) => {}
            () = self.cut.cancelled() => {}
            () = self.shutdown.cancelled() => {}
        }
    }

    /// Until what is still open is cut.
    pub(crate) async fn end(&self) {
        let after = async |what: &CancellationToken, wait: Duration| {
            what.cancelled().await;
            tokio::time::sleep(wait).await;
        };
        tokio::select! {
            () = self.reaches(self.not_after.map(|(_, end)| end)) => {}
            () = after(&self.cut, FLUSH) => {}
            () = after(&self.shutdown, GRACE) => {}
        }
    }

    /// What has ended it, or will; nothing when it is the end of the process or the client's own wish.
    pub(crate) fn why(&self) -> Option<Closed> {
        let has_ended = |(goaway, _)| goaway <= self.clock.now();
        if self.cut.is_cancelled() {
            Some(Closed::cut)
        } else {
            self.not_after.is_some_and(has_ended).then_some(Closed::certificate_ended)
        }
    }

    async fn reaches(&self, at: Option<OffsetDateTime>) {
        match at {
            Some(at) => sleep_until(&self.clock, at).await,
            None => std::future::pending().await,
        }
    }
}

/// A twentieth of what is left before the end, so that a client has time to come back with a newer certificate.
fn goaway_at(now: OffsetDateTime, not_after: OffsetDateTime) -> OffsetDateTime {
    not_after - ((not_after - now) * GOAWAY_SHARE).clamp(GOAWAY_LEAST, GOAWAY_MOST)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn goaway_comes_a_twentieth_before_the_end_but_within_bounds() {
        let now = OffsetDateTime::UNIX_EPOCH;
        let before = |left: i64| {
            let end = now + time::Duration::seconds(left);
            (end - goaway_at(now, end)).as_seconds_f64()
        };
        assert_eq!((before(10), before(100), before(600), before(86_400)), (1.0, 5.0, 30.0, 60.0));
        assert_eq!(before(0), 1.0, "one that has ended is told at once");
    }
}
