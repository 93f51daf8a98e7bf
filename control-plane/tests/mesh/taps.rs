//! Taps from outside: what sidecars are told to tell, and what viewers are shown of it.

use std::net::SocketAddr;

use envoy_types::pb::envoy::config::core::v3::RequestMethod;
use envoy_types::pb::envoy::data::accesslog::v3::{
    AccessLogCommon, HttpAccessLogEntry, HttpRequestProperties, HttpResponseProperties,
};
use envoy_types::pb::envoy::service::runtime::v3::Runtime;
use envoy_types::pb::google::protobuf::UInt32Value;
use prost::Message as _;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Streaming;
use weft_api::ResourceKind;
use weft_api::client::{TapFeed, TapNews, TapQuery};
use weft_api::rest::TapLine;
use weft_api::tapping::tap_service_client::TapServiceClient;
use weft_api::tapping::{NotShown, TapOrder, TapReport, TappedRequest};

use crate::peer::{Member, declared, join};
use crate::plane::{DEADLINE, Plane, problem, service};
use crate::proxy::{Delta, Sidecar};

/// A weft-proxy's end of taps.
struct TappedProxy {
    reports: mpsc::Sender<TapReport>,
    orders: Streaming<TapOrder>,
}

impl TappedProxy {
    async fn open(member: &Member, control_plane: SocketAddr) -> Self {
        let (reports, outgoing) = mpsc::channel(4);
        let mut client = TapServiceClient::new(member.channel(control_plane).await);
        let orders = client.tap(ReceiverStream::new(outgoing)).await.unwrap().into_inner();
        Self { reports, orders }
    }

    async fn order(&mut self) -> TapOrder {
        let order = tokio::time::timeout(DEADLINE, self.orders.message());
        order.await.expect("an order in time").unwrap().unwrap()
    }

    async fn tell(&self, requests: &[(&str, u32)], not_shown: Vec<NotShown>) {
        let tapped = |(id, status): &(&str, u32)| TappedRequest { inbound: false, entry: entry(id, *status) };
        let requests = requests.iter().map(tapped).collect();
        self.reports.send(TapReport { requests, not_shown }).await.unwrap();
    }
}

/// A call to the cart, with a header that may be shown and one that may not.
fn entry(id: &str, status: u32) -> Vec<u8> {
    let headers = [("via", "1.1 x"), ("cookie", "secret")].map(|(name, value)| (name.into(), value.into()));
    let entry = HttpAccessLogEntry {
        common_properties: Some(AccessLogCommon {
            upstream_cluster: "shop/cart/http".to_owned(),
            ..AccessLogCommon::default()
        }),
        request: Some(HttpRequestProperties {
            request_method: RequestMethod::Get.into(),
            path: "/items?token=secret".to_owned(),
            request_id: id.to_owned(),
            request_headers: headers.into(),
            ..HttpRequestProperties::default()
        }),
        response: Some(HttpResponseProperties {
            response_code: Some(UInt32Value { value: status }),
            ..HttpResponseProperties::default()
        }),
        ..HttpAccessLogEntry::default()
    };
    entry.encode_to_vec()
}

async fn line(feed: &mut TapFeed) -> TapLine {
    loop {
        match news(feed).await {
            TapNews::Request(line) => return *line,
            TapNews::Listening(_) | TapNews::NotShown(_) => {}
        }
    }
}

async fn news(feed: &mut TapFeed) -> TapNews {
    tokio::time::timeout(DEADLINE, feed.next()).await.expect("news in time").unwrap().unwrap()
}

fn to_cart() -> TapQuery {
    TapQuery { destination: Some("shop/cart".to_owned()), ..TapQuery::default() }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_weft_proxy_is_told_what_is_wanted_and_what_it_tells_is_shown() {
    let plane = Plane::start().await;
    plane.apply(&(service("web") + &service("cart"))).await;
    let token = plane.join_token("shop/web").await;
    let web = join(&token, declared("web-1", "10.0.0.1")).await.unwrap();
    let mut sidecar = Sidecar::start(&web, plane.running.xds).await;
    sidecar.until("a listener", |held| Sidecar::has(held, ResourceKind::Listener, "inbound")).await;
    let _going_on = sidecar.go_on();
    let mut proxy = TappedProxy::open(&web, plane.running.xds).await;
    let wanted = TapQuery {
        status: Some("5xx".to_owned()),
        headers: vec!["via".to_owned()],
        method: Some("get".to_owned()),
        ..to_cart()
    };
    let mut feed = plane.client.tap(&wanted).await.unwrap();
    let TapNews::Listening(listening) = news(&mut feed).await else { panic!("who is heard comes first") };
    assert_eq!((listening.heard, listening.unheard), (1, vec![]));
    let order = proxy.order().await;
    let [tap] = &order.taps[..] else { panic!("{order:?}") };
    assert!(order.lease_ms >= 5_000 && tap.outbound && !tap.inbound, "{order:?}");
    let asked = (&*tap.destination, &*tap.method, tap.least_status, tap.most_status);
    assert_eq!(asked, ("shop/cart", "GET", 500, 599));
    // What it tells beside is looked at again.
    proxy.tell(&[("well", 200), ("failed", 503)], Vec::new()).await;
    let shown = line(&mut feed).await;
    assert_eq!((&*shown.request.id, shown.request.status), ("failed", Some(503)));
    assert_eq!(shown.request.path.as_deref(), Some("/items"), "no query is shown");
    assert_eq!(shown.request_headers, [("via".to_owned(), "1.1 x".to_owned())].into());
    let not_shown = NotShown { tap: tap.id.clone(), inbound: false, requests: 41 };
    proxy.tell(&[], vec![not_shown]).await;
    loop {
        if let TapNews::NotShown(count) = news(&mut feed).await {
            assert_eq!(count.requests, 41);
            break;
        }
    }
    drop(feed);
    while !proxy.order().await.taps.is_empty() {}
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_envoys_runtime_is_raised_for_a_tap_and_answered_at_once_without_one() {
    let plane = Plane::start().await;
    plane.apply(&(service("web") + &service("cart"))).await;
    let token = plane.join_token("shop/web").await;
    let web = join(&token, declared("web-1", "10.0.0.1")).await.unwrap();
    let mut stream = Delta::open(&web, plane.running.xds).await;
    stream.subscribe(ResourceKind::Runtime, &["weft"]).await;
    let keys = |body: &[u8]| {
        let fields = Runtime::decode(body).unwrap().layer.unwrap().fields;
        let mut keys: Vec<_> = fields.into_keys().collect();
        keys.sort();
        keys
    };
    let mut next = async || {
        let response = stream.expect(ResourceKind::Runtime).await;
        stream.ack(&response).await;
        keys(&response.resources[0].resource.as_ref().unwrap().value)
    };
    assert_eq!(next().await, [] as [&str; 0]);
    let query = TapQuery { source: Some("shop/web".to_owned()), ..to_cart() };
    let feed = plane.client.tap(&query).await.unwrap();
    assert_eq!(next().await, ["weft.tap.outbound"]);
    drop(feed);
    assert_eq!(next().await, [] as [&str; 0]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn viewers_are_bounded_need_the_token_and_name_what_is_there() {
    let plane = Plane::start().await;
    plane.apply(&(service("web") + &service("cart"))).await;
    let (status, _, _) = plane.raw("GET", "/v1/taps", None, Vec::new()).await;
    assert_eq!(status, 401);
    let mut feeds = Vec::new();
    for _ in 0..16 {
        feeds.push(plane.client.tap(&to_cart()).await.unwrap());
    }
    let refused = problem(plane.client.tap(&to_cart()).await);
    assert_eq!((refused.status, &*refused.code), (503, "too_many_taps"));
    assert!(plane.metrics().await.contains("weft_limited_total{limit=\"tap_viewers\"} 1"));
    drop(feeds.pop());
    let again = async {
        while plane.client.tap(&to_cart()).await.is_err() {
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(DEADLINE, again).await.expect("a place is free again");
    drop(feeds);
    let typo = TapQuery { destination: Some("shop/crat".to_owned()), ..TapQuery::default() };
    let refused = problem(plane.client.tap(&typo).await);
    assert!(refused.detail.contains("did you mean shop/cart?"), "{refused:?}");
    let secret = TapQuery { headers: vec!["Authorization".to_owned()], ..to_cart() };
    assert!(problem(plane.client.tap(&secret).await).detail.contains("authorization are secrets"));
}
