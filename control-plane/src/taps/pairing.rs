//! One line of a request that both its sidecars saw: the caller's, with what the called side knows.
//!
//! Each side tells on its own and neither clock is trusted, so that a request waits a little for its other side. Where
//! callers are heard, what only the called side tells is not shown: the caller's sidecar has told of it, or counted it.

use std::collections::{HashMap, VecDeque};
use std::time::{Duration, Instant};

use weft_api::rest::{Hop, TapLine, TapServer};

use super::Seen;

/// How long one side waits for the other.
const PATIENCE: Duration = Duration::from_millis(700);
/// Requests that wait at most; the oldest goes on alone.
const MOST: usize = 2048;

/// A request, by its id, caller and called service.
type CallKey = (String, Option<String>, Option<String>);

/// Requests that wait for their other side.
#[derive(Debug, Default)]
pub struct Pairing {
    waiting: HashMap<(CallKey, Hop), VecDeque<(u64, Seen)>>,
    /// In the order in which they came.
    order: VecDeque<(Instant, u64, CallKey, Hop)>,
    next: u64,
}

impl Pairing {
    /// A request came. Gives the line where its other side is there already, or where too many wait.
    pub fn add(&mut self, now: Instant, seen: Seen) -> Option<TapLine> {
        let (record, hop) = (&seen.record, seen.record.hop);
        let call: CallKey = (record.id.clone(), record.source.clone(), record.destination.clone());
        let other = match hop {
            Hop::Outbound => Hop::Inbound,
            Hop::Inbound => Hop::Outbound,
        };
        // Of several answers the last one is what the caller got.
        if let Some((_, found)) = self.take(&(call.clone(), other), VecDeque::pop_back) {
            let (caller, server) = if hop == Hop::Outbound { (seen, found) } else { (found, seen) };
            return Some(joined(caller, Some(server)));
        }
        let number = self.next;
        self.next += 1;
        self.waiting.entry((call.clone(), hop)).or_default().push_back((number, seen));
        self.order.push_back((now, number, call, hop));
        if self.order.len() > MOST { self.oldest() } else { None }
    }

    /// When the oldest has waited long enough.
    #[must_use]
    pub fn due(&self) -> Option<Instant> {
        self.order.front().map(|(since, ..)| *since + PATIENCE)
    }

    /// The next one that has waited long enough.
    pub fn next_due(&mut self, now: Instant) -> Option<TapLine> {
        while self.due().is_some_and(|due| due <= now) {
            if let Some(line) = self.oldest() {
                return Some(line);
            }
        }
        None
    }

    /// The oldest, unless it has found its other side.
    fn oldest(&mut self) -> Option<TapLine> {
        let (_, number, call, hop) = self.order.pop_front()?;
        let is_it = |waiting: &mut VecDeque<(u64, Seen)>| {
            let is_first = waiting.front().is_some_and(|(known, _)| *known == number);
            is_first.then(|| waiting.pop_front()).flatten()
        };
        self.take(&(call, hop), is_it).map(|(_, seen)| joined(seen, None))
    }

    fn take(
        &mut self,
        key: &(CallKey, Hop),
        which: impl FnOnce(&mut VecDeque<(u64, Seen)>) -> Option<(u64, Seen)>,
    ) -> Option<(u64, Seen)> {
        let waiting = self.waiting.get_mut(key)?;
        let found = which(waiting);
        if waiting.is_empty() {
            self.waiting.remove(key);
        }
        found
    }
}

fn joined(seen: Seen, server: Option<Seen>) -> TapLine {
    let mut line = TapLine {
        request: seen.record,
        server: None,
        attempts: seen.attempts,
        request_headers: seen.request_headers,
        response_headers: seen.response_headers,
    };
    let Some(server) = server.map(|server| server.record) else { return line };
    let request = &mut line.request;
    request.peer = server.peer;
    request.policy = request.policy.take().or(server.policy);
    // The caller's sidecar knows what came back, the other why.
    if !server.reason.is_empty() {
        (request.reason, request.remedy) = (server.reason, server.remedy);
    }
    line.server = Some(TapServer {
        workload: server.workload,
        status: server.status,
        route: server.route,
        duration_ms: server.duration_ms,
    });
    line
}

#[cfg(test)]
mod tests {
    use weft_api::rest::RequestRecord;

    use super::*;

    fn seen(hop: Hop, id: &str, status: u16) -> Seen {
        let (source, destination) = (Some("shop/web".to_owned()), Some("shop/cart".to_owned()));
        let workload = if hop == Hop::Outbound { "shop/web-1" } else { "shop/cart-1" };
        let record = RequestRecord {
            id: id.to_owned(),
            hop,
            source,
            destination,
            workload: workload.to_owned(),
            status: Some(status),
            peer: (hop == Hop::Inbound).then(|| "spiffe://m/ns/shop/svc/web".to_owned()),
            ..RequestRecord::default()
        };
        Seen { record, ..Seen::default() }
    }

    #[test]
    fn both_sides_of_a_request_are_one_line_whichever_comes_first() {
        let (mut pairing, now) = (Pairing::default(), Instant::now());
        for (first, second) in [(Hop::Outbound, Hop::Inbound), (Hop::Inbound, Hop::Outbound)] {
            assert_eq!(pairing.add(now, seen(first, "r", 200)), None);
            let line = pairing.add(now, seen(second, "r", 200)).unwrap();
            assert_eq!((line.request.hop, &*line.request.workload), (Hop::Outbound, "shop/web-1"));
            assert_eq!(line.request.peer.as_deref(), Some("spiffe://m/ns/shop/svc/web"));
            assert_eq!(line.server.unwrap().workload, "shop/cart-1");
        }
        assert_eq!(pairing.next_due(now + PATIENCE), None);
        assert!(pairing.waiting.is_empty() && pairing.order.is_empty());
    }

    #[test]
    fn answer_that_the_caller_got_is_the_last_one_and_those_before_are_lines_of_their_own() {
        let (mut pairing, now) = (Pairing::default(), Instant::now());
        for status in [503, 200] {
            assert_eq!(pairing.add(now, seen(Hop::Inbound, "r", status)), None);
        }
        let line = pairing.add(now, seen(Hop::Outbound, "r", 200)).unwrap();
        assert_eq!(line.server.unwrap().status, Some(200));
        let alone = pairing.next_due(now + PATIENCE).unwrap();
        assert_eq!((alone.request.hop, alone.request.status), (Hop::Inbound, Some(503)));
    }

    #[test]
    fn one_side_alone_goes_on_after_a_while_and_where_too_many_wait_at_once() {
        let (mut pairing, now) = (Pairing::default(), Instant::now());
        assert_eq!(pairing.add(now, seen(Hop::Outbound, "r", 200)), None);
        assert_eq!(pairing.next_due(now), None);
        assert_eq!(pairing.next_due(now + PATIENCE).unwrap().request.id, "r");
        let lines = (0..=MOST).filter_map(|n| pairing.add(now, seen(Hop::Outbound, &n.to_string(), 200)));
        assert_eq!(lines.map(|line| line.request.id).collect::<Vec<_>>(), ["0"]);
    }
}
