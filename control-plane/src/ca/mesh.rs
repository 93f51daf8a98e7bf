//! The mesh's authority in the store: made once by whoever comes first, renewed by the leader, followed by everyone.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt as _;
use tokio_util::sync::CancellationToken;
use weft_api::Backoff;
use weft_store::{CommitError, Leadership, Store, StoreExt, Txn};

use super::adoption::{check_founding, replacing_signer};
use super::crl::RevocationList;
use super::records::{AuthorityRecord, CaRecords, ISSUER, NEXT, PREFIX, RETIRED, ROOT, created, missing};
use super::seal::{SealError, SealKey};
use super::seen_version::{FIRST, SeenVersion};
use super::{Authority, AuthoritySettings, AuthorityState, BACKDATE, CaError, Serial};
use crate::clock::Clock;

const FIRST_RETRY: Duration = Duration::from_secs(1);
const LONGEST_RETRY: Duration = Duration::from_secs(10);
/// Far below what a transaction takes; the leader comes again.
const PRUNED_AT_ONCE: usize = 32;

/// Opens the mesh in the store, or creates it: of two control planes that start first at once, one wins and the
/// other reads. An issuer that ended while no control plane ran is replaced here, since nothing can be served before.
///
/// # Errors
/// When the store fails, holds another mesh or one whose root is over, or its keys do not open with the seal key.
pub async fn open(
    store: &dyn Store,
    settings: AuthoritySettings,
    seal_key: &Path,
    clock: Clock,
) -> Result<Authority, CaError> {
    loop {
        // Before the records are read: another replica on this machine may note a newer version meanwhile.
        let least = SeenVersion::read(seal_key).map_err(SealError::from)?.newest();
        if let Some(records) = CaRecords::read(store).await? {
            records.check_mesh(&settings.trust_domain)?;
            // A key made now would open nothing, so none is made for a mesh that exists.
            let seal = SealKey::load(seal_key)?.ok_or_else(|| SealError::Missing(seal_key.to_owned()))?;
            records.verify(&seal, least)?;
            let chain = records.open_chain(&seal)?;
            let now = clock.now();
            if chain.root.not_after <= now {
                return Err(CaError::RootOver(chain.root.not_after));
            }
            // No leader is needed for any: the guard lets one of those that start through.
            let least = settings.least_left();
            let txn = if let Some(txn) = replacing_signer(&records, &settings, &seal, &clock)? {
                txn
            } else if !records.root()?.signs() && chain.issuer.not_after <= now {
                return Err(CaError::IssuerOver(chain.issuer.not_after));
            } else if records.root()?.signs()
                && chain.issuer.not_after - now < least
                && chain.root.not_after - now >= least
            {
                let (root, life) = (records.root()?, settings.issuer_life);
                let (above, number) = ((ROOT, &root), chain.generation + 1);
                let record = AuthorityRecord::new_issuer(ISSUER, above, number, life, &seal, &clock)?;
                records.replacing_issuer(&record, &seal, &clock)?
            } else if records.list_of(&chain.issuer.serial).is_none() {
                records.first_list(store, &seal, &clock).await?
            } else {
                let lists = records.lists()?;
                let state = AuthorityState::read(&records, &settings, &seal, &clock)?;
                return Authority::try_new(settings, clock, seal, state, lists);
            };
            match store.commit(records.headed(txn, &seal)).await {
                Ok(_) | Err(CommitError::Conflict { .. } | CommitError::Uncertain { .. }) => continue,
                Err(error) => return Err(error.into()),
            }
        }
        let seal = SealKey::load_or_create(seal_key)?;
        let txn = creation(&settings, &seal, &clock)?;
        match store.commit(txn).await {
            Ok(_) => {
                seal.seen().begin_anew();
                tracing::info!(
                    event = "mesh_created",
                    trust_domain = %settings.trust_domain,
                    "created the mesh"
                );
            }
            Err(CommitError::Conflict { .. } | CommitError::Uncertain { .. }) => {
                tracing::info!(
                    event = "mesh_created_elsewhere",
                    "another control plane created the mesh at the same moment, or the store did not confirm; reading it"
                );
            }
            Err(error) => return Err(error.into()),
        }
    }
}

/// Makes the records of a new mesh.
fn creation(settings: &AuthoritySettings, seal: &SealKey, clock: &Clock) -> Result<Txn, CaError> {
    seal.seal_at(FIRST);
    let root = match &settings.own {
        None => AuthorityRecord::new_root(ROOT, settings, 1, seal, clock)?,
        Some(own) => {
            let root = own.record(ROOT, settings, 1, seal);
            check_founding(&root, own, settings, seal, clock)?;
            root
        }
    };
    let issuer = AuthorityRecord::new_issuer(ISSUER, (ROOT, &root), 1, settings.issuer_life, seal, clock)?;
    let (key, list) = issuer.first_list(ISSUER, seal, clock)?;
    let txn = Txn::new().expect_absent(ROOT).expect_absent(ISSUER);
    let txn = txn.put(ROOT, root.encode()).put(ISSUER, issuer.encode()).put(key, list.encode());
    Ok(created(txn, seal))
}

/// How far the renewal of the issuer is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Renewal {
    /// The issuer is in the first half of its life.
    NotDue,
    /// A new one was made. Its list is in the bundle now, and it signs nothing yet.
    Announced,
    /// Not everybody has the new one's list yet.
    Waiting,
    /// The new one signs from now on.
    Renewed,
}

impl Authority {
    /// Makes a new issuer when half of the old one's life is over, and lets it, or one that was imported, sign once `is_acknowledged`: every proxy has
    /// the bundle with its list, or its own leaf has ended. At three quarters it signs all the same. The leader calls this;
    /// the writes are fenced.
    ///
    /// # Errors
    /// When the store fails, leadership was lost, or a key does not open.
    pub async fn renew_issuer(
        &self,
        store: &dyn Store,
        leader: &Leadership,
        is_acknowledged: bool,
    ) -> Result<Renewal, CaError> {
        let issuer = self.chain().issuer.clone();
        let (start, now) = (issuer.not_before + BACKDATE, self.clock.now());
        let life = issuer.not_after - start;
        let is_due = now >= start + life / 2;
        if !is_due && self.state().coming_issuer.is_none() {
            return Ok(Renewal::NotDue);
        }
        let records = self.records(store).await?;
        let (root, old) = (records.root()?, records.issuer()?);
        let is_late = now >= start + life * 3 / 4;
        let (txn, renewal) = match records.next()? {
            Some(next) if is_late || (is_acknowledged && self.has_list_of(&next)?) => {
                if !is_acknowledged {
                    tracing::warn!(
                        event = "issuer_promoted_early",
                        "the new issuer signs now, though not every proxy has acknowledged its revocation list"
                    );
                }
                (records.promoting(&next, &self.seal)?, Renewal::Renewed)
            }
            Some(_) => return Ok(Renewal::Waiting),
            // The owner of the root signs the next one; alarms tell when it is time.
            None if !is_due || !root.signs() => return Ok(Renewal::NotDue),
            None => {
                let record = AuthorityRecord::new_issuer(
                    NEXT,
                    (ROOT, &root),
                    old.generation + 1,
                    self.settings.issuer_life,
                    &self.seal,
                    &self.clock,
                )?;
                (records.announcing(&record, &self.seal, &self.clock)?, Renewal::Announced)
            }
        };
        store.commit(records.headed(txn, &self.seal).guard(leader.guard())).await?;
        self.reload(store).await?;
        tracing::info!(
            event = "issuer_renewed",
            generation = old.generation + 1,
            ?renewal,
            "renewing the issuer"
        );
        Ok(renewal)
    }

    /// What the store has now.
    pub(super) async fn records(&self, store: &dyn Store) -> Result<CaRecords, CaError> {
        // What another task has seen meanwhile is no measure for what this one reads.
        let least = self.seal.seen().newest();
        let records = CaRecords::read(store).await?.ok_or_else(|| missing(ROOT))?;
        records.check_mesh(self.trust_domain())?;
        records.verify(&self.seal, least)?;
        Ok(records)
    }

    fn has_list_of(&self, next: &AuthorityRecord) -> Result<bool, CaError> {
        let serial = next.valid(NEXT)?.serial;
        Ok(self.lists().iter().any(|list| list.issuer == serial))
    }

    /// Adds to a transaction what puts these leaves on their issuers' lists. Leaves that have ended leave a list when it is
    /// written anew. None when everything stands there already.
    ///
    /// # Errors
    /// When the store fails or a key does not open.
    pub async fn listing(
        &self,
        store: &dyn Store,
        txn: Txn,
        leaves: &[(Serial, Serial)],
    ) -> Result<(Txn, bool), CaError> {
        let records = self.records(store).await?;
        let (mut txn, mut is_changed) = (txn, false);
        for entry in &records.lists {
            let list = RevocationList::decode(entry)?;
            let wanted: std::collections::BTreeSet<Serial> = leaves
                .iter()
                .filter(|(issuer, _)| *issuer == list.issuer)
                .map(|(_, leaf)| leaf.clone())
                .collect();
            if wanted.is_subset(&list.revoked) {
                continue;
            }
            let (certificate, key) = records.issuer_of(&list.issuer, &self.seal)?;
            let next = list.next(&certificate, key, self.clock.now(), wanted)?;
            let key = RevocationList::key(&list.issuer);
            txn = txn.expect_at(key.as_str(), entry.mod_revision).put(key, next.encode());
            is_changed = true;
        }
        let known = |issuer: &Serial| records.list_of(issuer).is_some();
        for (issuer, leaf) in leaves.iter().filter(|(issuer, _)| !known(issuer)) {
            tracing::warn!(
                event = "leaf_not_listed",
                %leaf, %issuer,
                "its issuer has no revocation list any more: the leaf passes at peers until its end"
            );
        }
        Ok((if is_changed { records.headed(txn, &self.seal) } else { txn }, is_changed))
    }

    /// Removes issuers that have ended, and their lists. The leader calls this; the writes are fenced.
    ///
    /// # Errors
    /// When the store fails or leadership was lost.
    pub async fn prune_issuers(&self, store: &dyn Store, leader: &Leadership) -> Result<usize, CaError> {
        let records = self.records(store).await?;
        let now = self.clock.now().unix_timestamp();
        let (mut txn, mut ended) = (Txn::new().guard(leader.guard()), 0);
        for entry in &records.lists {
            let list = RevocationList::decode(entry)?;
            if list.issuer_ends_at < now && ended < PRUNED_AT_ONCE {
                txn = txn.delete(&entry.key).delete(format!("{RETIRED}{}", list.issuer));
                ended += 1;
            }
        }
        if ended > 0 {
            store.commit(records.headed(txn, &self.seal)).await?;
        }
        Ok(ended)
    }

    /// Takes roots, issuers and lists from the store, if it has newer ones than were taken before.
    ///
    /// # Errors
    /// When the store fails or a record does not open.
    pub async fn reload(&self, store: &dyn Store) -> Result<(), CaError> {
        let records = self.records(store).await?;
        let newest = AuthorityState::read(&records, &self.settings, &self.seal, &self.clock)?;
        self.state.send_if_modified(|state| {
            // Two readings may end in another order than they began, and whoever writes to the store may put back what was there
            // before: an issuer signs no more once there is one after it.
            let is_newer =
                newest.revision > state.revision && newest.signing.generation >= state.signing.generation;
            let differs = is_newer && !newest.serves_as(state);
            if is_newer {
                *state = Arc::new(newest);
            }
            differs
        });
        let newest = records.lists()?;
        self.lists.send_if_modified(|lists| {
            let differs = **lists != newest;
            if differs {
                *lists = Arc::new(newest);
            }
            differs
        });
        Ok(())
    }
}

/// Takes every new issuer and list as soon as it is stored, whoever made it. The task ends with `shutdown`.
pub fn spawn_follow(authority: Arc<Authority>, store: Arc<dyn Store>, shutdown: CancellationToken) {
    tokio::spawn(async move {
        let mut changes = store.follow(PREFIX);
        loop {
            tokio::select! {
                change = changes.next() => if change.is_none() { return },
                () = shutdown.cancelled() => return,
            }
            let mut retry = Backoff::new(FIRST_RETRY, LONGEST_RETRY);
            while let Err(error) = authority.reload(store.as_ref()).await {
                tracing::warn!(
                    event = "issuer_not_read",
                    %error,
                    "cannot read the issuer; the one we have signs on"
                );
                tokio::select! {
                    () = tokio::time::sleep(retry.next_wait()) => {}
                    () = shutdown.cancelled() => return,
                }
            }
        }
    });
}
