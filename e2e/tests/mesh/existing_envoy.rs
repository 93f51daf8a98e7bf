//! docs/envoy.md, step by step, with the oldest Envoy that is served and the newest, and in the soak every minor between.

use std::net::SocketAddr;
use std::path::Path;

use anyhow::{Context as _, bail, ensure};
use weft_api::OLDEST_ENVOY;
use weft_e2e::harness::{
    CONVERGES, Calls, DocPage, Mesh, Options, Responder, Sidecar, StoreKind, Walkthrough, Workload,
    envoy_programs, free_port, until,
};

const PAGE: &str = "docs/envoy.md";
const LEGACY: &str = "LEGACY";
const WEB: &str = "spiffe://mesh.local/ns/shop/svc/web";
const SERVICES: &str = "
{apiVersion: weft.dev/v1, kind: Service, metadata: {name: web, namespace: shop}, spec: {ports: [{name: http, port: 80, protocol: HTTP}]}}
---
{apiVersion: weft.dev/v1, kind: Service, metadata: {name: cart, namespace: shop}, spec: {ports: [{name: http, port: 80, protocol: HTTP}]}}
";
const MOVED: &str = "
apiVersion: weft.dev/v1
kind: HTTPRoute
metadata: {name: moved, namespace: shop}
spec:
  parentRefs: [{kind: Service, name: cart}]
  rules: [{filters: [{type: RequestRedirect, requestRedirect: {hostname: elsewhere, statusCode: 302}}]}]
";

/// A mesh with a cart, and somebody's Envoy on an address of its own with a service of old behind it.
struct Scene {
    page: DocPage,
    stage: Walkthrough,
    cart: Workload,
    address: std::net::Ipv4Addr,
    _legacy: Responder,
}

impl Scene {
    async fn start(mesh: &mut Mesh, envoy: &(String, std::path::PathBuf)) -> anyhow::Result<Self> {
        let (version, program) = envoy;
        let page = DocPage::read(PAGE)?;
        mesh.apply(SERVICES).await?;
        let name = format!("cart-{}", version.replace('.', "-"));
        let cart = mesh.workload("shop/cart").named(&name).serving().beside(Sidecar::Weft).start().await?;
        let address = mesh.next_address();
        let xds = mesh.xds();
        let stage = Walkthrough::new(mesh, &format!("envoy-{version}"), program)?
            .with("127.0.0.1", &address.to_string())
            .with("10.0.0.1", &xds.ip().to_string());
        let by_hand = stage.dir().join("by-hand").display().to_string();
        let stage = stage.with("/etc/weft/web", &by_hand);
        stage.write(&page, "own.yaml")?;
        let legacy = Responder::start((address, 8081).into(), None, LEGACY).await?;
        Ok(Self { page, stage, cart, address, _legacy: legacy })
    }

    fn url(&self, path: &str) -> String {
        format!("http://{}:10000{path}", self.address)
    }

    async fn run(&mut self, block: &str) -> anyhow::Result<String> {
        self.stage.run(&self.page, block).await.with_context(|| format!("the block {block} of {PAGE}"))
    }

    /// The owner's own route answers as ever.
    async fn legacy_answers(&mut self) -> anyhow::Result<()> {
        let url = self.url("/");
        until("the owner's own route answers", CONVERGES, async || {
            self.stage.envoy()?;
            let answer = Calls::direct().get(&url).await?;
            ensure!(answer.status == 200 && answer.body == LEGACY, "{} {}", answer.status, answer.body);
            Ok(())
        })
        .await
    }

    /// The route into the mesh reaches the cart by mutual TLS.
    async fn cart_answers(&mut self) -> anyhow::Result<()> {
        let url = self.url("/cart");
        let cart = self.cart.name().to_owned();
        until("the mesh answers", CONVERGES, async || {
            self.stage.envoy()?;
            let tree = Calls::direct().get(&url).await?.tree()?;
            ensure!(tree.workload == cart && tree.peer == WEB, "{tree:?}");
            Ok(())
        })
        .await
    }

    /// The address of its listener `outbound`.
    fn outbound(&self) -> SocketAddr {
        (self.address, 15001).into()
    }

    /// Joins as one that is called as well: peers reach `port` on this machine.
    async fn joins_as_served(&mut self, port: u16) -> anyhow::Result<()> {
        // Several sidecars share this machine, each on an address of its own.
        let port = format!("http={port}");
        let served = self.stage.translated(self.page.block("served")?).replace("http=8080", &port);
        let address = self.address;
        let flags = format!("--address={address} --inbound={address}:15006 --outbound={address}:15001");
        self.stage.finished(&format!("{} {flags}", served.trim())).await.map(drop)
    }

    /// Changes what was written for Envoy.
    fn edit(&self, change: impl FnOnce(&mut serde_yaml::Mapping)) -> anyhow::Result<()> {
        let file = self.stage.dir().join("web/envoy.yaml");
        let mut bootstrap = serde_yaml::from_str(&std::fs::read_to_string(&file)?)?;
        change(&mut bootstrap);
        Ok(std::fs::write(file, serde_yaml::to_string(&bootstrap)?)?)
    }

    /// Envoy has refused nothing that came by xDS.
    async fn nothing_was_refused(&self) -> anyhow::Result<()> {
        let url = format!("http://{}:9901/stats?filter=(update_rejected|init_fetch_timeout)$", self.address);
        let stats = Calls::direct().get(&url).await?.body;
        for of in
            ["cluster_manager.cds.", "listener_manager.lds.", "outbound/shop.", "cluster.shop/cart/http."]
        {
            ensure!(stats.contains(of), "{of} is not there: {stats}");
        }
        let refused: Vec<&str> = stats.lines().filter(|line| !line.ends_with(": 0")).collect();
        ensure!(refused.is_empty(), "{refused:?}");
        Ok(())
    }
}

/// Each version has a mesh of its own: what one leaves behind is none of the next one's.
async fn with_each_envoy(test: impl AsyncFn(&mut Mesh, &mut Scene) -> anyhow::Result<()>) {
    for envoy in envoy_programs().unwrap_or_else(|error| panic!("{error:#}")) {
        eprintln!("with Envoy {}", envoy.0);
        Mesh::run(Options::new(StoreKind::Embedded), async |mesh: &mut Mesh| {
            let mut scene = Scene::start(mesh, &envoy).await?;
            test(mesh, &mut scene).await.with_context(|| format!("with Envoy {}", envoy.0))
        })
        .await;
    }
}

#[tokio::test]
async fn four_steps_take_an_envoy_into_a_mesh_and_one_out_of_it() {
    with_each_envoy(async |mesh: &mut Mesh, scene: &mut Scene| {
        let own = std::fs::read_to_string(scene.stage.dir().join("own.yaml"))?;
        scene.run("token").await?;
        let printed = scene.run("merge").await?;
        shows(&printed, &scene.stage.translated(scene.page.block("merge-diff")?))?;
        ensure!(own == std::fs::read_to_string(scene.stage.dir().join("own.yaml"))?, "own.yaml was touched");
        scene.run("start").await?;
        scene.legacy_answers().await?;
        scene.cart_answers().await?;
        until("it is seen as a caller", CONVERGES, async || {
            let seen = scene.run("look").await?;
            let edge = |line: &&str| line.contains("shop/web ") && line.contains("shop/cart:http");
            let edge = seen.lines().find(edge).with_context(|| format!("no edge: {seen}"))?;
            ensure!(edge.ends_with("yes"), "no mutual TLS: {edge}");
            ensure!(seen.contains("Envoy client"), "{seen}");
            Ok(())
        })
        .await?;
        nobody_is_told_of_web(mesh, scene).await?;

        // The same again, by the identity that there is.
        let again = scene.stage.translated(scene.page.block("merge")?).replace("--join-file web.token ", "");
        shows(&scene.stage.finished(again.trim()).await?, "+dynamic_resources:")?;
        scene.run("sotw").await?;
        restart(scene).await?;
        scene.cart_answers().await?;

        // Its own listeners wait for nobody.
        mesh.control_plane().kill()?;
        restart(scene).await?;
        scene.legacy_answers().await?;
        mesh.control_plane().start().await?;
        scene.cart_answers().await?;

        scene.stage.end_keep().await?;
        scene.stage.end_envoy().await?;
        scene.run("leave").await?;
        scene.legacy_answers().await?;
        let answer = Calls::direct().get(&scene.url("/cart")).await?;
        ensure!(answer.status == 503, "{} {}", answer.status, answer.body);
        Ok(())
    })
    .await;
}

#[tokio::test]
async fn bootstrap_written_by_hand_calls_into_the_mesh() {
    with_each_envoy(async |_: &mut Mesh, scene: &mut Scene| {
        scene.run("token").await?;
        scene.run("by-hand").await?;
        until("the identity is there", CONVERGES, async || {
            scene.stage.finished("weft-proxy health --identity-dir by-hand").await.map(drop)
        })
        .await?;
        scene.stage.write(&scene.page, "by-hand.yaml")?;
        drop(scene.stage.run_line("envoy -c by-hand.yaml").await?);
        scene.cart_answers().await
    })
    .await;
}

#[tokio::test]
async fn envoy_that_is_called_keeps_its_own_listeners() {
    with_each_envoy(async |mesh: &mut Mesh, scene: &mut Scene| {
        let port = free_port()?;
        let _application = Responder::start(([127, 0, 0, 1], port).into(), None, "WEB").await?;
        let caller =
            mesh.workload("shop/cart").named("caller").client().beside(Sidecar::Weft).start().await?;
        scene.run("token").await?;
        scene.joins_as_served(port).await?;
        until("it waits for its Envoy", CONVERGES, async || {
            let proxies = mesh.proxies().await?;
            let web = proxies.values().find(|proxy| proxy.service == "shop/web").context("nobody joined")?;
            ensure!(web.health == "Starting" && !web.client, "{web:?}");
            Ok(())
        })
        .await?;
        nobody_is_told_of_web(mesh, scene).await?;

        scene.run("start").await?;
        scene.legacy_answers().await?;
        scene.cart_answers().await?;
        until("the mesh calls it", CONVERGES, async || {
            let answer = caller.calls().get("http://web/").await?;
            ensure!(answer.status == 200 && answer.body == "WEB", "{} {}", answer.status, answer.body);
            Ok(())
        })
        .await
    })
    .await;
}

#[tokio::test]
async fn a_stream_for_each_type_serves_an_envoy_in_the_state_of_the_world() {
    with_each_envoy(async |mesh: &mut Mesh, scene: &mut Scene| {
        separate(mesh, scene, |bootstrap| bootstrap).await
    })
    .await;
}

/// In the other protocol, and by another name of the control plane's cluster.
#[tokio::test]
async fn a_stream_for_each_type_serves_an_envoy_in_delta() {
    with_each_envoy(async |mesh: &mut Mesh, scene: &mut Scene| {
        separate(mesh, scene, |bootstrap| {
            let named = bootstrap
                .replace("api_type: GRPC", "api_type: DELTA_GRPC")
                .replace("weft_control_plane", "their-mesh");
            named.replace("team: web", "weft.control_plane_cluster: their-mesh")
        })
        .await
    })
    .await;
}

/// Without ADS: it calls and is called, and takes changes of endpoints and of routes.
async fn separate(
    mesh: &mut Mesh,
    scene: &mut Scene,
    variant: impl Fn(String) -> String,
) -> anyhow::Result<()> {
    let port = free_port()?;
    let _application = Responder::start(([127, 0, 0, 1], port).into(), None, "WEB").await?;
    let caller = mesh.workload("shop/cart").named("caller").client().beside(Sidecar::Weft).start().await?;
    scene.run("token").await?;
    scene.joins_as_served(port).await?;
    let streams: serde_yaml::Mapping = serde_yaml::from_str(scene.page.block("separate")?)?;
    scene.edit(|bootstrap| bootstrap.extend(streams))?;
    let file = scene.stage.dir().join("web/envoy.yaml");
    let written = variant(std::fs::read_to_string(&file)?);
    ensure!(!written.contains("ads_config") && !written.contains("ads: "), "{written}");
    std::fs::write(&file, written)?;

    scene.run("start").await?;
    scene.legacy_answers().await?;
    scene.cart_answers().await?;
    until("the mesh calls it", CONVERGES, async || {
        let answer = caller.calls().get("http://web/").await?;
        ensure!(answer.status == 200 && answer.body == "WEB", "{} {}", answer.status, answer.body);
        Ok(())
    })
    .await?;

    let calls = Calls::through(scene.outbound());
    let second = mesh.workload("shop/cart").named("second").serving().beside(Sidecar::Weft).start().await?;
    until("it calls the new one too, by its own routes and by those of the mesh", CONVERGES, async || {
        for answer in [calls.get("http://cart/").await?, Calls::direct().get(&scene.url("/cart")).await?] {
            let tree = answer.tree()?;
            ensure!(tree.workload == second.name() && tree.peer == WEB, "{tree:?}");
        }
        Ok(())
    })
    .await?;
    mesh.apply(MOVED).await?;
    until("its route is the new one", CONVERGES, async || {
        let answer = calls.get("http://cart/").await?;
        ensure!(answer.status == 302, "{} {}", answer.status, answer.body);
        Ok(())
    })
    .await?;
    let proxies = mesh.proxies().await?;
    let web = proxies.values().find(|proxy| proxy.service == "shop/web").context("nobody joined")?;
    ensure!(web.sync == weft_api::rest::Sync::Synced && web.streams > 4, "{web:?}");
    scene.nothing_was_refused().await
}

#[tokio::test]
async fn conflicts_are_named_and_nothing_is_joined() {
    Mesh::run(Options::new(StoreKind::Embedded), async |mesh: &mut Mesh| {
        let newest = envoy_programs()?.pop().context("no Envoy")?;
        let mut scene = Scene::start(mesh, &newest).await?;
        let own = scene.stage.dir().join("own.yaml");
        let text = std::fs::read_to_string(&own)?;
        std::fs::write(
            &own,
            format!("{text}hds_config: {{}}\ndynamic_resources: {{ads_config: {{api_type: GRPC}}}}\n"),
        )?;
        scene.run("token").await?;
        let Err(refused) = scene.run("merge").await else { bail!("it was merged") };
        let refused = format!("{refused:#}");
        for named in ["nothing was joined or written", "dynamic_resources.ads_config: "] {
            ensure!(refused.contains(named), "{named}: {refused}");
        }
        ensure!(!refused.contains("hds_config"), "a caller needs no health checks: {refused}");
        ensure!(!Path::new(scene.stage.dir()).join("web").exists(), "something was written");
        // The token is still good.
        std::fs::write(&own, text)?;
        scene.run("merge").await.map(drop)
    })
    .await;
}

#[test]
fn page_tells_the_oldest_envoy() {
    let page = DocPage::read(PAGE).unwrap();
    let oldest = format!("Envoy {}.{} is the oldest", OLDEST_ENVOY.0, OLDEST_ENVOY.1);
    assert!(page.text().contains(&oldest), "{PAGE} does not say: {oldest}");
}

async fn restart(scene: &mut Scene) -> anyhow::Result<()> {
    scene.stage.end_envoy().await?;
    scene.stage.run_line("envoy -c web/envoy.yaml").await.map(drop)
}

/// What the page shows of a difference is in it, in that order.
fn shows(printed: &str, shown: &str) -> anyhow::Result<()> {
    let mut lines = printed.lines();
    for wanted in shown.lines() {
        ensure!(lines.any(|line| line == wanted), "{wanted:?} is not there, or in another place:\n{printed}");
    }
    Ok(())
}

/// Peers have no endpoint of it.
async fn nobody_is_told_of_web(mesh: &Mesh, scene: &Scene) -> anyhow::Result<()> {
    let endpoints = mesh.endpoints(scene.cart.id(), "shop/web/http").await?;
    ensure!(endpoints.is_empty(), "peers are told of {endpoints:?}");
    Ok(())
}
