//! The session against a scripted client. Test names carry the ids of the rules that they hold down.

mod blocked_set;
mod bounds;
mod ordering;
mod refusal;
mod subscribing;

use std::sync::Arc;
use std::time::{Duration, Instant};

use weft_api::resource::{Resource, ResourceKey, ResourceKind};

use super::*;
use crate::view::{Changes, Layer, View};
use crate::wire::{
    DeltaDiscoveryRequest, DeltaDiscoveryResponse, DiscoveryRequest, DiscoveryResponse, Status,
};
use ResourceKind::{Cluster, Endpoint, Listener, Route, Secret, VirtualHost};

fn refs(kind: ResourceKind, names: &[&str]) -> Vec<ResourceKey> {
    names.iter().map(|name| ResourceKey::new(kind, *name)).collect()
}

fn resource(kind: ResourceKind, name: &str, body: &str) -> Arc<Resource> {
    Resource::new(kind, name, body.to_owned(), vec![])
}

/// A cluster that takes its endpoints from the assignment of its own name.
fn cluster(name: &str, body: &str) -> Arc<Resource> {
    Resource::new(Cluster, name, body.to_owned(), refs(Endpoint, &[name]))
}

fn endpoints(name: &str, body: &str) -> Arc<Resource> {
    resource(Endpoint, name, body)
}

fn route(name: &str, body: &str, clusters: &[&str]) -> Arc<Resource> {
    Resource::new(Route, name, format!("{body} {clusters:?}"), refs(Cluster, clusters))
}

fn names(list: &[&str]) -> Vec<String> {
    list.iter().map(|name| (*name).to_owned()).collect()
}

/// One stream, the layer that it shows, and a clock that only moves when told to.
struct Stream {
    session: Session,
    layer: Layer,
    revision: u64,
    now: Instant,
}

impl Stream {
    fn new(variant: Variant, served: ServedTypes) -> Self {
        Self { session: Session::new(variant, served), layer: Layer::new(), revision: 0, now: Instant::now() }
    }

    fn delta() -> Self {
        let mut stream = Self::new(Variant::Delta, ServedTypes::Aggregated);
        stream.publish(&[]);
        stream
    }

    fn sotw() -> Self {
        let mut stream = Self::new(Variant::Sotw, ServedTypes::Aggregated);
        stream.publish(&[]);
        stream
    }

    fn show(&mut self, changes: Changes) {
        self.revision += 1;
        let view = View::new(self.revision, vec![Arc::new(self.layer.clone())]);
        self.session.on_update(view, changes);
    }

    fn publish(&mut self, resources: &[Arc<Resource>]) {
        for resource in resources {
            self.layer.insert(resource.clone());
        }
        self.show(Changes::Keys(resources.iter().map(|resource| resource.key()).collect()));
    }

    fn withdraw(&mut self, keys: &[(ResourceKind, &str)]) {
        for (kind, name) in keys {
            self.layer.remove(*kind, name);
        }
        self.show(Changes::Keys(keys.iter().map(|(kind, name)| ResourceKey::new(*kind, *name)).collect()));
    }

    fn subscribe(&mut self, kind: ResourceKind, subscribe: &[&str]) {
        self.ask(
            kind,
            DeltaDiscoveryRequest { resource_names_subscribe: names(subscribe), ..Default::default() },
        );
    }

    fn unsubscribe(&mut self, kind: ResourceKind, unsubscribe: &[&str]) {
        self.ask(
            kind,
            DeltaDiscoveryRequest { resource_names_unsubscribe: names(unsubscribe), ..Default::default() },
        );
    }

    fn ask(&mut self, kind: ResourceKind, mut request: DeltaDiscoveryRequest) {
        request.type_url = kind.type_url().to_owned();
        self.session.on_request(ClientMessage::Delta(request)).unwrap();
    }

    fn ack(&mut self, response: &DeltaDiscoveryResponse) {
        let kind = ResourceKind::from_type_url(&response.type_url).unwrap();
        self.ask(
            kind,
            DeltaDiscoveryRequest { response_nonce: response.nonce.clone(), ..Default::default() },
        );
    }

    fn nack(&mut self, response: &DeltaDiscoveryResponse, message: &str) {
        let kind = ResourceKind::from_type_url(&response.type_url).unwrap();
        let error_detail = Some(Status { code: 3, message: message.into(), details: vec![] });
        let response_nonce = response.nonce.clone();
        self.ask(kind, DeltaDiscoveryRequest { response_nonce, error_detail, ..Default::default() });
    }

    fn poll(&mut self) -> Option<DeltaDiscoveryResponse> {
        match self.session.poll(self.now)? {
            ServerMessage::Delta(response) => Some(response),
            ServerMessage::Sotw(_) => panic!("a delta stream answered in the other variant"),
        }
    }

    fn next(&mut self) -> DeltaDiscoveryResponse {
        self.poll().expect("a response is due")
    }

    #[track_caller]
    fn expect(&mut self, kind: ResourceKind, added: &[&str], removed: &[&str]) -> DeltaDiscoveryResponse {
        let response = self.next();
        assert_eq!(response.type_url, kind.type_url());
        assert_eq!(
            response.resources.iter().map(|resource| &*resource.name).collect::<Vec<_>>(),
            added,
            "added"
        );
        assert_eq!(response.removed_resources, removed, "removed");
        response
    }

    #[track_caller]
    fn expect_acked(&mut self, kind: ResourceKind, added: &[&str], removed: &[&str]) {
        let response = self.expect(kind, added, removed);
        self.ack(&response);
    }

    #[track_caller]
    fn expect_nothing(&mut self) {
        assert_eq!(self.poll(), None);
    }

    /// Answers everything until the server has nothing more to say.
    fn settle(&mut self) {
        for _ in 0..100 {
            let Some(response) = self.poll() else { return };
            self.ack(&response);
        }
        panic!("the server does not come to rest");
    }

    fn wait(&mut self, time: Duration) {
        self.now += time;
    }

    fn events(&mut self) -> Vec<SessionEvent> {
        std::iter::from_fn(|| self.session.next_event()).collect()
    }

    // State of the world.

    fn list(&mut self, kind: ResourceKind, list: &[&str], nonce: &str) {
        let request = DiscoveryRequest {
            resource_names: names(list),
            response_nonce: nonce.into(),
            type_url: kind.type_url().into(),
            ..Default::default()
        };
        self.session.on_request(ClientMessage::Sotw(request)).unwrap();
    }

    fn list_refusing(&mut self, kind: ResourceKind, list: &[&str], nonce: &str, message: &str) {
        let request = DiscoveryRequest {
            resource_names: names(list),
            response_nonce: nonce.into(),
            type_url: kind.type_url().into(),
            error_detail: Some(Status { code: 3, message: message.into(), details: vec![] }),
            ..Default::default()
        };
        self.session.on_request(ClientMessage::Sotw(request)).unwrap();
    }

    fn poll_sotw(&mut self) -> Option<DiscoveryResponse> {
        match self.session.poll(self.now)? {
            ServerMessage::Sotw(response) => Some(response),
            ServerMessage::Delta(_) => panic!("a state-of-the-world stream answered in the other variant"),
        }
    }

    #[track_caller]
    fn expect_sotw(&mut self, kind: ResourceKind, bodies: &[&str]) -> DiscoveryResponse {
        let response = self.poll_sotw().expect("a response is due");
        assert_eq!(response.type_url, kind.type_url());
        let found: Vec<_> =
            response.resources.iter().map(|any| std::str::from_utf8(&any.value).unwrap()).collect();
        assert_eq!(found, bodies);
        response
    }
}
