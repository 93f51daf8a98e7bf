//! What `explain` says of a request is what both proxies do with it: random policies, random requests, real ones.

mod generate;

use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use bytes::Bytes;
use futures::{StreamExt as _, TryStreamExt as _};
use http::{HeaderValue, Request};
use http_body_util::Full;
use rand::SeedableRng as _;
use rand::rngs::StdRng;
use weft_api::client::ApplyOptions;
use weft_api::rest::{ExplainHeader, ExplainQuestion, ExplainResult, ExplainVerdict, ExplainedPort};
use weft_e2e::harness::{Answer, Mesh, Options, Pair, Sidecar, StoreKind, Workload, until};

use crate::shop::{Callers, service, start_catalog};
use generate::Asked;

#[tokio::test]
async fn what_explain_says_both_proxies_do_on_the_embedded_store() {
    Mesh::run(Options::new(StoreKind::Embedded), what_explain_says_both_proxies_do).await;
}

/// Sets of policies, and requests to each of them by each caller.
const SETS: usize = 40;
const REQUESTS: usize = 25;
/// How many are under way at once.
const AT_ONCE: usize = 4;
/// A change that is acknowledged reaches the last of a proxy's threads a moment later.
const SETTLES: Duration = Duration::from_secs(2);

async fn what_explain_says_both_proxies_do(mesh: &mut Mesh) -> anyhow::Result<()> {
    let seed = match std::env::var("WEFT_SEED") {
        Ok(seed) => seed.parse().context("WEFT_SEED is a number")?,
        Err(_) => rand::random::<u32>().into(),
    };
    let soak = std::env::var_os("WEFT_SOAK").is_some();
    println!("WEFT_SEED={seed} asks the same again");
    let callers = Callers::start(mesh).await?;
    mesh.apply(&service("door")).await?;
    let mut servers = Vec::new();
    for beside in Sidecar::ALL {
        servers.push(start_catalog(mesh, beside, "v1").await?);
    }
    let ids: Vec<&str> = callers.ids().into_iter().chain(servers.iter().map(Workload::id)).collect();
    mesh.in_sync(&ids).await?;
    let mut random = StdRng::seed_from_u64(seed);
    let mut tally = Tally::default();
    for set in 0..if soak { SETS * 10 } else { SETS } {
        let documents = generate::policies(&mut random);
        apply(mesh, &documents).await.with_context(|| format!("set {set}:\n{documents}"))?;
        let requests: Vec<Asked> = (0..REQUESTS).map(|_| generate::request(&mut random)).collect();
        let each = requests.iter().flat_map(|request| Sidecar::ALL.map(|caller| (caller, request)));
        let (mesh, callers, documents) = (&*mesh, &callers, &documents);
        let asked = futures::stream::iter(each.map(move |(caller, request)| async move {
            ask(mesh, callers, caller, request).await.with_context(|| {
                format!("WEFT_SEED={seed} set {set}, beside {}: {request:?}\n{documents}", caller.word())
            })
        }));
        let verdicts: Vec<(ExplainVerdict, u16)> = asked.buffer_unordered(AT_ONCE).try_collect().await?;
        verdicts.into_iter().for_each(|seen| tally.add(seen));
    }
    println!("{tally:?}");
    tally.is_worth_it()?;
    people_are_told(mesh).await
}

/// The command line says it on a terminal of eighty columns, and knows what was meant.
async fn people_are_told(mesh: &Mesh) -> anyhow::Result<()> {
    for question in [&["shop/door", "GET", "/a"][..], &["shop/catalog-envoy"], &["other.test", "GET", "/"]] {
        let said = mesh.weft(&[&["explain", "shop/web-weft"][..], question].concat()).await?;
        println!("{said}");
        let wide: Vec<&str> = said.lines().filter(|line| line.chars().count() > 80).collect();
        ensure!(wide.is_empty(), "{question:?}: {wide:?}");
        ensure!(said.contains("caller    shop/web-weft-"), "{question:?}: {said}");
    }
    let slip = mesh.weft(&["explain", "shop/web-weft", "shop/dor"]).await;
    let slip = slip.err().context("a service that does not exist was explained")?.to_string();
    ensure!(slip.contains("did you mean shop/door?"), "{slip}");
    Ok(())
}

/// What was seen: a test in which nothing is refused, or all is, shows little.
#[derive(Debug, Default)]
struct Tally {
    passed: usize,
    refused: usize,
    redirected: usize,
    answered: usize,
}

impl Tally {
    fn add(&mut self, (_, status): (ExplainVerdict, u16)) {
        match status {
            200..=299 => self.passed += 1,
            403 => self.refused += 1,
            300..=399 => self.redirected += 1,
            _ => self.answered += 1,
        }
    }

    fn is_worth_it(&self) -> anyhow::Result<()> {
        let least = [self.passed, self.refused, self.redirected, self.answered].into_iter().min();
        ensure!(least > Some(SETS / 4), "too little of one kind was seen: {self:?}");
        Ok(())
    }
}

/// Puts a set in place of the one before.
async fn apply(mesh: &Mesh, documents: &str) -> anyhow::Result<()> {
    let options = ApplyOptions {
        wait: Some("30s".to_owned()),
        prune: Some("of=question".to_owned()),
        ..ApplyOptions::default()
    };
    let result = mesh.client().apply(documents, &options).await?;
    let laggards = result.wait.map(|wait| wait.laggards).unwrap_or_default();
    ensure!(laggards.is_empty(), "these proxies did not take the change: {laggards:?}");
    Ok(())
}

/// Asks, then sends the request.
async fn ask(
    mesh: &Mesh,
    callers: &Callers,
    caller: Sidecar,
    asked: &Asked,
) -> anyhow::Result<(ExplainVerdict, u16)> {
    let mut headers: Vec<ExplainHeader> = asked
        .headers
        .iter()
        .map(|(name, value)| ExplainHeader { name: (*name).to_owned(), value: value.clone() })
        .collect();
    headers.push(ExplainHeader { name: "Host".to_owned(), value: asked.host.clone() });
    let question = ExplainQuestion {
        source: format!("shop/web-{}", caller.word()),
        destination: asked.destination(),
        method: Some(asked.method.to_owned()),
        path: Some(asked.path.clone()),
        headers,
    };
    let told = mesh.client().explain(&question).await?;
    let sidecar = callers.of(Pair { caller, server: Sidecar::Weft });
    let mut seen = None;
    let agreed = until("what is told is what is done", SETTLES, async || {
        let answer = sidecar.calls().send(asked.to_send()?).await?;
        let status = answer.status;
        let fits = fits(&told, &answer);
        seen = Some(answer);
        fits.map(|()| status)
    });
    match agreed.await {
        Ok(status) => Ok((told.verdict, status)),
        Err(error) => bail!("{error:#}\nanswered: {seen:#?}\ntold: {told:#?}"),
    }
}

impl Asked {
    /// What explain is asked about: `Host` says the rest.
    fn destination(&self) -> String {
        match self.service {
            "nobody" => self.host.clone(),
            service => format!("shop/{service}"),
        }
    }

    fn to_send(&self) -> anyhow::Result<Request<Full<Bytes>>> {
        let uri = format!("http://{}{}", self.host, self.path);
        // Written out, or the client would leave a port of 80 away.
        let mut request = Request::builder().method(self.method).uri(uri).header("host", &self.host);
        for (name, value) in &self.headers {
            request = request.header(*name, HeaderValue::from_bytes(value.as_bytes())?);
        }
        Ok(request.body(Full::new(Bytes::new()))?)
    }
}

/// Whether an answer is one that was told.
fn fits(told: &ExplainResult, answer: &Answer) -> anyhow::Result<()> {
    let status = answer.status;
    if let Some(expected) = &told.answer {
        ensure!(expected.status == Some(status), "{status} and not {:?}", expected.status);
        let location = answer.headers.get("location").and_then(|value| value.to_str().ok());
        ensure!(location == expected.location.as_deref(), "to {location:?} and not {:?}", expected.location);
        return Ok(());
    }
    let clusters =
        || told.routes.iter().flat_map(|route| &route.clusters).filter(|cluster| cluster.weight > 0);
    let of_service = |service: &str| -> anyhow::Result<&ExplainedPort> {
        let chosen = clusters().find(|cluster| cluster.service.as_deref() == Some(service));
        ensure!(chosen.is_some(), "{service} is none of the clusters that were told");
        let port = told.ports.iter().find(|port| port.service == service);
        port.with_context(|| format!("nothing was told of {service}"))
    };
    match status {
        200 => {
            let tree = answer.tree()?;
            let port = of_service(&format!("shop/{}", tree.service.trim_start_matches("shop/")))?;
            ensure!(port.allowed == Some(true), "{} let it pass", port.service);
        }
        403 => {
            let (service, rule) = refusal(&answer.body)?;
            let port = of_service(&service)?;
            ensure!((port.allowed, port.status) == (Some(false), Some(403)), "{service} refused it");
            let named = match (&port.policy, &port.rule) {
                (Some(policy), Some(rule)) => {
                    format!("{}/{rule}", policy.trim_start_matches("AuthorizationPolicy "))
                }
                (_, _) => "none".to_owned(),
            };
            ensure!(rule == named, "{rule} refused it, and not {named}");
        }
        status => {
            let missing = clusters().any(|cluster| cluster.missing == Some(status));
            let refused = told.ports.iter().any(|port| port.status == Some(status));
            ensure!(missing || refused, "{status} was not told");
        }
    }
    Ok(())
}

/// Who refused, and by which rule: `shop/x-v1: access to shop/x port http denied: …[RULE]; …`.
fn refusal(body: &str) -> anyhow::Result<(String, String)> {
    let service = body.split_once("access to ").and_then(|(_, rest)| rest.split_once(" port "));
    let rule = body.split_once("matched_policy[").and_then(|(_, rest)| rest.split_once(']'));
    match (service, rule) {
        (Some((service, _)), Some((rule, _))) => Ok((service.to_owned(), rule.to_owned())),
        (_, _) => bail!("no refusal that names a rule: {body}"),
    }
}
