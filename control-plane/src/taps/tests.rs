use weft_api::rest::RequestRecord;

use super::*;

fn seen(destination: &str) -> Seen {
    let record = RequestRecord {
        destination: Some(destination.to_owned()),
        status: Some(200),
        ..RequestRecord::default()
    };
    Seen { record, request_headers: [("via".to_owned(), "1.1 x".to_owned())].into(), ..Seen::default() }
}

fn to(destination: &str) -> TapFilter {
    TapFilter { destination: Some(destination.parse().unwrap()), ..TapFilter::default() }
}

#[tokio::test]
async fn viewers_get_what_they_want_and_what_finds_no_room_is_counted() {
    let taps = Taps::default();
    let mut cart = taps.open(to("shop/cart")).unwrap();
    let _front = taps.open(to("shop/front")).unwrap();
    for _ in 0..WAITING + 10 {
        taps.tell(&seen("shop/cart"), 1.0);
    }
    for _ in 0..WAITING {
        let Some(ViewerNews::Seen(seen)) = cart.next().await else { panic!("it is shown") };
        assert!(seen.request_headers.is_empty(), "no header is asked for");
    }
    taps.tell(&seen("shop/cart"), 3.0);
    assert!(matches!(cart.next().await, Some(ViewerNews::Seen(_))));
    let Some(ViewerNews::NotShown { hop: Hop::Outbound, requests }) = cart.next().await else {
        panic!("a count")
    };
    assert!((requests - 12.0).abs() < 1e-9, "{requests}");
}

#[tokio::test]
async fn tap_ends_with_its_viewer_and_when_nothing_is_taken() {
    let taps = Taps::default();
    let wanted = taps.wanted();
    let tap = taps.open(to("shop/cart")).unwrap();
    let mut unread = taps.open(to("shop/front")).unwrap();
    assert_eq!(wanted.borrow().len(), 2);
    drop(tap);
    assert_eq!(wanted.borrow().len(), 1);
    taps.end_unread(Instant::now() + LEASE / 2);
    assert_eq!(wanted.borrow().len(), 1);
    taps.end_unread(Instant::now() + LEASE);
    assert_eq!(wanted.borrow().len(), 0);
    assert!(unread.next().await.is_none());
}

#[test]
fn taps_are_bounded() {
    let taps = Taps::default();
    let open: Vec<_> = (0..MOST).map(|_| taps.open(TapFilter::default()).unwrap()).collect();
    assert_eq!(taps.open(TapFilter::default()).unwrap_err(), TooManyTaps);
    drop(open);
    taps.open(TapFilter::default()).unwrap();
}

#[test]
fn sidecars_are_asked_on_the_side_that_knows() {
    let filter = TapFilter { source: Some("shop/web".parse().unwrap()), ..to("shop/cart") };
    let selecting = "apiVersion: weft.dev/v1\nkind: Service\nmetadata: {name: cart, namespace: shop}\n\
                     spec: {ports: [{name: http, port: 80, protocol: HTTP}], selector: {matchLabels: {app: cart}}}\n";
    let sides = |service: &str, set: &PolicySet| {
        let (service, workload) = (service.parse().unwrap(), format!("{service}-1").parse().unwrap());
        let Sides { outbound, inbound } = Sides::of(&filter, &workload, &service, set);
        (outbound, inbound)
    };
    let set = PolicySet::default();
    assert_eq!(sides("shop/web", &set), (true, false));
    assert_eq!(sides("shop/cart", &set), (false, true));
    assert_eq!(sides("pay/bank", &set), (false, false));
    let set = PolicySet::default().apply(&weft_policies::parse("test", selecting).unwrap()).unwrap().set;
    assert_eq!(sides("shop/web", &set), (true, true), "the service may select it");
    assert_eq!(sides("pay/bank", &set), (false, false));
}
