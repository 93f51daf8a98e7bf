//! The policies as they are stored: between the log, which keeps opaque documents, and the set, which knows what they
//! mean.
//!
//! ```text
//! head() ──▶ Head { set } ──change──▶ new set ──commit(head, new set)──▶ Head, or Moved: begin again
//! follow() ──▶ every set after the first, with the keys that differ
//! ```

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::{Stream, StreamExt as _};
use tokio::sync::Mutex;
use weft_api::Backoff;
use weft_policies::set::PolicyKey;
use weft_policies::{Policy, PolicySet};

use super::log::{
    Advance, Authorship, Changeset, DocumentChange, Documents, LogError, LogSnapshot, PolicyLog,
};
use crate::clock::Clock;

const RETRY_FIRST: Duration = Duration::from_millis(200);
const RETRY_MOST: Duration = Duration::from_secs(10);

/// The newest policies, and what a commit on top of them is guarded by.
#[derive(Clone, Debug, Default)]
pub struct Head {
    snapshot: LogSnapshot,
    pub set: Arc<PolicySet>,
}

impl Head {
    /// Counts changesets from 1; 0 before the first.
    #[must_use]
    pub fn revision(&self) -> u64 {
        self.snapshot.sequence()
    }

    /// The policies after an advance from here; none when nothing happened.
    fn after(&self, advance: &Advance) -> Option<Self> {
        let set = match advance {
            Advance::Unchanged => return None,
            Advance::Steps(_, steps) => apply(&self.set, steps.iter().flat_map(|step| &step.changes)),
            Advance::Reloaded(snapshot) => read(snapshot.documents()),
        };
        Some(Self { snapshot: advance.snapshot()?.clone(), set: Arc::new(set) })
    }
}

/// Policies that came from the log.
#[derive(Clone, Debug)]
pub struct PolicyUpdate {
    /// Of the newest changeset.
    pub revision: u64,
    /// All policies after it.
    pub set: Arc<PolicySet>,
    /// Keys of those that differ from the update before.
    pub changed: Vec<PolicyKey>,
}

impl PolicyUpdate {
    fn new(head: &Head, changed: Vec<PolicyKey>) -> Self {
        Self { revision: head.revision(), set: Arc::clone(&head.set), changed }
    }
}

/// The policies after an earlier revision.
#[derive(Clone, Debug)]
pub struct EarlierPolicies {
    pub set: PolicySet,
    /// Documents that this version cannot read, by key, with the reason.
    pub unreadable: Vec<(String, String)>,
}

/// Reads and commits policies. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Policies {
    log: PolicyLog,
    clock: Clock,
    /// A lock that is held while the store is asked: what one reader has read, the next need not.
    known: Arc<Mutex<Head>>,
}

impl Policies {
    /// The policies of a log.
    #[must_use]
    pub fn new(log: PolicyLog, clock: Clock) -> Self {
        Self { log, clock, known: Arc::default() }
    }

    /// The newest policies.
    ///
    /// # Errors
    /// When the store fails or a record is unreadable.
    pub async fn head(&self) -> Result<Head, LogError> {
        let mut known = self.known.lock().await;
        if let Some(head) = known.after(&self.log.advance(&known.snapshot).await?) {
            *known = head;
        }
        Ok(known.clone())
    }

    /// Commits a set that was made from `base`. The server's own metadata of new objects is filled in here.
    ///
    /// # Errors
    /// [`LogError::Moved`] when someone else committed since; nothing is stored then.
    pub async fn commit(&self, base: &Head, set: &PolicySet, by: &Authorship) -> Result<Head, LogError> {
        let changed = base.set.differences(set);
        let set = self.with_server_metadata(base, set, &changed);
        let changes = changed.iter().map(|key| match set.get(key) {
            Some(policy) => DocumentChange::put(document_key(key), write(policy)),
            None => DocumentChange::delete(document_key(key)),
        });
        let changeset = Changeset { by: by.clone(), changes: changes.collect() };
        let snapshot = self.log.commit(&base.snapshot, changeset).await?;
        let head = Head { snapshot, set: Arc::new(set) };
        self.note(&head).await;
        Ok(head)
    }

    /// What one reader has read or written, the next need not.
    async fn note(&self, head: &Head) {
        let mut known = self.known.lock().await;
        if head.revision() > known.revision() {
            *known = head.clone();
        }
    }

    fn with_server_metadata(&self, base: &Head, set: &PolicySet, changed: &[PolicyKey]) -> PolicySet {
        let version = (base.revision() + 1).to_string();
        let now = self.clock.now().format(&time::format_description::well_known::Rfc3339).unwrap_or_default();
        let mut set = set.clone();
        for key in changed {
            set.keep(key, |metadata| {
                metadata.resource_version = Some(version.clone());
                metadata.uid.get_or_insert_with(|| format!("{:032x}", rand::random::<u128>()));
                metadata.created_at.get_or_insert_with(|| now.clone());
            });
        }
        set
    }

    /// The policies now, then after every commit of whatever replica.
    pub fn follow(&self) -> impl Stream<Item = PolicyUpdate> + Send + use<> {
        let policies = self.clone();
        let first = async move {
            let head = policies.head_whatever_it_takes().await;
            let changed = head.set.iter().map(Policy::key).collect();
            let update = PolicyUpdate::new(&head, changed);
            let advances = Box::pin(policies.log.follow(head.snapshot.clone()));
            let later = futures::stream::unfold(
                (policies, advances, head),
                |(policies, mut advances, last)| async move {
                    loop {
                        if let Some((head, changed)) = policies.advance(&last, &advances.next().await?).await
                        {
                            return Some((PolicyUpdate::new(&head, changed), (policies, advances, head)));
                        }
                    }
                },
            );
            futures::stream::once(std::future::ready(update)).chain(later)
        };
        futures::stream::once(first).flatten()
    }

    /// The policies after an advance from `last`, with the keys that differ; none when nothing happened.
    async fn advance(&self, last: &Head, advance: &Advance) -> Option<(Head, Vec<PolicyKey>)> {
        let known = self.known.lock().await.clone();
        let head = match advance.snapshot()? {
            // Somebody here has read or written it before.
            snapshot if snapshot.head() == known.snapshot.head() => known,
            _ => last.after(advance)?,
        };
        let changed = match advance {
            Advance::Unchanged => return None,
            Advance::Steps(_, steps) => {
                let changes = steps.iter().flat_map(|step| &step.changes);
                let keys: BTreeSet<PolicyKey> =
                    changes.filter_map(|change| policy_key(&change.key)).collect();
                keys.into_iter().filter(|key| last.set.get(key) != head.set.get(key)).collect()
            }
            Advance::Reloaded(_) => last.set.differences(&head.set),
        };
        self.note(&head).await;
        Some((head, changed))
    }

    async fn head_whatever_it_takes(&self) -> Head {
        let mut retry = Backoff::new(RETRY_FIRST, RETRY_MOST);
        loop {
            match self.head().await {
                Ok(head) => return head,
                Err(error) => {
                    tracing::warn!(
                        event = "policies_not_read",
                        %error,
                        "cannot read the policies; the last ones stay in force"
                    );
                    tokio::time::sleep(retry.next_wait()).await;
                }
            }
        }
    }

    /// The policies after an earlier revision.
    ///
    /// # Errors
    /// [`LogError::Unknown`] when that is not kept.
    pub async fn at(&self, revision: u64) -> Result<EarlierPolicies, LogError> {
        let mut unreadable = Vec::new();
        let documents = self.log.at(revision).await?;
        let policies = documents.iter().filter_map(|(key, document)| match try_read(document) {
            Ok(policy) => Some(policy),
            Err(reason) => {
                unreadable.push((key.to_string(), reason));
                None
            }
        });
        let set = PolicySet::from_policies(policies);
        Ok(EarlierPolicies { set, unreadable })
    }

    #[must_use]
    pub fn log(&self) -> &PolicyLog {
        &self.log
    }
}

/// The document of the log that a policy is.
#[must_use]
pub fn document_key(key: &PolicyKey) -> String {
    format!("{}/{}/{}", key.kind, key.namespace, key.name)
}

/// Kind, namespace and name of a document of the log, whether or not this version knows the kind.
#[must_use]
pub fn parts_of_key(document: &str) -> Option<(&str, &str, &str)> {
    let mut parts = document.splitn(3, '/');
    Some((parts.next()?, parts.next()?, parts.next()?))
}

/// The policy that a document is; none of a kind that this version does not know.
#[must_use]
pub fn policy_key(document: &str) -> Option<PolicyKey> {
    let (kind, namespace, name) = parts_of_key(document)?;
    Some(PolicyKey::new(kind.parse().ok()?, namespace.parse().ok()?, name.parse().ok()?))
}

fn write(policy: &Policy) -> Bytes {
    serde_json::to_vec(&policy.to_value()).expect("a JSON value always encodes").into()
}

/// A document that this version cannot read is passed over, loudly: one of them must not take the whole mesh down.
fn readable(key: &str, document: &Bytes) -> Option<Policy> {
    try_read(document)
        .inspect_err(|error| {
            tracing::error!(
                event = "policy_unreadable",
                key, %error,
                "a stored policy is passed over"
            );
        })
        .ok()
}

fn try_read(document: &Bytes) -> Result<Policy, String> {
    let value = serde_json::from_slice(document).map_err(|error| error.to_string())?;
    Policy::from_value(value).map_err(|error| error.to_string())
}

fn read(documents: &Documents) -> PolicySet {
    PolicySet::from_policies(documents.iter().filter_map(|(key, document)| readable(key, document)))
}

fn apply<'a>(set: &PolicySet, changes: impl Iterator<Item = &'a DocumentChange>) -> PolicySet {
    set.with(changes.filter_map(|change| {
        let policy = change.document.as_ref().and_then(|document| readable(&change.key, document));
        let key = policy.as_ref().map(Policy::key).or_else(|| policy_key(&change.key))?;
        Some((key, policy))
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn policies() -> Policies {
        let store = weft_store::open(weft_store::Location::Memory).await.unwrap();
        Policies::new(PolicyLog::new(store, Clock::system()), Clock::system())
    }

    fn service(name: &str, port: u16) -> Vec<weft_policies::Document> {
        let text = format!(
            "apiVersion: weft.dev/v1\nkind: Service\nmetadata: {{name: {name}, namespace: shop}}\n\
             spec: {{ports: [{{name: http, port: {port}, protocol: HTTP}}]}}\n"
        );
        weft_policies::parse("test", &text).unwrap()
    }

    #[tokio::test]
    async fn commit_reads_back_with_the_servers_metadata() {
        let policies = policies().await;
        let head = policies.head().await.unwrap();
        let applied = head.set.apply(&service("web", 80)).unwrap();
        policies.commit(&head, &applied.set, &Authorship::default()).await.unwrap();
        let other = Policies::new(policies.log().clone(), Clock::system());
        let read = other.head().await.unwrap();
        assert_eq!(read.revision(), 1);
        let policy = read.set.iter().next().unwrap();
        assert!(policy.metadata().uid.is_some() && policy.metadata().created_at.is_some());
        assert_eq!(policy.metadata().generation, 1);
    }

    #[tokio::test]
    async fn of_two_commits_on_one_head_the_second_is_refused() {
        let policies = policies().await;
        let head = policies.head().await.unwrap();
        let one = head.set.apply(&service("a", 80)).unwrap();
        let two = head.set.apply(&service("b", 80)).unwrap();
        policies.commit(&head, &one.set, &Authorship::default()).await.unwrap();
        let refused = policies.commit(&head, &two.set, &Authorship::default()).await.unwrap_err();
        assert!(matches!(refused, LogError::Moved { .. }), "{refused}");
    }

    #[tokio::test]
    async fn follower_sees_the_world_and_then_what_differs() {
        let policies = policies().await;
        let mut updates = Box::pin(policies.follow());
        let first = updates.next().await.unwrap();
        assert_eq!((first.revision, first.set.len()), (0, 0));
        for (revision, name) in [(1, "a"), (2, "b")] {
            let head = policies.head().await.unwrap();
            let applied = head.set.apply(&service(name, 80)).unwrap();
            policies.commit(&head, &applied.set, &Authorship::default()).await.unwrap();
            let update = updates.next().await.unwrap();
            assert_eq!(update.revision, revision);
            assert_eq!(update.changed.len(), 1);
            assert_eq!(update.changed[0].name.as_str(), name);
        }
    }
}
