//! Changes of the objects of one kind as they come: server-sent events, to be resumed from the last one's id.
//!
//! The log of changesets is what is followed, so that nothing is kept for a watcher, and one that comes back misses nothing
//! that is not pruned. Status is no part of it: it changes without a revision.

use std::convert::Infallible;
use std::time::Duration;

use axum::Extension;
use axum::extract::State;
use axum::response::sse::{Event, KeepAlive};
use schemars::JsonSchema;
use serde::Deserialize;
use tokio::sync::{OwnedSemaphorePermit, watch};
use weft_api::Name;
use weft_api::rest::{ObjectChange, ObjectChanges, ObjectList};
use weft_policies::PolicySet;
use weft_policies::kinds::Kind;
use weft_policies::kinds::role::ApiKind;

use super::access::ApiCaller;
use super::answer::EventStream;
use super::edges::WATCHERS;
use super::error::{ApiError, Refuses};
use super::extract::{InPath, LastEventId, Parameters};
use super::history::{not_kept, object, outcome_of};
use super::needs::rights_now;
use super::objects::{KindPath, objects_of};
use super::parameter::{Count, kind_of, read_name};
use super::problem_code::ProblemCode;
use super::rights::CallerRights;
use super::state::Api;
use crate::identity::holders::TokenHolder;
use crate::metrics::Limit;
use crate::policy::log::{LogError, UnreadChangeset};
use crate::policy::repository::parts_of_key;
use crate::reconciler::Published;

/// A comment comes so often where nothing changes: who reads can tell a quiet mesh from a lost connection.
const PULSE: Duration = Duration::from_secs(5);
/// The store is asked again so long after it failed.
const RETRY: Duration = Duration::from_secs(1);

/// Where to begin, and of what.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(inline)]
pub struct WatchQuery {
    /// Only objects in this namespace
    #[schemars(with = "Option<Name>")]
    namespace: Option<String>,
    /// Only what changes after this revision, in place of all that there is
    #[schemars(with = "Option<Count>")]
    revision: Option<u64>,
}

/// `GET /v1/watch/{kinds}`
pub async fn watch(
    State(api): State<Api>,
    Extension(caller): Extension<ApiCaller>,
    rights: CallerRights,
    InPath(path): InPath<KindPath>,
    Parameters(query): Parameters<WatchQuery>,
    LastEventId(last): LastEventId,
) -> Result<EventStream<(ObjectList, ObjectChanges)>, Refuses<410>> {
    let kind = kind_of(&path.kinds)?;
    if let Some(namespace) = &query.namespace {
        read_name("namespace", namespace)?;
    }
    let resumed = last.or(query.revision);
    let Ok(place) = api.watchers.clone().try_acquire_owned() else {
        api.metrics.limited(Limit::EdgeWatchers);
        let detail = format!("{WATCHERS} watch already; list now and then");
        return Err(ApiError::new(ProblemCode::TooManyWatchers, detail).into());
    };
    let (at, first) = match resumed {
        Some(revision) => {
            check_kept(&api, revision).await?;
            (revision, None)
        }
        None => {
            let (revision, set) = api.newest().await?;
            (revision, Some(snapshot(kind, query.namespace.as_deref(), &rights, revision, &set)))
        }
    };
    let published = api.reconciler.published();
    let holder = caller.holder().clone();
    let watcher =
        ObjectWatcher { kind, namespace: query.namespace, holder, at, first, published, api, _place: place };
    let events =
        futures::stream::unfold(Some(watcher), async |watcher: Option<ObjectWatcher>| watcher?.next().await);
    Ok(EventStream::new(events, KeepAlive::new().interval(PULSE)))
}

/// Refuses where the changes after a revision are not all there.
async fn check_kept(api: &Api, revision: u64) -> Result<(), ApiError> {
    let log = api.policies.log();
    let newest = log.newest().await?;
    if revision == newest {
        return Ok(());
    }
    let next = revision.saturating_add(1);
    match log.changeset(next).await {
        Ok(_) => Ok(()),
        Err(error) => Err(not_kept(api, next, error).await),
    }
}

fn snapshot(
    kind: Kind,
    namespace: Option<&str>,
    rights: &CallerRights,
    revision: u64,
    set: &PolicySet,
) -> Event {
    let objects = objects_of(kind, set, None).into_iter();
    let wanted = objects.filter(|((of, _), _)| {
        namespace.is_none_or(|namespace| namespace == of) && rights.may_read(ApiKind::Document(kind), of)
    });
    let list = ObjectList { items: wanted.map(|(_, object)| object).collect(), revision, next: None };
    event("snapshot", revision, &list)
}

fn event<T: serde::Serialize>(name: &str, revision: u64, data: &T) -> Event {
    // Data that cannot be written would be a fault of ours; the id says that something was there.
    let event = Event::default().event(name).id(revision.to_string());
    event.clone().json_data(data).unwrap_or(event)
}

struct ObjectWatcher {
    kind: Kind,
    namespace: Option<String>,
    /// Who it is: what was taken from them meanwhile, they are not told of.
    holder: TokenHolder,
    /// The revision that was told last.
    at: u64,
    /// What there is at the beginning.
    first: Option<Event>,
    published: watch::Receiver<Published>,
    api: Api,
    _place: OwnedSemaphorePermit,
}

impl ObjectWatcher {
    /// The next event, and who waits for the one after it: nobody once changes are missing.
    async fn next(mut self) -> Option<(Result<Event, Infallible>, Option<Self>)> {
        if let Some(first) = self.first.take() {
            return Some((Ok(first), Some(self)));
        }
        loop {
            let at = self.at;
            self.published.wait_for(|published| published.policy_revision > at).await.ok()?;
            match self.api.policies.log().changeset(at + 1).await {
                Ok(changeset) => {
                    self.at += 1;
                    let rights = rights_now(&self.api, &self.holder).await?;
                    let changes = self.wanted(&changeset, &rights);
                    if !changes.documents.is_empty() {
                        return Some((Ok(event("changes", self.at, &changes)), Some(self)));
                    }
                }
                Err(LogError::Unknown(_)) => {
                    return Some((Ok(Event::default().event("gone").data("{}")), None));
                }
                Err(error) => {
                    tracing::debug!(%error, "a watcher waits for the store");
                    tokio::time::sleep(RETRY).await;
                }
            }
        }
    }

    fn wanted(&self, changeset: &UnreadChangeset, rights: &CallerRights) -> ObjectChanges {
        let parts = changeset.changes.iter().filter_map(|change| Some((parts_of_key(&change.key)?, change)));
        let wanted = parts.filter(|((kind, namespace, _), _)| {
            *kind == self.kind.name()
                && self.namespace.as_ref().is_none_or(|wanted| wanted == namespace)
                && rights.may_read(ApiKind::Document(self.kind), namespace)
        });
        let documents = wanted.map(|(parts, change)| ObjectChange {
            namespace: parts.1.to_owned(),
            name: parts.2.to_owned(),
            outcome: outcome_of(parts, change).outcome,
            object: change.document.as_ref().and_then(object),
        });
        ObjectChanges { revision: changeset.info.sequence, documents: documents.collect() }
    }
}
