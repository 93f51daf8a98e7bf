//! Whose certificate a call carries: asked once for each call, in one place, before anything serves it.
//!
//! ```text
//! call ─▶ Peer (TLS: chain, names, serial) ─▶ Instances::of ─▶ Member ─▶ discovery, health, metrics, renew, leave, return
//!                                              │
//!                                              ├ has not expired
//!                                              ├ the ledger knows the serial: an instance, which is a joining
//!                                              │   (or a restore has forgotten it: `lost_time`)
//!                                              ├ the workload's record is still that instance's
//!                                              └ no file gives the name to another service
//! ```
//!
//! A name outlives its instances, and so do connections: a certificate that was valid in the handshake may be expired,
//! replaced or revoked when the next call comes. Calls without a certificate pass; a join is one, and all others refuse
//! them by themselves.

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::Response;
use time::OffsetDateTime;
use weft_api::{ServiceId, WorkloadId};
use weft_policies::PolicySet;
use weft_store::ReadError;
use weft_xds::transport::PeerIdentity;

use super::lost_time::{self, LostTime};
use crate::ca::{Authority, Ledger, LedgerEntry, Serial};
use crate::clock::Clock;
use crate::presence::grants::{self, NotGranted};
use crate::presence::workloads::{WorkloadRecord, WorkloadStore};
use crate::tls::Peer;

/// A member of the mesh, by a certificate that counts now. Handlers find it in the request's extensions.
#[derive(Debug, Clone)]
pub struct Member {
    pub id: WorkloadId,
    pub service: ServiceId,
    /// Which joining of the name it is.
    pub instance: Arc<str>,
    /// Serial number of its certificate.
    pub serial: Serial,
    /// When its certificate ends.
    pub not_after: OffsetDateTime,
}

/// Why a certificate does not count, though the mesh signed it.
#[derive(Debug, thiserror::Error)]
pub enum NotAMember {
    /// The connection outlived it.
    #[error(
        "the client certificate has expired; connect with the newest one, or join again with a new token"
    )]
    Expired,
    /// No such leaf was issued, or it ended so long ago that it is forgotten.
    #[error("the client certificate is not one that this mesh's ledger knows; join again with a new token")]
    Unknown,
    #[error("the workload {0} was removed from the mesh; join again with a new token")]
    Removed(WorkloadId),
    /// Another instance of the same name.
    #[error(
        "another instance has joined as {0} since; give this one another --name and join again with a new token"
    )]
    Replaced(WorkloadId),
    /// An operator's file has the name.
    #[error(transparent)]
    NotGranted(#[from] NotGranted),
    /// Nothing here knows, and the store cannot be asked.
    #[error("the store cannot be asked whose the client certificate is; come back")]
    Store(#[from] ReadError),
}

impl From<NotAMember> for tonic::Status {
    fn from(error: NotAMember) -> Self {
        let text = error.to_string();
        match error {
            NotAMember::Expired | NotAMember::Unknown => Self::unauthenticated(text),
            NotAMember::Removed(_) | NotAMember::Replaced(_) | NotAMember::NotGranted(_) => {
                Self::permission_denied(text)
            }
            NotAMember::Store(_) => Self::unavailable(text),
        }
    }
}

/// What is known of the mesh without asking the store.
pub trait InstanceLookup: std::fmt::Debug + Send + Sync {
    /// The record of a workload as it was last seen.
    fn record(&self, id: &WorkloadId) -> Option<WorkloadRecord>;
    /// The policies that are served.
    fn policies(&self) -> Arc<PolicySet>;
}

/// Tells members from those who were. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Instances {
    ledger: Ledger,
    workloads: WorkloadStore,
    known: Arc<dyn InstanceLookup>,
    lost: Option<LostPeriod>,
    clock: Clock,
}

/// The time whose ledger is lost, and who knows which issuers signed then.
#[derive(Debug, Clone)]
struct LostPeriod {
    time: LostTime,
    authority: Arc<Authority>,
}

impl Instances {
    /// Asks the ledger, the records, and the policies that are served.
    #[must_use]
    pub fn new(
        ledger: Ledger,
        workloads: WorkloadStore,
        known: Arc<dyn InstanceLookup>,
        clock: Clock,
    ) -> Self {
        Self { ledger, workloads, known, lost: None, clock }
    }

    /// Takes holders of certificates that were issued in this time for the instances on record: see [`lost_time`].
    ///
    /// [`lost_time`]: super::lost_time
    #[must_use]
    pub fn after_a_restore(mut self, lost: Option<LostTime>, authority: &Arc<Authority>) -> Self {
        self.lost = lost.map(|time| LostPeriod { time, authority: Arc::clone(authority) });
        self
    }

    /// The ledger that it asks.
    #[must_use]
    pub fn ledger(&self) -> &Ledger {
        &self.ledger
    }

    /// The records that it asks.
    #[must_use]
    pub fn workloads(&self) -> &WorkloadStore {
        &self.workloads
    }

    /// The record of a workload as it was last seen.
    #[must_use]
    pub fn record(&self, id: &WorkloadId) -> Option<WorkloadRecord> {
        self.known.record(id)
    }

    /// Whether a joiner of this service may have this name, by the policies that are served.
    ///
    /// # Errors
    /// When a file has the name and does not grant it.
    pub fn check_name(&self, id: &WorkloadId, service: &ServiceId) -> Result<(), NotGranted> {
        grants::check(id, service, &self.known.policies())
    }

    /// Whether a member's instance is still the one on record, by the store; by what was last seen while it is away.
    ///
    /// # Errors
    /// When it is not, or nothing is known.
    pub async fn check_current(&self, member: &Member) -> Result<(), NotAMember> {
        let record = match self.workloads.find(&member.id).await {
            Ok(stored) => stored.map(|stored| stored.record),
            Err(ReadError::Unavailable { reason }) => {
                tracing::warn!(
                    event = "workload_trusted_from_memory",
                    %reason, workload = %member.id,
                    "the store is away; trusting what was last known"
                );
                Some(self.known.record(&member.id).ok_or(ReadError::Unavailable { reason })?)
            }
            Err(error) => return Err(error.into()),
        };
        match record {
            Some(record) if *record.instance == *member.instance && record.service == member.service => {
                Ok(())
            }
            Some(_) => Err(NotAMember::Replaced(member.id.clone())),
            None => Err(NotAMember::Removed(member.id.clone())),
        }
    }

    /// Writes a leaf that a restore has forgotten into the ledger again, if it may be believed.
    async fn recover(
        &self,
        peer: &Peer,
        id: &WorkloadId,
        service: &ServiceId,
    ) -> Result<Arc<LedgerEntry>, NotAMember> {
        let lost = self.lost.as_ref().filter(|lost| lost.time.covers(peer)).ok_or(NotAMember::Unknown)?;
        let list = lost.authority.list_of(&peer.issuer).ok_or(NotAMember::Unknown)?;
        if list.revoked.contains(&peer.serial) {
            return Err(NotAMember::Unknown);
        }
        let stored = self.workloads.find(id).await?.ok_or_else(|| NotAMember::Removed(id.clone()))?;
        let record = stored.record;
        if record.service != *service || !lost.time.knows_of(record.joined_at) {
            return Err(NotAMember::Replaced(id.clone()));
        }
        let entry = LedgerEntry {
            serial: peer.serial.clone(),
            issuer: list.issuer,
            service: record.service,
            workload: record.id,
            instance: record.instance,
            key_origin: record.key_origin,
            issued_at: lost_time::issued_at(peer).unix_timestamp(),
            expires_at: peer.not_after.unix_timestamp(),
        };
        tracing::info!(
            event = "certificate_adopted",
            workload = %id, serial = %peer.serial,
            "its certificate was issued after the backup was taken"
        );
        // Known here from now on; that it is written down soon is all that is needed.
        let waiting = self.ledger.enqueue(entry.clone());
        drop(waiting.map_err(|full| ReadError::Unavailable { reason: full.to_string() })?);
        Ok(Arc::new(entry))
    }

    /// Whose certificate it is; none for one that is not a workload's.
    ///
    /// # Errors
    /// When it does not count, or that cannot be known now.
    pub async fn of(&self, peer: &Peer) -> Result<Option<Member>, NotAMember> {
        let (Some(id), Some(service)) = (&peer.workload, peer.service()) else { return Ok(None) };
        if peer.not_after <= self.clock.now() {
            return Err(NotAMember::Expired);
        }
        let entry = match self.ledger.find(&peer.serial, peer.not_after).await? {
            Some(entry) => entry,
            None => self.recover(peer, id, service).await?,
        };
        if entry.workload != *id || entry.service != *service {
            return Err(NotAMember::Unknown);
        }
        // What was last seen may lag a little behind a join or a renewal elsewhere: before it refuses, the store is asked.
        let counts =
            |record: &WorkloadRecord| record.instance == entry.instance && record.service == *service;
        if !self.known.record(id).is_some_and(|record| counts(&record)) {
            match self.workloads.find(id).await?.map(|stored| stored.record) {
                Some(record) if counts(&record) => {}
                Some(_) => return Err(NotAMember::Replaced(id.clone())),
                None => return Err(NotAMember::Removed(id.clone())),
            }
        }
        self.check_name(id, service)?;
        Ok(Some(Member {
            id: id.clone(),
            service: service.clone(),
            instance: entry.instance.as_str().into(),
            serial: peer.serial.clone(),
            not_after: peer.not_after,
        }))
    }
}

/// Lets a call through with its [`Member`] and its [`PeerIdentity`] beside it, and answers the others.
pub async fn identify(State(instances): State<Instances>, mut request: Request, next: Next) -> Response {
    let Some(peer) = request.extensions().get::<Peer>().cloned() else { return next.run(request).await };
    match instances.of(&peer).await {
        Ok(member) => {
            let instance = member.as_ref().map(|member| Arc::clone(&member.instance));
            let (workload, service) = (peer.workload.clone(), peer.service().cloned());
            let extensions = request.extensions_mut();
            extensions.insert(PeerIdentity { spiffe: peer.spiffe, workload, service, instance });
            if let Some(member) = member {
                extensions.insert(member);
            }
            next.run(request).await
        }
        Err(error) => {
            tracing::debug!(peer = %peer.spiffe, serial = %peer.serial, %error, "refused a call");
            tonic::Status::from(error).into_http()
        }
    }
}
