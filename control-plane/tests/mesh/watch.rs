//! Objects as they change, and going on where a connection was lost.

use weft_api::client::{ObjectEvent, ObjectEvents};
use weft_api::rest::{ObjectChanges, Outcome};

use crate::plane::{DEADLINE, Plane, problem, route, service};

async fn next(events: &mut ObjectEvents) -> ObjectEvent {
    let event = tokio::time::timeout(DEADLINE, events.next()).await.expect("an event in time");
    event.unwrap().expect("the stream goes on")
}

async fn changes(events: &mut ObjectEvents) -> ObjectChanges {
    match next(events).await {
        ObjectEvent::Changes(changes) => changes,
        other => panic!("{other:?}"),
    }
}

fn told(changes: &ObjectChanges) -> (u64, Vec<(Outcome, &str)>) {
    (changes.revision, changes.documents.iter().map(|one| (one.outcome, one.name.as_str())).collect())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_watcher_is_told_of_each_change_once_and_goes_on_where_it_was() {
    let plane = Plane::start().await;
    plane.apply(&service("web")).await;
    let mut events = plane.client.watch("services", None, None).await.unwrap();
    let ObjectEvent::Snapshot(list) = next(&mut events).await else { panic!("no snapshot") };
    assert_eq!((list.revision, list.items.len()), (1, 1));

    plane.apply(&(service("cart") + &service("web").replace("port: 80", "port: 81"))).await;
    assert_eq!(
        told(&changes(&mut events).await),
        (2, vec![(Outcome::Created, "cart"), (Outcome::Updated, "web")])
    );
    // What is of another kind is nobody's here.
    plane.apply(&route("cart", "cart")).await;
    plane.client.delete("httproutes", "shop", "cart").await.unwrap();
    plane.client.delete("services", "shop", "cart").await.unwrap();
    let last = changes(&mut events).await;
    assert_eq!(told(&last), (5, vec![(Outcome::Deleted, "cart")]));
    assert!(last.documents[0].object.is_none());
    drop(events);

    plane.apply(&service("more")).await;
    let mut again = plane.client.watch("svc", Some("shop"), Some(5)).await.unwrap();
    assert_eq!(told(&changes(&mut again).await), (6, vec![(Outcome::Created, "more")]));
    let mut elsewhere = plane.client.watch("services", Some("other"), Some(0)).await.unwrap();
    let quiet = tokio::time::timeout(std::time::Duration::from_millis(300), elsewhere.next()).await;
    assert!(quiet.is_err(), "nothing of that namespace changed: {quiet:?}");

    assert_eq!(problem(plane.client.watch("pods", None, None).await.map(drop)).status, 404);
    assert_eq!(problem(plane.client.watch("services", None, Some(99)).await.map(drop)).status, 404);
}
