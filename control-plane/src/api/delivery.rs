//! Waiting until the proxies that are connected to this replica have a change.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::time::{Instant, sleep, timeout_at};
use weft_api::WorkloadId;
use weft_api::rest::{Laggard, WaitResult};
use weft_policies::set::PolicyKey;

use super::state::Api;
use crate::policy::repository::{document_key, policy_key};
use crate::reconciler::{Publication, ServedStream};
use crate::replicas::acknowledgements::{self, RefusedResource};

const POLL: Duration = Duration::from_millis(20);

/// What proxies are to have.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum AwaitedChange {
    /// A revision of the policies. Of what proxies refuse, that of these documents is told.
    Revision { revision: u64, documents: Vec<String> },
    /// Whether this workload is drained.
    Drain { workload: WorkloadId, drained: bool },
}

impl AwaitedChange {
    /// A revision, and the policies that it is about.
    #[must_use]
    pub fn of_revision(revision: u64, policies: &[PolicyKey]) -> Self {
        Self::Revision { revision, documents: policies.iter().map(document_key).collect() }
    }
}

/// Waits until every proxy that is connected here, and that it concerns, has answered for it; none where this replica has not read
/// the change in time.
pub async fn until_taken_here(api: &Api, change: &AwaitedChange, limit: Duration) -> Option<WaitResult> {
    let deadline = Instant::now() + limit;
    match change {
        AwaitedChange::Revision { revision, documents } => {
            let policies: Vec<PolicyKey> = documents.iter().filter_map(|key| policy_key(key)).collect();
            until_acknowledged(api, *revision, &policies, deadline).await
        }
        AwaitedChange::Drain { workload, drained } => {
            let seen = until_drain_is_seen(api, workload, *drained);
            timeout_at(deadline, seen).await.ok()?.then_some(())?;
            until_nothing_waits(api, deadline).await
        }
    }
}

/// Waits until every connected proxy that the revision concerns has answered for it.
async fn until_acknowledged(
    api: &Api,
    revision: u64,
    policies: &[PolicyKey],
    deadline: Instant,
) -> Option<WaitResult> {
    let mut published = api.reconciler.published();
    let compiled = published.wait_for(|published| published.policy_revision >= revision);
    let publication = {
        let published = timeout_at(deadline, compiled).await.ok()?.ok()?;
        let mut went_out = published.publications.iter();
        went_out.find(|publication| publication.policies >= revision).cloned()
    };
    let Some(publication) = publication else { return Some(WaitResult::default()) };
    loop {
        let streams = api.reconciler.streams().await?;
        let result = answers(api, &streams, &publication, policies).await;
        let answered = result.laggards.iter().all(|laggard| laggard.error.is_some());
        if answered || Instant::now() >= deadline {
            return Some(result);
        }
        sleep(POLL).await;
    }
}

/// Where the workloads that a publication went to stand now. One has it when all of its streams have answered for it; one
/// that lost its streams meanwhile has not.
async fn answers(
    api: &Api,
    streams: &[ServedStream],
    publication: &Publication,
    policies: &[PolicyKey],
) -> WaitResult {
    let mut by_workload: BTreeMap<&WorkloadId, Vec<&ServedStream>> = BTreeMap::new();
    for stream in streams {
        by_workload.entry(&stream.workload).or_default().push(stream);
    }
    let mut laggards = Vec::new();
    for workload in publication.targets.iter() {
        let streams = by_workload.get(workload).map_or(&[][..], Vec::as_slice);
        let has_answered =
            |stream: &&ServedStream| acknowledgements::has_answered(stream, publication.number);
        let error = if streams.is_empty() || !streams.iter().all(has_answered) {
            None
        } else {
            match refusal(api, workload, streams, policies).await {
                Some(words) => Some(words),
                None => continue,
            }
        };
        laggards.push(Laggard { proxy: workload.to_string(), error });
    }
    let targeted = publication.targets.len();
    WaitResult { targeted, acked: targeted - laggards.len(), laggards, unheard: 0 }
}

/// What a workload refuses of the policies, in its words, or what is kept from it because of a refusal. What it refuses
/// of other policies is not this change's.
async fn refusal(
    api: &Api,
    workload: &WorkloadId,
    streams: &[&ServedStream],
    policies: &[PolicyKey],
) -> Option<String> {
    let refused = acknowledgements::refusals(&api.reconciler, workload, streams).await;
    let is_of_change = |one: &RefusedResource| {
        one.origins.is_empty() || one.origins.iter().any(|origin| policies.contains(origin))
    };
    refused.into_iter().find(is_of_change).map(|one| one.words)
}

/// Waits until the reconciler has a workload's record as it was written, and has published it. False where the workload or
/// the control plane goes meanwhile.
pub async fn until_drain_is_seen(api: &Api, workload: &WorkloadId, drained: bool) -> bool {
    loop {
        match api.reconciler.records().get(workload) {
            Some(record) if record.drained.is_some() == drained => break,
            Some(_) => sleep(POLL).await,
            None => return false,
        }
    }
    // What is published follows the batch in which the record came: a second answer is of the next one.
    api.reconciler.is_alive().await && api.reconciler.is_alive().await
}

/// Waits until every connected proxy has what was published until now.
async fn until_nothing_waits(api: &Api, deadline: Instant) -> Option<WaitResult> {
    let streams = api.reconciler.streams().await?;
    loop {
        let is_behind = |stream: &&ServedStream| stream.answered() < stream.published;
        let mut behind: Vec<&WorkloadId> =
            streams.iter().filter(is_behind).map(|stream| &stream.workload).collect();
        behind.dedup();
        if behind.is_empty() || Instant::now() >= deadline {
            let mut all: Vec<&WorkloadId> = streams.iter().map(|stream| &stream.workload).collect();
            all.sort();
            all.dedup();
            let laggards = behind.iter().map(|id| Laggard { proxy: id.to_string(), error: None });
            let laggards: Vec<Laggard> = laggards.collect();
            let acked = all.len() - laggards.len();
            return Some(WaitResult { targeted: all.len(), acked, laggards, unheard: 0 });
        }
        sleep(POLL).await;
    }
}
