//! Which requests begin a trace, by Envoy's rules.

use http::{HeaderMap, HeaderName};

use crate::fraction::Fraction;

const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
const CLIENT_TRACE_ID: HeaderName = HeaderName::from_static("x-client-trace-id");
/// A UUID as text, and the digit of it by which an Envoy before this proxy says what it decided.
const UUID_LENGTH: usize = 36;
const DECIDED: usize = 14;
/// The digits of a request's id that decide, and how many parts they are counted in.
const DECIDING: usize = 8;
const PARTS: u64 = 10_000;
/// How many of a [`Fraction`]'s parts one of those is.
const PER_PART: u64 = 100;

/// How many requests begin a trace.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sampling {
    /// Of those that have `x-client-trace-id`.
    pub(crate) client: Fraction,
    pub(crate) random: Fraction,
    /// Of those that the others have chosen.
    pub(crate) overall: Fraction,
    /// `use_request_id_for_trace_sampling`: the request's id decides, so that all hops decide alike. Else all do.
    pub(crate) by_request_id: bool,
}

/// What a route says instead; what it leaves out is everything, as in Envoy.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct RouteSampling(pub(crate) Option<[Fraction; 3]>);

/// Why a trace begins, or that none does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum TraceReason {
    Client,
    Service,
    Random,
    NotTraceable,
}

impl Sampling {
    /// What is decided of a request with these headers, where its route says this.
    pub(crate) fn decide(&self, route: RouteSampling, headers: &HeaderMap) -> TraceReason {
        if !self.by_request_id {
            return TraceReason::Random;
        }
        let [client, random, overall] = route.0.unwrap_or([self.client, self.random, self.overall]);
        let id = headers.get(&REQUEST_ID).map(|id| id.as_bytes()).unwrap_or_default();
        let Some(part) = part(id) else { return TraceReason::NotTraceable };
        let reason = match id.get(DECIDED).filter(|_| id.len() == UUID_LENGTH) {
            Some(b'9') => TraceReason::Random,
            Some(b'a') => TraceReason::Service,
            Some(b'b') => TraceReason::Client,
            Some(_) | None if headers.contains_key(&CLIENT_TRACE_ID) && client.holds(part) => {
                TraceReason::Client
            }
            Some(_) | None if random.holds(part) => TraceReason::Random,
            Some(_) | None => TraceReason::NotTraceable,
        };
        if overall.holds(part) { reason } else { TraceReason::NotTraceable }
    }
}

/// Where among all requests the one with this id is, in parts of a [`Fraction`].
fn part(id: &[u8]) -> Option<u64> {
    let digits = std::str::from_utf8(id.get(..DECIDING)?).ok()?;
    let number = u64::from_str_radix(digits, 16).ok()?;
    Some(number % PARTS * PER_PART)
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: Sampling = Sampling {
        client: Fraction::NONE,
        random: Fraction::ALL,
        overall: Fraction::ALL,
        by_request_id: true,
    };

    fn with_id(id: &str) -> HeaderMap {
        HeaderMap::from_iter([(REQUEST_ID, id.parse().unwrap())])
    }

    #[test]
    fn a_share_of_ids_is_that_share_of_requests() {
        let tenth = Sampling { random: Fraction::of_percent(10.0), ..ALL };
        let traced = (0..100_000_u32).filter(|id| {
            let id = format!("{:08x}-0000-4000-8000-000000000000", id.wrapping_mul(0x9e37_79b9));
            tenth.decide(RouteSampling::default(), &with_id(&id)) == TraceReason::Random
        });
        let traced = traced.count();
        assert!((9_500..10_500).contains(&traced), "{traced}");
    }

    #[test]
    fn a_route_decides_in_the_managers_place() {
        let headers = with_id("00000001-0000-4000-8000-000000000000");
        let none = RouteSampling(Some([Fraction::ALL, Fraction::NONE, Fraction::ALL]));
        assert_eq!(ALL.decide(RouteSampling::default(), &headers), TraceReason::Random);
        assert_eq!(ALL.decide(none, &headers), TraceReason::NotTraceable);
        let mut by_client = headers.clone();
        by_client.insert(CLIENT_TRACE_ID, "1".parse().unwrap());
        assert_eq!(ALL.decide(none, &by_client), TraceReason::Client);
    }

    #[test]
    fn an_id_that_tells_nothing_begins_no_trace() {
        for id in ["", "short", "no-digits"] {
            let headers = HeaderMap::from_iter([(REQUEST_ID, id.parse().unwrap())]);
            assert_eq!(ALL.decide(RouteSampling::default(), &headers), TraceReason::NotTraceable, "{id}");
        }
        let forced = with_id("00000001-0000-a000-8000-000000000000");
        let none = Sampling { random: Fraction::NONE, ..ALL };
        assert_eq!(none.decide(RouteSampling::default(), &forced), TraceReason::Service);
        let limited = Sampling { overall: Fraction::NONE, ..none };
        assert_eq!(limited.decide(RouteSampling::default(), &forced), TraceReason::NotTraceable);
    }
}
