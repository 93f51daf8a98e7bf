//! One request through four services is one trace at a real OpenTelemetry collector, whichever proxies stand on its way.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use anyhow::{Context as _, ensure};
use bytes::Bytes;
use http::Request;
use http_body_util::Full;
use opentelemetry_proto::tonic::trace::v1::span::SpanKind;
use opentelemetry_proto::tonic::trace::v1::status::StatusCode;
use weft_e2e::harness::{
    Answer, CONVERGES, Calls, Mesh, Options, OtelCollector, ReceivedSpan, Sidecar, StoreKind, Workload, until,
};

/// Who calls whom, and what stands beside them. `edge` calls as `front` does, so that each proxy calls each.
const CHAIN: [(&str, Option<&str>, Sidecar); 5] = [
    ("prices", None, Sidecar::Envoy),
    ("catalog", Some("prices"), Sidecar::Weft),
    ("cart", Some("catalog"), Sidecar::Envoy),
    ("front", None, Sidecar::Weft),
    ("edge", None, Sidecar::Envoy),
];
/// Envoy sends its spans every 5 s, and the collector passes on what it has.
const TOLD: Duration = Duration::from_secs(12);

const CALLERS: [&str; 2] = ["front", "edge"];
/// What Envoy says of itself, and weft-proxy in the resource.
const OF_ENVOY_ALONE: [&str; 2] = ["node_id", "zone"];

#[tokio::test]
async fn one_request_is_one_trace_on_the_embedded_store() {
    Mesh::run(Options::new(StoreKind::Embedded), one_request_is_one_trace).await;
}

struct Shop {
    workloads: BTreeMap<&'static str, Workload>,
    collector: OtelCollector,
}

async fn one_request_is_one_trace(mesh: &mut Mesh) -> anyhow::Result<()> {
    let services = CHAIN.map(|(name, ..)| service(name));
    mesh.apply(&services.join("---\n")).await?;
    let mut workloads = BTreeMap::new();
    for (name, next, beside) in CHAIN {
        let builder = mesh.workload(&format!("shop/{name}")).serving().beside(beside);
        let builder = match next {
            Some(next) => builder.calling(&format!("http://{next}/")),
            None => builder,
        };
        workloads.insert(name, builder.start().await?);
    }
    let collector = OtelCollector::start(mesh).await?;
    let ids: Vec<&str> = workloads.values().map(Workload::id).collect();
    mesh.in_sync(&ids).await?;
    let mut shop = Shop { workloads, collector };
    shop.nothing_is_traced_by_default().await.context("by default")?;
    shop.sample(mesh, 100.0).await?;
    for caller in CALLERS {
        shop.whole_traces(caller).await.with_context(|| format!("{caller}: one trace"))?;
        shop.errors_are_errors(caller).await.with_context(|| format!("{caller}: errors"))?;
        shop.callers_decide(caller).await.with_context(|| format!("{caller}: who has decided"))?;
        shop.grpc_is_told(caller).await.with_context(|| format!("{caller}: gRPC"))?;
    }
    shop.sampling_changes(mesh).await.context("sampling is changed")?;
    shop.services_differ(mesh).await.context("a policy of one service")?;
    shop.nobody_waits_for_a_collector(mesh).await.context("the collector is away")?;
    Ok(())
}

fn service(name: &str) -> String {
    format!(
        "{{apiVersion: weft.dev/v1, kind: Service, metadata: {{name: {name}, namespace: shop}}, \
         spec: {{ports: [{{name: http, port: 80, protocol: HTTP}}]}}}}\n"
    )
}

fn header<'a>(answer: &'a Answer, name: &str) -> anyhow::Result<&'a str> {
    Ok(answer.headers.get(name).with_context(|| format!("no {name}"))?.to_str()?)
}

fn with_parent(url: &str, traceparent: &str) -> anyhow::Result<Request<Full<Bytes>>> {
    let request = Request::get(url).header("traceparent", traceparent).header("tracestate", "shop=1");
    Ok(request.body(Full::default())?)
}

fn kind(span: &ReceivedSpan) -> SpanKind {
    span.span.kind()
}

impl Shop {
    fn calls(&self, caller: &str) -> Calls {
        self.workloads[caller].calls()
    }

    async fn sample(&self, mesh: &Mesh, percent: f64) -> anyhow::Result<()> {
        let endpoint = self.collector.endpoint();
        mesh.apply(&format!(
            "{{apiVersion: weft.dev/v1, kind: Mesh, metadata: {{name: mesh}}, \
             spec: {{tracing: {{endpoint: '{endpoint}', sampling: {percent}}}}}}}"
        ))
        .await
    }

    /// The spans of the trace that the request with this id belongs to, once there are so many.
    async fn trace_of(&self, id: &str, count: usize) -> anyhow::Result<Vec<ReceivedSpan>> {
        self.trace_within(CONVERGES, id, count).await
    }

    async fn trace_within(
        &self,
        limit: Duration,
        id: &str,
        count: usize,
    ) -> anyhow::Result<Vec<ReceivedSpan>> {
        until(&format!("{count} spans of the trace of {id} have come"), limit, async || {
            let spans = self.collector.spans();
            let of_it = spans.iter().find(|span| span.attribute("guid:x-request-id") == Some(id));
            let trace = &of_it.context("no span of it")?.span.trace_id;
            let trace: Vec<_> = spans.iter().filter(|span| span.span.trace_id == *trace).cloned().collect();
            ensure!(trace.len() == count, "{trace:#?}");
            Ok(trace)
        })
        .await
    }

    async fn nothing_is_traced_by_default(&self) -> anyhow::Result<()> {
        for caller in CALLERS {
            let given = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
            let answer = self.calls(caller).send(with_parent("http://cart/echo", given)?).await?;
            ensure!(header(&answer, "x-echo-header-traceparent")? == given, "{:?}", answer.headers);
        }
        Ok(())
    }

    async fn whole_traces(&self, caller: &str) -> anyhow::Result<()> {
        // A listener of Envoy's that was taken serves once it has its routes; until then the one before does.
        let trace = until("a request is traced on its whole way", 2 * CONVERGES, async || {
            let answer = self.calls(caller).get("http://cart/").await?;
            answer.tree()?;
            self.trace_within(TOLD, header(&answer, "x-request-id")?, 6).await
        })
        .await?;
        let by_id: BTreeMap<_, _> = trace.iter().map(|span| (&span.span.span_id, span)).collect();
        let roots = trace.iter().filter(|span| span.span.parent_span_id.is_empty());
        ensure!(roots.count() == 1, "{trace:#?}");
        let mut found = BTreeSet::new();
        for span in &trace {
            let parent = by_id.get(&span.span.parent_span_id);
            ensure!(
                parent.is_some() || span.span.parent_span_id.is_empty(),
                "the parent is unknown: {span:#?}"
            );
            if let (Some(parent), SpanKind::Server) = (parent, kind(span)) {
                let ids = [span, parent].map(|span| span.attribute("guid:x-request-id"));
                ensure!(ids[0].is_some() && ids[0] == ids[1], "the request's id has changed: {trace:#?}");
            }
            found.insert((
                span.service.as_str(),
                kind(span).as_str_name(),
                parent.map(|parent| (parent.service.as_str(), kind(parent).as_str_name())),
            ));
        }
        let (client, server) = ("SPAN_KIND_CLIENT", "SPAN_KIND_SERVER");
        let caller = format!("shop/{caller}");
        let expected = BTreeSet::from([
            (caller.as_str(), client, None),
            ("shop/cart", server, Some((caller.as_str(), client))),
            ("shop/cart", client, Some(("shop/cart", server))),
            ("shop/catalog", server, Some(("shop/cart", client))),
            ("shop/catalog", client, Some(("shop/catalog", server))),
            ("shop/prices", server, Some(("shop/catalog", client))),
        ]);
        ensure!(found == expected, "{found:#?}");
        reads_alike(&trace)
    }

    async fn errors_are_errors(&self, caller: &str) -> anyhow::Result<()> {
        for (status, server_fails) in [(404, false), (503, true)] {
            let url = format!("http://cart/status/{status}?why=test");
            let answer = self.calls(caller).get(&url).await?;
            ensure!(answer.status == status, "{}", answer.status);
            for span in self.trace_of(header(&answer, "x-request-id")?, 2).await? {
                let is_error =
                    span.span.status.as_ref().is_some_and(|status| status.code() == StatusCode::Error);
                let fails = server_fails || kind(&span) == SpanKind::Client;
                ensure!(is_error == fails, "{span:#?}");
                ensure!(span.attribute("error").is_some() == server_fails, "{span:#?}");
                ensure!(span.attribute("http.status_code") == Some(&status.to_string()), "{span:#?}");
                // The scheme is that of the connection: between sidecars there is TLS.
                let place = |url: &str| url.split_once("://").map(|(_, place)| place.to_owned());
                ensure!(span.attribute("http.url").and_then(place) == place(&url), "{span:#?}");
            }
        }
        Ok(())
    }

    /// Where a trace has begun already, what was decided then holds.
    async fn callers_decide(&self, caller: &str) -> anyhow::Result<()> {
        let begun = "0af7651916cd43dd8448eb211c80319c";
        let unsampled = with_parent("http://cart/echo", &format!("00-{begun}-b7ad6b7169203331-00"))?;
        let answer = self.calls(caller).send(unsampled).await?;
        let told = header(&answer, "x-echo-header-traceparent")?;
        ensure!(told.starts_with(&format!("00-{begun}-")) && told.ends_with("-00"), "{told}");
        ensure!(!told.contains("b7ad6b7169203331"), "the parent is the sidecar's span: {told}");
        ensure!(header(&answer, "x-echo-header-tracestate")? == "shop=1", "{:?}", answer.headers);
        let unsampled_id = header(&answer, "x-request-id")?.to_owned();
        let malformed = with_parent("http://cart/echo", "00-nothing-01")?;
        let answer = self.calls(caller).send(malformed).await?;
        ensure!(header(&answer, "x-echo-header-traceparent")? == "00-nothing-01", "it is passed on as it is");

        let parent = if caller == "front" { "b7ad6b7169203331" } else { "b7ad6b7169203332" };
        let sampled = with_parent("http://cart/echo", &format!("00-{begun}-{parent}-01"))?;
        let answer = self.calls(caller).send(sampled).await?;
        let id = header(&answer, "x-request-id")?;
        until("both spans of the request have come", CONVERGES, async || {
            let spans = self.collector.spans();
            let of_it: Vec<_> =
                spans.iter().filter(|span| span.attribute("guid:x-request-id") == Some(id)).collect();
            let client = of_it.iter().find(|span| kind(span) == SpanKind::Client).context("no client's")?;
            ensure!(of_it.len() == 2, "{of_it:#?}");
            ensure!(
                client.span.parent_span_id == hex(parent) && client.span.trace_state == "shop=1",
                "{client:#?}"
            );
            Ok(())
        })
        .await?;
        let spans = self.collector.spans();
        let late = spans.iter().find(|span| span.attribute("guid:x-request-id") == Some(&unsampled_id));
        ensure!(late.is_none(), "what was not to be traced is: {late:#?}");
        Ok(())
    }

    /// What is gRPC, by its content type, and what only begins like it.
    async fn grpc_is_told(&self, caller: &str) -> anyhow::Result<()> {
        for (content_type, is_grpc) in [
            ("application/grpc", true),
            ("application/grpc+proto", true),
            ("application/grpc-web+proto", false),
        ] {
            let request = Request::get("http://cart/echo").header("content-type", content_type);
            let answer = self.calls(caller).send(request.body(Full::default())?).await?;
            for span in self.trace_of(header(&answer, "x-request-id")?, 2).await? {
                let path = span.attribute("grpc.path");
                ensure!(path == is_grpc.then_some("/echo"), "{content_type}: {span:#?}");
            }
        }
        Ok(())
    }

    /// Over connections that stay open.
    async fn sampling_changes(&self, mesh: &Mesh) -> anyhow::Result<()> {
        let calls = CALLERS.map(|caller| self.calls(caller));
        for calls in &calls {
            calls.get("http://cart/").await?.tree()?;
        }
        self.sample(mesh, 0.0).await?;
        let mut untraced = BTreeSet::new();
        for calls in &calls {
            for _ in 0..20 {
                untraced.insert(header(&calls.get("http://cart/").await?, "x-request-id")?.to_owned());
            }
        }
        self.sample(mesh, 100.0).await?;
        for calls in &calls {
            let answer = calls.get("http://cart/").await?;
            self.trace_of(header(&answer, "x-request-id")?, 6).await?;
        }
        let spans = self.collector.spans();
        let ids = spans.iter().filter_map(|span| span.attribute("guid:x-request-id"));
        let traced: Vec<_> = ids.filter(|id| untraced.contains(*id)).collect();
        ensure!(traced.is_empty(), "{} of {} are traced", traced.len(), untraced.len());
        Ok(())
    }

    async fn services_differ(&self, mesh: &Mesh) -> anyhow::Result<()> {
        self.sample(mesh, 0.0).await?;
        mesh.apply(
            "{apiVersion: weft.dev/v1, kind: TelemetryPolicy, metadata: {name: cart, namespace: shop}, \
             spec: {targetRefs: [{kind: Service, name: cart}], tracing: {sampling: 100, \
             tags: [{name: team, value: checkout}, {name: tenant, header: x-tenant}]}}}",
        )
        .await?;
        for caller in CALLERS {
            let calls = self.calls(caller);
            let untraced = calls.get("http://prices/").await?;
            let request = Request::get("http://cart/echo").header("x-tenant", "acme").body(Full::default())?;
            let answer = calls.send(request).await?;
            for span in self.trace_of(header(&answer, "x-request-id")?, 2).await? {
                let said = [span.attribute("team"), span.attribute("tenant")];
                ensure!(said == [Some("checkout"), Some("acme")], "{caller}: {span:#?}");
            }
            let id = header(&untraced, "x-request-id")?;
            let spans = self.collector.spans();
            ensure!(
                spans.iter().all(|span| span.attribute("guid:x-request-id") != Some(id)),
                "{caller}: {id}"
            );
        }
        Ok(())
    }

    async fn nobody_waits_for_a_collector(&mut self, mesh: &mut Mesh) -> anyhow::Result<()> {
        self.sample(mesh, 100.0).await?;
        self.collector.end().await?;
        let front = &self.workloads["front"];
        let dropped = "tracing.opentelemetry.spans_dropped";
        let before = front.stat(dropped).await?;
        until("spans that nobody takes are counted", CONVERGES, async || {
            for caller in CALLERS {
                self.calls(caller).get("http://cart/").await?.tree()?;
            }
            ensure!(front.stat(dropped).await? > before, "none is");
            Ok(())
        })
        .await?;
        self.collector.start_again().await?;
        self.traces_arrive().await.context("it is back")?;
        // Another one, while all of it runs.
        self.collector = OtelCollector::start(mesh).await?;
        self.sample(mesh, 100.0).await?;
        self.traces_arrive().await.context("another one")
    }

    async fn traces_arrive(&self) -> anyhow::Result<()> {
        for caller in CALLERS {
            until("whole traces arrive", CONVERGES, async || {
                let answer = self.calls(caller).get("http://cart/").await?;
                let id = header(&answer, "x-request-id")?;
                until("this one does", CONVERGES / 6, async || {
                    let spans = self.collector.spans();
                    let found = spans.iter().filter(|span| span.attribute("guid:x-request-id") == Some(id));
                    let found = found.count();
                    ensure!(found == 2, "{found} spans of the first hop");
                    Ok(())
                })
                .await
            })
            .await?;
        }
        Ok(())
    }
}

/// Both proxies name their spans and what they say of a request in the same words.
fn reads_alike(trace: &[ReceivedSpan]) -> anyhow::Result<()> {
    let mut said: BTreeMap<(&str, &str), (BTreeSet<&str>, String)> = BTreeMap::new();
    for span in trace {
        let keys = span.span.attributes.iter().map(|attribute| attribute.key.as_str());
        let keys = keys.filter(|key| !OF_ENVOY_ALONE.contains(key)).collect();
        let name = span.span.name.split(' ').next().unwrap_or_default().to_owned();
        said.insert((kind(span).as_str_name(), &span.sdk), (keys, name));
    }
    for kind in ["SPAN_KIND_CLIENT", "SPAN_KIND_SERVER"] {
        let (weft, envoy) = (said.get(&(kind, "weft-proxy")), said.get(&(kind, "envoy")));
        ensure!(weft.is_some() && weft == envoy, "{kind}: {weft:#?} and {envoy:#?}");
    }
    Ok(())
}

fn hex(text: &str) -> Vec<u8> {
    u64::from_str_radix(text, 16).unwrap_or_default().to_be_bytes().to_vec()
}
