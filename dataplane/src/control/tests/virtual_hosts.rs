//! Route configurations whose virtual hosts are resources of their own (VHDS).

use envoy_types::pb::envoy::config::route::v3::VirtualHost;
use http::HeaderMap;
use weft_routing::matcher::RequestHead;

use super::*;

/// A route configuration that takes virtual hosts; requests for unknown ones get `unknown`.
fn taker(name: &str, fetch_timeout: &str, unknown: &str) -> Bytes {
    encoded::<RouteConfiguration>(&format!(
        "{{name: {name}, vhds: {{config_source: {{ads: {{}}, initial_fetch_timeout: {fetch_timeout}}}}}, virtual_hosts: [{{name: '*', domains: ['*'], routes: [{{name: {unknown}, match: {{prefix: /}}, direct_response: {{status: 404}}}}]}}]}}"
    ))
}

/// A virtual host whose one route is called `route`.
fn host(name: &str, domains: &str, route: &str) -> ReceivedResource {
    let body = encoded::<VirtualHost>(&format!(
        "{{name: {name}, domains: [{domains}], routes: [{{name: {route}, match: {{prefix: /}}, route: {{cluster: none}}}}]}}"
    ));
    incoming(name, route, body)
}

impl Bench {
    /// A listener that serves by the virtual hosts of `r`.
    fn serving(hosts: Vec<ReceivedResource>) -> Self {
        let mut bench = Self::new();
        bench.take(ResourceKind::Listener, vec![incoming("l", "1", rds_listener("r"))]);
        bench.take(ResourceKind::Route, vec![incoming("r", "1", taker("r", "0s", "unknown"))]);
        bench.work();
        assert!(bench.answered(hosts).is_empty());
        bench
    }

    /// An answer of the stream.
    fn answered(&mut self, hosts: Vec<ReceivedResource>) -> Vec<RefusedName> {
        let refusals = self.world.apply(
            ResourceKind::VirtualHost,
            &ConfigSource::Ads,
            ConfigOrigin::Dynamic,
            hosts,
            self.now,
        );
        self.world.virtual_hosts_answered();
        self.promote();
        refusals
    }

    /// The name of the route that a request to `authority` takes.
    fn route_of(&mut self, authority: &str) -> Option<String> {
        let runtime = self.build();
        let routes = runtime.routes.get("r")?;
        let headers = HeaderMap::new();
        let head = RequestHead { method: "GET", scheme: "http", authority, path: "/", headers: &headers };
        Some(routes.route(routes.find(&head, 0)?).name.to_string())
    }

    fn is_serving(&mut self) -> bool {
        self.build().listeners.contains_key("l")
    }
}

#[test]
fn a_listener_waits_for_the_first_answer_with_virtual_hosts_be_it_an_empty_one() {
    let mut bench = Bench::new();
    bench.take(ResourceKind::Listener, vec![incoming("l", "1", rds_listener("r"))]);
    assert_eq!(
        bench.world.take_subscription_changes().begun,
        [Dependency::Route((ConfigSource::Ads, "r".into()))]
    );
    bench.take(ResourceKind::Route, vec![incoming("r", "1", taker("r", "0s", "unknown"))]);
    assert_eq!(bench.world.take_subscription_changes().begun, [Dependency::VirtualHosts]);
    // The routes have come: how long they are waited for counts no more.
    bench.now.instant += Duration::from_secs(60);
    bench.promote();
    assert!(!bench.is_serving() && !bench.world.is_warm());
    assert!(!bench.world.is_settled(ResourceKind::Route, "r", "1"), "its ACK waits");
    bench.answered(Vec::new());
    assert!(bench.is_serving() && bench.world.is_warm());
    assert!(bench.world.is_settled(ResourceKind::Route, "r", "1"));
    assert_eq!(bench.route_of("web.test").unwrap(), "unknown");
}

#[test]
fn routes_go_on_without_virtual_hosts_when_their_fetch_timeout_ends_and_take_them_later() {
    let mut bench = Bench::new();
    bench.take(ResourceKind::Listener, vec![incoming("l", "1", rds_listener("r"))]);
    bench.take(ResourceKind::Route, vec![incoming("r", "1", taker("r", "3s", "unknown"))]);
    assert!(!bench.is_serving());
    bench.now.instant += Duration::from_secs(3);
    assert_eq!(bench.world.next_deadline(), Some(bench.now.instant));
    bench.promote();
    assert!(bench.is_serving() && bench.world.is_warm());
    assert_eq!(bench.route_of("web.test").unwrap(), "unknown");
    bench.answered(vec![host("r/web", "web.test", "web")]);
    assert_eq!(bench.route_of("web.test").unwrap(), "web");
}

#[test]
fn routes_that_begin_to_take_virtual_hosts_serve_as_before_until_those_are_there() {
    let mut bench = Bench::new();
    let table = "{name: r, virtual_hosts: [{name: web, domains: [web.test], routes: [{name: table, match: {prefix: /}, route: {cluster: none}}]}]}";
    bench.take(ResourceKind::Listener, vec![incoming("l", "1", rds_listener("r"))]);
    bench.take(ResourceKind::Route, vec![incoming("r", "1", encoded::<RouteConfiguration>(table))]);
    assert!(bench.is_serving());
    bench.take(ResourceKind::Route, vec![incoming("r", "2", taker("r", "0s", "unknown"))]);
    bench.work();
    assert_eq!(bench.route_of("web.test").unwrap(), "table");
    bench.answered(vec![host("r/web", "web.test", "web")]);
    assert_eq!(bench.route_of("web.test").unwrap(), "web");
    bench.take(ResourceKind::Route, vec![incoming("r", "3", encoded::<RouteConfiguration>(table))]);
    assert_eq!(bench.world.take_subscription_changes().ended, [Dependency::VirtualHosts]);
    assert_eq!(bench.route_of("web.test").unwrap(), "table");
    assert_eq!(bench.world.virtual_hosts.iter().count(), 0, "nobody takes them");
    bench.take(ResourceKind::Route, vec![incoming("r", "4", taker("r", "0s", "unknown"))]);
    assert_eq!(
        bench.world.take_subscription_changes().begun,
        [Dependency::VirtualHosts],
        "what was heard then says nothing now"
    );
    assert_eq!(bench.route_of("web.test").unwrap(), "table");
}

#[test]
fn virtual_hosts_are_added_changed_removed_and_outlive_an_update_of_their_routes() {
    let mut bench = Bench::serving(vec![host("r/web", "web.test", "web"), host("other/x", "x.test", "x")]);
    assert_eq!(bench.route_of("web.test").unwrap(), "web");
    assert_eq!(bench.route_of("x.test").unwrap(), "unknown", "it belongs to other routes");
    bench.answered(vec![host("r/cart", "cart.test", "cart"), host("r/web", "web.test", "changed")]);
    assert_eq!(bench.route_of("cart.test").unwrap(), "cart");
    assert_eq!(bench.route_of("web.test").unwrap(), "changed");
    bench.take(ResourceKind::Route, vec![incoming("r", "2", taker("r", "0s", "nobody"))]);
    assert_eq!(bench.route_of("web.test").unwrap(), "changed");
    assert_eq!(bench.route_of("x.test").unwrap(), "nobody");
    bench.world.remove(ResourceKind::VirtualHost, &ConfigSource::Ads, &["r/web".into()]);
    assert_eq!(bench.route_of("web.test").unwrap(), "nobody");
    assert_eq!(bench.route_of("cart.test").unwrap(), "cart");
}

#[test]
fn a_refused_virtual_host_is_named_alone_and_the_one_before_serves_on() {
    let mut bench = Bench::serving(vec![host("r/web", "web.test", "web")]);
    let wrong = encoded::<VirtualHost>("{name: r/web, domains: [web.test], require_tls: ALL}");
    let refusals = bench.answered(vec![incoming("r/web", "2", wrong), host("r/cart", "cart.test", "cart")]);
    assert_eq!(refusals.len(), 1);
    assert_eq!((&*refusals[0].0, refusals[0].1.field.as_str()), ("r/web", "require_tls"));
    assert_eq!(bench.route_of("web.test").unwrap(), "web");
    assert_eq!(bench.route_of("cart.test").unwrap(), "cart");
}

#[test]
fn a_virtual_host_that_can_belong_to_no_routes_is_refused() {
    let mut bench = Bench::serving(Vec::new());
    let refusals = bench.answered(vec![host("web", "web.test", "web")]);
    assert_eq!((&*refusals[0].0, refusals[0].1.field.as_str()), ("web", "name"));
    let file = ConfigSource::File("/x/hosts.yaml".into());
    let of_file = vec![host("r/web", "web.test", "web")];
    let refusals =
        bench.world.apply(ResourceKind::VirtualHost, &file, ConfigOrigin::Dynamic, of_file, bench.now);
    assert!(refusals[0].1.reason.contains("/x/hosts.yaml"), "{}", refusals[0].1);
}

/// With an order of arrival that counts, a domain that moves would be lost with the host that comes too early.
#[test]
fn a_domain_that_two_hosts_name_belongs_to_the_first_by_name_in_whatever_order_they_come() {
    for order in [[0, 1], [1, 0]] {
        let hosts = [host("r/a", "both.test, a.test", "a"), host("r/b", "both.test, b.test", "b")];
        let mut bench = Bench::serving(Vec::new());
        for index in order {
            assert!(bench.answered(vec![hosts[index].clone()]).is_empty());
        }
        for (authority, route) in [("both.test", "a"), ("a.test", "a"), ("b.test", "b")] {
            assert_eq!(bench.route_of(authority).unwrap(), route, "{authority}");
        }
        let overlaps = bench.build().routes["r"].overlaps().to_vec();
        let names: Vec<_> = overlaps.iter().map(|one| (&*one.domain, &*one.host, &*one.holder)).collect();
        assert_eq!(names, [("both.test", "r/b", "r/a")]);
        bench.answered(vec![host("r/a", "a.test", "a")]);
        assert_eq!(bench.route_of("both.test").unwrap(), "b");
    }
}

#[test]
fn a_change_of_one_virtual_host_leaves_all_others_as_they_are() {
    const HOSTS: usize = 2000;
    let _descriptors = weft_api::json::descriptors();
    let name = |number: usize| format!("r/h{number}");
    let hosts = (0..HOSTS).map(|number| host(&name(number), &format!("h{number}.test"), "first")).collect();
    let mut bench = Bench::serving(hosts);
    bench.work();
    let before = bench.build();
    bench.answered(vec![host(&name(7), "h7.test", "second")]);
    assert_eq!(bench.work(), Work { examined: 0, asked: 0, visited: 0, built: 0 });
    let after = bench.build();
    let (before, after) = (&before.routes["r"].table.virtual_hosts, &after.routes["r"].table.virtual_hosts);
    assert_eq!((before.len(), after.len()), (HOSTS + 1, HOSTS + 1));
    let anew = before.iter().zip(after).filter(|(before, after)| !Arc::ptr_eq(before, after)).count();
    assert_eq!(anew, 1);
    assert_eq!(bench.route_of("h7.test").unwrap(), "second");
    let same = (0..HOSTS).filter(|number| *number != 7);
    bench.answered(same.map(|number| host(&name(number), &format!("h{number}.test"), "first")).collect());
    assert!(!bench.world.is_stale(), "what is sent again unchanged, with its routes, changes nothing");
}

#[test]
fn a_snapshot_serves_with_the_virtual_hosts_that_were_there() {
    let mut bench = Bench::serving(vec![host("r/web", "web.test", "web")]);
    let snapshot = bench.world.snapshot("shop/web-1");
    let mut restored = Bench::new();
    for kind in ResourceKind::ALL {
        let saved = snapshot.resources.iter().filter(|saved| saved.type_url == kind.type_url());
        let saved = saved.map(|saved| incoming(&saved.name, &saved.version, saved.body.clone())).collect();
        assert!(
            restored
                .world
                .apply(kind, &ConfigSource::Ads, ConfigOrigin::Dynamic, saved, restored.now)
                .is_empty()
        );
    }
    restored.world.virtual_hosts_answered();
    restored.work();
    assert!(restored.is_serving());
    assert_eq!(restored.route_of("web.test").unwrap(), "web");
    assert_eq!(bench.route_of("web.test").unwrap(), "web");
}

#[test]
fn virtual_hosts_that_nobody_takes_are_not_kept() {
    let mut bench = Bench::new();
    bench.answered(vec![host("r/web", "web.test", "web")]);
    assert_eq!(
        bench.world.take_subscription_changes().ended,
        [Dependency::VirtualHosts],
        "the stream forgets them too"
    );
    assert_eq!(bench.world.virtual_hosts.iter().count(), 0);
    bench.take(ResourceKind::Listener, vec![incoming("l", "1", rds_listener("r"))]);
    bench.take(ResourceKind::Route, vec![incoming("r", "1", taker("r", "0s", "unknown"))]);
    assert!(!bench.is_serving(), "what came before it was asked for is no answer");
}
