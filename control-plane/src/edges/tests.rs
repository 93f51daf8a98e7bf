use std::time::Duration;

use weft_api::EdgeStatistic::{self, *};
use weft_api::rest::{Edge, EdgeProtocol, EdgeState};

use super::latencies::Latencies;
use super::*;

fn id(text: &str) -> WorkloadId {
    text.parse().unwrap()
}

fn moment(start: Instant, after: Duration) -> Moment {
    let millis = u64::try_from(after.as_millis()).unwrap();
    Moment { at: start + after, millis: 1_700_000_000_000 + millis }
}

fn web() -> ServiceId {
    "shop/web".parse().unwrap()
}

fn sample(figures: &[(EdgeStatistic, f64)]) -> Sample {
    let secured = Sample::default().with(Connections, 1.0).with(Handshakes, 1.0);
    figures.iter().fold(secured, |sample, (statistic, value)| sample.with(*statistic, *value))
}

/// So many requests that were answered, half of them within 1 ms and half within 10.
fn answered(requests: u32) -> Sample {
    let half = u64::from(requests / 2);
    let latencies = Latencies::read([(1.0, half), (10.0, u64::from(requests))], u64::from(requests));
    let requests = f64::from(requests);
    Sample { latencies, ..sample(&[(Begun, requests), (Completed, requests)]) }
}

/// One caller and one destination, by seconds since it began.
struct One {
    edges: Edges,
    start: Instant,
    cluster: &'static str,
}

impl One {
    fn new(cluster: &'static str) -> Self {
        Self { edges: Edges::default(), start: Instant::now(), cluster }
    }

    fn report(&self, second: u64, sample: Sample) {
        let at = moment(self.start, Duration::from_secs(second));
        self.edges.record(at, &id("shop/web-1"), &web(), [(EdgeTarget::named(self.cluster), sample)]);
    }

    fn edge(&self, second: u64) -> Edge {
        self.listed(second, EdgesBy::Subset).remove(0)
    }

    fn listed(&self, second: u64, by: EdgesBy) -> Vec<Edge> {
        shown(&self.edges.flows(self.start + Duration::from_secs(second)), by)
    }
}

#[test]
fn two_callers_of_one_service_make_one_edge() {
    let (edges, start) = (Edges::default(), Instant::now());
    for (at, requests) in [(0, 0), (10, 100)] {
        for workload in ["shop/web-1", "shop/web-2"] {
            let sample = answered(requests).with(ServerErrors, f64::from(requests) / 10.0).with(Open, 3.0);
            let samples = [(EdgeTarget::named("shop/cart/http"), sample)];
            edges.record(moment(start, Duration::from_secs(at)), &id(workload), &web(), samples);
        }
    }
    let list = shown(&edges.flows(start + Duration::from_secs(10)), EdgesBy::Subset);
    let [edge] = &list[..] else { panic!("{list:?}") };
    assert_eq!((&*edge.source, &*edge.destination, &*edge.port), ("shop/web", "shop/cart", "http"));
    assert!((edge.rate - 20.0).abs() < 1e-9, "{edge:?}");
    assert!((edge.success.unwrap() - 0.9).abs() < 1e-9 && (edge.failed.unwrap() - 0.1).abs() < 1e-9);
    assert_eq!((edge.open, edge.mtls, edge.state), (6, true, EdgeState::Failing));
    let (p50, p90, p99) = (edge.p50_ms.unwrap(), edge.p90_ms.unwrap(), edge.p99_ms.unwrap());
    assert!(p50 <= 1.0 && 5.0 < p90 && p90 < p99 && p99 < 10.0, "{edge:?}");
}

#[test]
fn hung_server_is_silent_and_no_success() {
    let one = One::new("shop/cart/http");
    one.report(0, answered(0));
    one.report(5, answered(50));
    // From here on nothing is answered, and 10 a second come.
    for (at, begun) in [(10, 100.0), (15, 150.0), (20, 200.0), (25, 250.0)] {
        one.report(at, sample(&[(Begun, begun), (Completed, 50.0), (Open, begun - 50.0)]));
    }
    let edge = one.edge(25);
    assert_eq!((edge.state, edge.open, edge.rate), (EdgeState::Silent, 200, 0.0));
    assert_eq!((edge.success, edge.failed, edge.denied, edge.p50_ms), (None, None, None, None));
    one.report(30, answered(100).with(Begun, 300.0).with(Open, 200.0));
    let edge = one.edge(30);
    assert_eq!((edge.state, edge.success), (EdgeState::Flowing, Some(1.0)), "it answers again");
}

#[test]
fn callers_that_give_up_do_not_hide_a_hung_server() {
    let one = One::new("shop/cart/http");
    for (at, begun) in [(0, 0.0), (5, 50.0), (10, 100.0), (15, 150.0)] {
        // Each waits for a second: what was begun earlier is gone without an answer.
        one.report(at, sample(&[(Begun, begun), (Completed, 0.0), (Open, if at == 0 { 0.0 } else { 10.0 })]));
    }
    assert_eq!((one.edge(15).state, one.edge(15).success), (EdgeState::Silent, None));
}

#[test]
fn stream_that_has_its_answers_head_is_not_silent() {
    let one = One::new("shop/cart/grpc");
    one.report(0, sample(&[]));
    for at in [5, 10, 15, 20, 25, 30] {
        one.report(at, sample(&[(Begun, 1.0), (Completed, 1.0), (Open, 1.0)]));
    }
    assert_eq!((one.edge(30).state, one.edge(30).open), (EdgeState::Flowing, 1));
}

#[test]
fn request_that_was_tried_again_is_one_and_its_retry_apart() {
    let one = One::new("shop/cart/http");
    one.report(0, answered(0));
    one.report(10, answered(100).with(Begun, 150.0).with(Retries, 50.0));
    let edge = one.edge(10);
    assert!((edge.rate - 10.0).abs() < 1e-9 && (edge.retries - 5.0).abs() < 1e-9, "{edge:?}");
    assert_eq!((edge.success, edge.state), (Some(1.0), EdgeState::Flowing));
}

#[test]
fn edge_whose_calls_are_all_refused_has_no_success() {
    let one = One::new("shop/cart/http");
    one.report(0, answered(0));
    one.report(10, answered(100).with(Denied, 100.0));
    let edge = one.edge(10);
    assert_eq!((edge.success, edge.failed, edge.denied), (Some(0.0), Some(0.0), Some(1.0)));
}

#[test]
fn connections_and_bytes_are_what_a_tcp_edge_has() {
    let one = One::new("shop/cart/db");
    let report = |at, connections, bytes| {
        // Envoy counts connections as requests too, and they never complete.
        let figures = [(Connections, connections), (Handshakes, connections), (Begun, connections)];
        let tcp = Sample { protocol: EdgeProtocol::Tcp, ..sample(&figures) };
        one.report(at, tcp.with(OpenConnections, 2.0).with(Open, 2.0).with(BytesSent, bytes));
    };
    report(0, 0.0, 0.0);
    report(10, 4.0, 1000.0);
    let edge = one.edge(10);
    assert_eq!((edge.protocol, edge.open, edge.state), (EdgeProtocol::Tcp, 2, EdgeState::Flowing));
    assert_eq!((edge.bytes_sent, edge.bytes_received), (Some(100.0), Some(0.0)));
    assert!((edge.rate - 0.4).abs() < 1e-9, "{edge:?}");
    assert_eq!((edge.success, edge.denied, edge.p50_ms), (Some(1.0), None, None));
    for at in [15, 20, 25, 30] {
        report(at, 4.0, 1000.0);
    }
    assert_eq!(one.edge(30).state, EdgeState::Idle, "open connections that carry nothing do not hang");
}

#[test]
fn server_that_cannot_be_connected_to_shows_as_failing() {
    let one = One::new("shop/cart/http");
    let unreached = |requests| {
        let figures = [(Completed, requests), (ServerErrors, requests), (Connections, requests)];
        sample(&figures).with(FailedConnections, requests).with(Handshakes, 0.0)
    };
    one.report(0, unreached(0.0));
    one.report(10, unreached(20.0));
    let edge = one.edge(10);
    assert_eq!((edge.failed, edge.state, edge.mtls), (Some(1.0), EdgeState::Failing, false));
}

#[test]
fn restart_of_a_proxy_does_not_count_backwards() {
    let one = One::new("shop/cart/http/v1");
    for (at, requests) in [(0, 1000), (5, 10), (10, 20)] {
        one.report(at, answered(requests));
    }
    let edge = one.edge(10);
    assert!((edge.rate - 2.0).abs() < 1e-9, "{edge:?}");
    assert_eq!(edge.subset.as_deref(), Some("v1"));
}

#[test]
fn one_plaintext_connection_shows() {
    let one = One::new("shop/cart/http");
    one.report(0, answered(1).with(Handshakes, 0.0));
    assert!(!one.edge(0).mtls);
}

#[test]
fn destinations_of_a_caller_are_bounded_and_unused_ones_take_no_room() {
    let edges = Edges::default();
    let now = moment(Instant::now(), Duration::ZERO);
    let made_up = |requests: u32| {
        let named = |n| EdgeTarget::named(&format!("shop/s{n}/http"));
        (0..2 * MOST_EDGES).map(move |n| (named(n), answered(requests)))
    };
    let unused = made_up(1).map(|(target, _)| (target, Sample::default()));
    assert_eq!(edges.record(now, &id("shop/web-1"), &web(), unused), Omitted::default());
    assert_eq!(edges.lock().by_workload[&id("shop/web-1")].windows.len(), 0);
    assert_eq!(edges.record(now, &id("shop/web-1"), &web(), made_up(1)).edges, MOST_EDGES);
    assert_eq!(edges.record(now, &id("shop/web-1"), &web(), made_up(2)).edges, MOST_EDGES);
    assert_eq!(edges.flows(now.at).wholes.len(), MOST_EDGES);
    assert_eq!(
        edges.record(now, &id("shop/web-2"), &web(), made_up(1).take(9)),
        Omitted::default(),
        "others have their own"
    );
}

#[test]
fn reports_that_come_too_fast_are_taken_together() {
    let one = One::new("shop/cart/http");
    for n in 0..3000_u32 {
        let latencies = Latencies::read([(1.0, 1)], 1);
        let sample = Sample { latencies, ..answered(n + 1) };
        let at = moment(one.start, Duration::from_millis(10) * n);
        one.edges.record(at, &id("shop/web-1"), &web(), [(EdgeTarget::named("shop/cart/http"), sample)]);
    }
    let callers = one.edges.lock();
    let window = callers.by_workload.values().flat_map(|caller| caller.windows.values()).next().unwrap();
    assert!((15..=18).contains(&window.len()), "{}", window.len());
    let flow = window.flow(one.start + Duration::from_secs(30)).unwrap();
    let rate = flow.events / flow.seconds;
    assert!((90.0..120.0).contains(&rate), "{rate}");
    let counted = flow.flown.latencies.count() as f64;
    assert!((flow.events - counted).abs() <= 101.0, "{counted} of {}", flow.events);
}

#[test]
fn destination_that_is_used_for_the_first_time_counts_from_the_report_before() {
    let one = One::new("shop/cart/http");
    one.report(0, Sample::default());
    one.report(5, answered(50));
    assert!((one.edge(5).rate - 10.0).abs() < 1e-9);
}

#[test]
fn series_tells_what_was_answered_and_what_hung() {
    let one = One::new("shop/cart/http");
    for at in 0..12_u32 {
        let (begun, so_far) = (f64::from(50 * at), 50 * at.min(6));
        let figures = [(Begun, begun), (Completed, f64::from(so_far)), (Open, begun - f64::from(so_far))];
        let latencies = if at > 6 { Latencies::default() } else { answered(so_far).latencies };
        one.report(u64::from(at) * 5, Sample { latencies, ..sample(&figures) });
    }
    let destination = "shop/cart".parse().unwrap();
    let selection = Selection {
        source: Some(web()),
        destination,
        port: None,
        subset: None,
        route: None,
        version: None,
        grain: FINE,
    };
    let series = |selection: &Selection, seconds| {
        let steps = Steps::until(1_700_000_058_000, FINE, seconds);
        shown_series(&one.edges.points(selection, steps.first), steps, FINE)
    };
    let nobody = Selection { source: Some("shop/nobody".parse().unwrap()), ..selection.clone() };
    assert_eq!(series(&nobody, 600).points, []);
    let last_ten = series(&selection, 10).points;
    let series = series(&selection, 600);
    assert_eq!(last_ten, series.points[series.points.len() - 2..]);
    let shown: Vec<_> =
        series.points.iter().map(|point| (point.at % 100_000, point.rate, point.open)).collect();
    let hung = |at, open| (at, 0.0, open);
    assert_eq!(shown[..3], [(0, 10.0, 0), (5, 10.0, 0), (10, 10.0, 0)]);
    assert_eq!(shown[7..], [hung(35, 50), hung(40, 100), hung(45, 150)], "{shown:?}");
    let (first, last) = (&series.points[0], series.points.last().unwrap());
    assert_eq!((first.success, first.failed, first.denied), (Some(1.0), Some(0.0), Some(0.0)));
    assert!(first.p50_ms <= first.p90_ms && first.p90_ms <= first.p99_ms && first.p99_ms.is_some());
    assert_eq!((last.success, last.p50_ms), (None, None), "what hangs is no success");
}

#[test]
fn rules_are_told_apart_when_that_is_asked_for() {
    let one = One::new("shop/cart/http");
    let rules = ["HTTPRoute/shop/canary/0", "HTTPRoute/shop/canary/1"];
    for (at, requests) in [(0, 0_u32), (5, 50), (10, 100), (15, 150), (20, 200)] {
        let at = moment(one.start, Duration::from_secs(at));
        let begun = f64::from(requests);
        let answers =
            Sample::of_rule().with(Begun, begun).with(Completed, begun).with(ServerErrors, begun / 2.0);
        let hangs = Sample::of_rule().with(Begun, begun);
        let [first, second] = rules.map(|rule| EdgeTarget::following("shop/cart/http", rule));
        let all = answered(requests).with(Begun, 2.0 * begun).with(Open, begun);
        let samples = [(EdgeTarget::named("shop/cart/http"), all), (first, answers), (second, hangs)];
        one.edges.record(at, &id("shop/web-1"), &web(), samples);
    }
    assert_eq!(one.listed(20, EdgesBy::Subset).len(), 1);
    let by_route = one.listed(20, EdgesBy::Route);
    let [first, second] = &by_route[..] else { panic!("{by_route:?}") };
    assert_eq!(first.route.as_deref(), Some("HTTPRoute shop/canary rule 0"));
    assert_eq!((first.rate, first.failed, first.mtls), (10.0, Some(0.5), true));
    assert_eq!(first.state, EdgeState::Failing);
    assert_eq!((second.state, second.success), (EdgeState::Silent, None), "nothing of that rule is answered");
    let selection = Selection {
        source: None,
        destination: "shop/cart".parse().unwrap(),
        port: None,
        subset: None,
        route: first.route.clone(),
        version: None,
        grain: FINE,
    };
    let events: u64 = one.edges.points(&selection, 0).values().map(Point::events).sum();
    assert_eq!(events, 200);
    let all = Selection { route: None, ..selection };
    assert_eq!(
        one.edges.points(&all, 0).values().map(Point::events).sum::<u64>(),
        200,
        "none is counted twice"
    );
}
