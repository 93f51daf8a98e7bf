//! How proxies took what is compiled of policies: at this replica, and at all.
//!
//! ```text
//! GET /v1/{kinds}  ─▶ MeshAcknowledgements ─┬─ streams of this replica
//!                                           └─ POST /replica/acknowledgements at each other
//! ```
//!
//! A proxy has a policy when all of its streams have answered for the publication that the policy's revision went out with, and
//! refused nothing that comes from it. `apply --wait` counts by the same rules.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::middleware::from_fn;
use axum::response::{IntoResponse as _, Response};
use axum::routing::post;
use axum::{Json, Router};
use futures::future::join_all;
use serde::{Deserialize, Serialize};
use weft_api::rest::{Laggard, ProxyCounts};
use weft_api::{ResourceKey, WorkloadId};
use weft_policies::kinds::Kind;
use weft_policies::set::PolicyKey;
use weft_xds::server::StreamTypeStatus;

use super::traffic::{Heard, OtherReplicas, is_meant, only_replicas};
use crate::reconciler::{Published, ReconcilerHandle, ServedStream, ShapedPolicies, ShapedResource};

/// Where a replica is asked.
const PATH: &str = "/replica/acknowledgements";
/// Names of proxies that an answer has, of each sort.
const NAMES: usize = 1000;

/// A policy, and the revision that it was changed by last.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PolicyVersion {
    pub key: PolicyKey,
    pub revision: u64,
}

/// Which proxies are named beside the counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum NamedProxies {
    /// So many of those that refused, or have not answered.
    Laggards(usize),
    Everyone,
}

/// What one replica asks another.
#[derive(Debug, Serialize, Deserialize)]
struct AcknowledgementQuestion {
    policies: Vec<AskedPolicy>,
    named: NamedProxies,
}

#[derive(Debug, Serialize, Deserialize)]
struct AskedPolicy {
    kind: String,
    namespace: String,
    name: String,
    revision: u64,
}

impl AskedPolicy {
    fn of(PolicyVersion { key, revision }: &PolicyVersion) -> Self {
        let (namespace, name) = (key.namespace.to_string(), key.name.to_string());
        Self { kind: key.kind.name().to_owned(), namespace, name, revision: *revision }
    }

    /// None for a kind that this version does not know.
    fn read(&self) -> Option<PolicyVersion> {
        let (namespace, name) = (self.namespace.parse().ok()?, self.name.parse().ok()?);
        Some(PolicyVersion {
            key: PolicyKey::new(Kind::named(&self.kind)?, namespace, name),
            revision: self.revision,
        })
    }
}

/// Asks all replicas. Cheap to clone.
#[derive(Clone, Debug)]
pub struct MeshAcknowledgements {
    reconciler: ReconcilerHandle,
    others: Option<OtherReplicas>,
}

impl MeshAcknowledgements {
    /// Of this replica, and of the others where there may be any.
    #[must_use]
    pub fn new(reconciler: ReconcilerHandle, others: Option<OtherReplicas>) -> Self {
        Self { reconciler, others }
    }

    /// Of each of these policies, in their order.
    pub async fn of(&self, policies: &[PolicyVersion], named: NamedProxies) -> Vec<ProxyCounts> {
        let heard = self.of_others(policies, named);
        let (mut counts, Heard { all: theirs, unheard }) =
            tokio::join!(here(&self.reconciler, policies, named), heard);
        for answer in theirs {
            for (ours, theirs) in counts.iter_mut().zip(answer) {
                add(ours, theirs);
            }
        }
        for count in &mut counts {
            count.unheard = unheard;
            // Those who refused first: of them there is more to read.
            count.laggards.sort_by(|a, b| (a.error.is_none(), &a.proxy).cmp(&(b.error.is_none(), &b.proxy)));
            limit(count, named);
        }
        counts
    }

    async fn of_others(
        &self,
        policies: &[PolicyVersion],
        named: NamedProxies,
    ) -> Heard<Vec<Vec<ProxyCounts>>> {
        let Some(others) = &self.others else { return Heard { all: Vec::new(), unheard: 0 } };
        let question =
            AcknowledgementQuestion { policies: policies.iter().map(AskedPolicy::of).collect(), named };
        let (all, unheard) = others.ask(PATH, &question).await;
        Heard { all, unheard }
    }
}

fn limit(count: &mut ProxyCounts, named: NamedProxies) {
    let most = match named {
        NamedProxies::Laggards(most) => most,
        NamedProxies::Everyone => NAMES,
    };
    count.laggards.truncate(most);
    count.acknowledged.truncate(NAMES);
    count.absent.truncate(NAMES);
}

/// Who is away every replica knows, so that it is told by the one that was asked.
fn add(ours: &mut ProxyCounts, theirs: ProxyCounts) {
    ours.targeted += theirs.targeted;
    ours.acked += theirs.acked;
    ours.pending += theirs.pending;
    ours.nacked += theirs.nacked;
    ours.laggards.extend(theirs.laggards);
    ours.acknowledged.extend(theirs.acknowledged);
}

#[derive(Clone)]
struct AcknowledgementTeller {
    reconciler: ReconcilerHandle,
    replica: Arc<str>,
}

/// Where other replicas ask this one. The caller's identity has been looked at before.
pub fn router(reconciler: ReconcilerHandle, replica: &str) -> Router {
    let answering = AcknowledgementTeller { reconciler, replica: replica.into() };
    Router::new().route(PATH, post(answer)).route_layer(from_fn(only_replicas)).with_state(answering)
}

async fn answer(
    State(AcknowledgementTeller { reconciler, replica }): State<AcknowledgementTeller>,
    headers: HeaderMap,
    Json(AcknowledgementQuestion { policies, named }): Json<AcknowledgementQuestion>,
) -> Response {
    if !is_meant(&headers, &replica) {
        return StatusCode::MISDIRECTED_REQUEST.into_response();
    }
    let read: Vec<Option<PolicyVersion>> = policies.iter().map(AskedPolicy::read).collect();
    let known: Vec<PolicyVersion> = read.iter().flatten().cloned().collect();
    let mut counts = here(&reconciler, &known, named).await.into_iter();
    // In the order of the question, whether or not the kind is known here.
    let mut next = |one: &Option<PolicyVersion>| one.as_ref().and_then(|_| counts.next()).unwrap_or_default();
    let mut answer: Vec<ProxyCounts> = read.iter().map(&mut next).collect();
    answer.iter_mut().for_each(|count| limit(count, named));
    Json(answer).into_response()
}

/// A resource that a proxy refused, or that is kept from it because of a refusal.
#[derive(Clone, Debug)]
pub struct RefusedResource {
    /// The proxy's words, behind the resource's name.
    pub words: String,
    /// The policies that it comes from; none where that is not known.
    pub origins: Vec<PolicyKey>,
}

/// Whether a stream has answered for a publication, or was given nothing of it.
#[must_use]
pub fn has_answered(stream: &ServedStream, number: u64) -> bool {
    stream.answered() >= number || stream.published < number
}

/// What a workload refuses, in its words, or what is kept from it because of a refusal.
pub async fn refusals(
    reconciler: &ReconcilerHandle,
    workload: &WorkloadId,
    streams: &[&ServedStream],
) -> Vec<RefusedResource> {
    let mut found = Vec::new();
    for stream in streams {
        let Some(status) = stream.status().await else { continue };
        for entry in &status.types {
            let refused =
                entry.rejected.iter().map(|one| (&one.name, format!("{}: {}", one.name, one.message)));
            let held_back = entry.held_back.iter().map(|name| (name, held_back(name, entry)));
            let (names, words): (Vec<_>, Vec<_>) = refused.chain(held_back).unzip();
            if names.is_empty() {
                continue;
            }
            let keys = names.into_iter().map(|name| ResourceKey::new(entry.kind, name.clone())).collect();
            let origins = reconciler.origins(workload, keys).await;
            found.extend(
                words.into_iter().zip(origins).map(|(words, origins)| RefusedResource { words, origins }),
            );
        }
    }
    found
}

fn held_back(name: &str, entry: &StreamTypeStatus) -> String {
    let words = entry.last_nack.as_deref().unwrap_or("a cluster that it needs was refused");
    format!("{name}: held back until what the proxy refused changes: {words}")
}

/// The streams of one workload here, and what it refuses.
struct ConnectedProxy<'a> {
    id: &'a WorkloadId,
    streams: Vec<&'a ServedStream>,
    refused: Vec<RefusedResource>,
}

/// Of each of these policies, as the streams of this replica say.
async fn here(
    reconciler: &ReconcilerHandle,
    policies: &[PolicyVersion],
    named: NamedProxies,
) -> Vec<ProxyCounts> {
    let keys = policies.iter().map(|policy| policy.key.clone()).collect();
    let Some(shaped) = reconciler.shaped(keys).await else {
        return vec![ProxyCounts::default(); policies.len()];
    };
    // Nobody else is asked.
    let told: BTreeSet<&WorkloadId> =
        shaped.resources.values().flatten().flat_map(|resource| resource.told.iter()).collect();
    let mut streams: BTreeMap<&WorkloadId, Vec<&ServedStream>> = BTreeMap::new();
    for stream in shaped.streams.iter().filter(|stream| told.contains(&stream.workload)) {
        streams.entry(&stream.workload).or_default().push(stream);
    }
    let asked = streams.into_iter().map(async |(id, streams)| {
        let refused = refusals(reconciler, id, &streams).await;
        (id, ConnectedProxy { id, streams, refused })
    });
    let proxies: BTreeMap<&WorkloadId, ConnectedProxy<'_>> = join_all(asked).await.into_iter().collect();
    let mut counts = Vec::with_capacity(policies.len());
    for policy in policies {
        counts.push(count(policy, &shaped, &proxies, named));
        // A long list leaves room for others in between.
        tokio::task::consume_budget().await;
    }
    counts
}

fn count(
    policy: &PolicyVersion,
    shaped: &ShapedPolicies,
    proxies: &BTreeMap<&WorkloadId, ConnectedProxy<'_>>,
    named: NamedProxies,
) -> ProxyCounts {
    let resources = shaped.resources.get(&policy.key).map_or(&[][..], Vec::as_slice);
    let number = publication_of(policy, &shaped.published);
    let (mut count, mut seen) = (ProxyCounts::default(), BTreeSet::new());
    let (mut refused, mut pending) = (Vec::new(), Vec::new());
    for resource in resources {
        for id in resource.told.iter() {
            if seen.contains(id) {
                continue;
            }
            let Some(proxy) = proxies.get(id) else {
                if shaped.away.contains(id) && seen.insert(id) {
                    count.away += 1;
                    count.absent.push(id.to_string());
                }
                continue;
            };
            if !proxy.takes(resource) {
                continue;
            }
            seen.insert(id);
            count.targeted += 1;
            let proxy_name = || proxy.id.to_string();
            match proxy.answer(&policy.key, number) {
                ProxyAnswer::Taken => {
                    count.acked += 1;
                    if named == NamedProxies::Everyone {
                        count.acknowledged.push(proxy_name());
                    }
                }
                ProxyAnswer::Pending => pending.push(Laggard { proxy: proxy_name(), error: None }),
                ProxyAnswer::Refused(words) => {
                    refused.push(Laggard { proxy: proxy_name(), error: Some(words.to_owned()) });
                }
            }
        }
    }
    (count.pending, count.nacked) = (pending.len(), refused.len());
    count.laggards = refused;
    count.laggards.extend(pending);
    if named != NamedProxies::Everyone {
        count.absent.clear();
    }
    count.acknowledged.sort();
    count.absent.sort();
    count
}

/// The publication that a policy went out with; none while that is still to come.
fn publication_of(policy: &PolicyVersion, published: &Published) -> Option<u64> {
    if published.policy_revision < policy.revision {
        return None;
    }
    let mut went_out = published.publications.iter();
    Some(went_out.find(|one| one.policies >= policy.revision).map_or(0, |one| one.number))
}

enum ProxyAnswer<'a> {
    Taken,
    Pending,
    Refused(&'a str),
}

impl ConnectedProxy<'_> {
    fn takes(&self, resource: &ShapedResource) -> bool {
        self.streams.iter().any(|stream| stream.takes(resource.key_in(stream.form)))
    }

    fn answer(&self, policy: &PolicyKey, number: Option<u64>) -> ProxyAnswer<'_> {
        let answered =
            number.is_some_and(|number| self.streams.iter().all(|stream| has_answered(stream, number)));
        if !answered {
            return ProxyAnswer::Pending;
        }
        let refused = self.refused.iter().find(|refused| refused.origins.contains(policy));
        refused.map_or(ProxyAnswer::Taken, |refused| ProxyAnswer::Refused(&refused.words))
    }
}
