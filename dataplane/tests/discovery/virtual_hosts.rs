//! Virtual hosts that are resources of their own (VHDS), over delta ADS.

use std::sync::Arc;
use std::time::Duration;

use weft_api::{Resource, ResourceKind};
use weft_xds::server::SessionEvent;

use crate::harness::{self, Proxy, Server, application, free_port, get_from, soon};

const ROUTES: &str = "outbound/shop";

/// Everything but virtual hosts: two applications, and a listener whose routes take virtual hosts.
struct Base {
    listen: u16,
    one: u16,
    two: u16,
}

impl Base {
    async fn start() -> Self {
        Self { listen: free_port(), one: application("one").await, two: application("two").await }
    }

    /// With `hosts`, each with the cluster that it leads to and what else it says.
    fn with(&self, unknown: &str, hosts: &[(&str, &str, &str)]) -> Vec<Arc<Resource>> {
        let mut all = vec![
            harness::cluster("one", ""),
            harness::endpoints("one", self.one),
            harness::cluster("two", ""),
            harness::endpoints("two", self.two),
            harness::listener_with("web", self.listen, ROUTES),
            harness::routes_with_vhds(ROUTES, unknown),
        ];
        let hosts = hosts.iter();
        all.extend(hosts.map(|(domain, to, extra)| harness::virtual_host(ROUTES, domain, to, extra)));
        all
    }

    async fn answers(&self, host: &str, word: &str) {
        let answer = get_from(self.listen, host).await.unwrap();
        assert_eq!(answer, word, "{host}");
    }

    async fn comes_to_answer(&self, host: &str, word: &str) {
        soon(async {
            while get_from(self.listen, host).await.unwrap() != word {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        })
        .await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn virtual_hosts_come_change_and_go_one_by_one() {
    let base = Base::start().await;
    let mut server = Server::start().await;
    server.publish(&base.with("unknown", &[("a.test", "one", ""), ("b.test", "two", "")]));
    let proxy = Proxy::start(server.port(), "DELTA_GRPC", &[]);
    proxy.until_ready().await;
    base.answers("a.test", "one").await;
    base.answers("b.test", "two").await;
    base.answers("c.test", "unknown").await;

    server.publish(&base.with("unknown", &[("b.test", "one", ""), ("c.test", "two", "")]));
    base.comes_to_answer("c.test", "two").await;
    base.comes_to_answer("b.test", "one").await;
    base.comes_to_answer("a.test", "unknown").await;

    let refused = [("b.test", "two", "require_tls: ALL"), ("c.test", "one", "")];
    server.publish(&base.with("unknown", &refused));
    let words = soon(server.event(|event| match event {
        SessionEvent::Nacked { kind: ResourceKind::VirtualHost, message, .. } => Some(message.clone()),
        _ => None,
    }))
    .await;
    assert!(words.starts_with("outbound/shop/b.test: require_tls:"), "{words}");
    base.comes_to_answer("c.test", "one").await;
    base.answers("b.test", "one").await;
    let dump = proxy.admin("/config_dump?resource=dynamic_route_configs").await;
    for shown in ["unknown", "outbound/shop/c.test", "require_tls"] {
        assert!(dump.contains(shown), "{shown} in {dump}");
    }

    server.publish(&base.with("nobody", &refused));
    base.comes_to_answer("a.test", "nobody").await;
    base.answers("c.test", "one").await;
    let stats = proxy.admin("/stats?filter=vhds").await;
    assert!(!stats.contains("update_success: 0") && !stats.contains("update_rejected: 0"), "{stats}");
    assert_eq!(proxy.end().await, Some(0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answer_without_virtual_hosts_makes_the_listener_ready() {
    let base = Base::start().await;
    let mut server = Server::start().await;
    server.publish(&base.with("unknown", &[]));
    let proxy = Proxy::start(server.port(), "DELTA_GRPC", &[]);
    proxy.until_ready().await;
    base.answers("a.test", "unknown").await;
    server.publish(&base.with("unknown", &[("a.test", "one", "")]));
    base.comes_to_answer("a.test", "one").await;
    assert_eq!(proxy.end().await, Some(0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn routes_change_between_one_table_and_virtual_hosts_of_their_own_without_a_gap() {
    let base = Base::start().await;
    let mut server = Server::start().await;
    let mut table = base.with("unknown", &[]);
    table[5] = harness::routes(ROUTES, "one");
    server.publish(&table);
    let proxy = Proxy::start(server.port(), "DELTA_GRPC", &[]);
    proxy.until_ready().await;
    for _ in 0..3 {
        server.publish(&base.with("unknown", &[("a.test", "two", "")]));
        soon(async {
            loop {
                match get_from(base.listen, "a.test").await.unwrap().as_str() {
                    "two" => break,
                    before => assert_eq!(before, "one", "the table serves until the virtual hosts are there"),
                }
            }
        })
        .await;
        server.publish(&table);
        base.comes_to_answer("a.test", "one").await;
    }
    assert_eq!(proxy.end().await, Some(0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn virtual_hosts_that_are_held_are_brought_along_to_another_server() {
    let base = Base::start().await;
    let mut server = Server::start().await;
    let hosts = [("a.test", "one", ""), ("b.test", "two", "")];
    server.publish(&base.with("unknown", &hosts));
    let proxy = Proxy::start(server.port(), "DELTA_GRPC", &[]);
    proxy.until_ready().await;
    let port = server.port();
    server.stop().await;
    base.answers("a.test", "one").await;
    let mut server = Server::start_on(port).await;
    server.publish(&base.with("unknown", &[("b.test", "one", "")]));
    let mut brought = soon(server.event(|event| match event {
        SessionEvent::Resumed { kind: ResourceKind::VirtualHost, names } => Some(names.clone()),
        _ => None,
    }))
    .await;
    brought.sort();
    assert_eq!(brought, ["outbound/shop/a.test".into(), "outbound/shop/b.test".into()]);
    base.comes_to_answer("b.test", "one").await;
    base.comes_to_answer("a.test", "unknown").await;
    assert_eq!(proxy.end().await, Some(0));
}
