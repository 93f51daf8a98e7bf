//! The state of the certificate authority, the rotation of its root, issuers that the owner of an offline root signs, and the key
//! that seals its keys.

use std::time::Duration;

use axum::extract::State;
use axum::{Extension, Json};
use data_encoding::HEXLOWER;
use weft_api::rest::{
    AuthorityStatus, CaState, IssuerImport, IssuerRequest, IssuerStatus, Resealed, RootStatus,
    RotationRequest, RotationStageName, RotationStatus, SealKeyStatus, SealStatus,
};

use super::access::ApiCaller;
use super::error::{ApiError, Refuses};
use super::extract::JsonBody;
use super::problem_code::ProblemCode;
use super::state::Api;
use crate::ca::{
    AdoptionError, AuthorityState, DEFAULT_SPREAD, LedgerEntry, RootRotation, RotationError, RotationStage,
    Serial,
};
use crate::identity::secrets::pem;
use crate::replicas::root_rotation::RootRotations;
use crate::replicas::seal_keys;

/// How many of those are named for whom a rotation waits.
const NAMED: usize = 100;
/// How long the others have for telling that they have a seal key: a file that was put there a moment ago is read soon.
const KEYS_ARRIVE: Duration = Duration::from_secs(12);

/// `GET /v1/ca`
pub async fn status(State(api): State<Api>) -> Result<Json<AuthorityStatus>, ApiError> {
    Ok(Json(read(&api).await?))
}

/// `POST /v1/ca/rotation`
pub async fn rotate(
    State(api): State<Api>,
    Extension(caller): Extension<ApiCaller>,
    JsonBody(request): JsonBody<RotationRequest>,
) -> Result<Json<AuthorityStatus>, Refuses<409>> {
    let spread = spread(request.spread.as_deref())?;
    let by = Some(caller.holder().to_string());
    api.authority.rotate_root(api.store.as_ref(), spread, by, None).await.map_err(refused)?;
    Ok(Json(read(&api).await?))
}

/// `DELETE /v1/ca/rotation`
pub async fn abort(
    State(api): State<Api>,
    Extension(caller): Extension<ApiCaller>,
) -> Result<Json<AuthorityStatus>, Refuses<409>> {
    let by = caller.holder().to_string();
    api.authority.abort_rotation(api.store.as_ref(), Some(&by)).await.map_err(refused)?;
    Ok(Json(read(&api).await?))
}

/// `POST /v1/ca/reseal`
pub async fn reseal(State(api): State<Api>) -> Result<Json<Resealed>, Refuses<409>> {
    let unavailable = |error: crate::ca::CaError| ApiError::unavailable(error.to_string());
    let store = api.store.as_ref();
    let key = api.authority.seal_use(store).await.map_err(unavailable)?.sealing;
    let until = tokio::time::Instant::now() + KEYS_ARRIVE;
    loop {
        let lacking =
            seal_keys::without(store, &key, Some(api.own.id.as_ref())).await.map_err(ApiError::from)?;
        if lacking.is_empty() {
            break;
        }
        if tokio::time::Instant::now() >= until {
            let text = format!(
                "the seal key {key} is not on {} yet: put {} there as it is here, or upgrade it where it is of an older release",
                lacking.join(", "),
                api.own.seal_key.display()
            );
            return Err(ApiError::new(ProblemCode::SealKeyMissing, text).into());
        }
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
    let records = api.authority.reseal(store, None).await.map_err(unavailable)?;
    Ok(Json(Resealed { key: key.to_string(), records }))
}

/// `POST /v1/ca/csr`
pub async fn request(State(api): State<Api>) -> Result<Json<IssuerRequest>, ApiError> {
    let request = api.authority.certificate_request(api.store.as_ref()).await;
    let request = request.map_err(|error| ApiError::unavailable(error.to_string()))?;
    Ok(Json(IssuerRequest {
        pem: pem("CERTIFICATE REQUEST", &request.der).to_string(),
        spki_sha256: HEXLOWER.encode(&request.spki_sha256),
        created_at: request.created_at,
    }))
}

/// `POST /v1/ca/import`
pub async fn import(
    State(api): State<Api>,
    Extension(caller): Extension<ApiCaller>,
    JsonBody(import): JsonBody<IssuerImport>,
) -> Result<Json<AuthorityStatus>, Refuses<409, 422>> {
    let (spread, by) = (spread(import.spread.as_deref())?, Some(caller.holder().to_string()));
    let imported = api.authority.import(api.store.as_ref(), &import.chain, spread, by).await;
    imported.map_err(not_adopted)?;
    Ok(Json(read(&api).await?))
}

fn spread(asked: Option<&str>) -> Result<time::Duration, ApiError> {
    let Some(text) = asked else { return Ok(DEFAULT_SPREAD) };
    let wrong = |error: String| ApiError::bad_request(format!("spread {text:?}: {error}"));
    let spread = humantime::parse_duration(text).map_err(|error| wrong(error.to_string()))?;
    time::Duration::try_from(spread).map_err(|error| wrong(error.to_string()))
}

fn not_adopted(error: AdoptionError) -> ApiError {
    let text = error.to_string();
    match error {
        AdoptionError::Unfit(_) => ApiError::new(ProblemCode::UnfitAuthority, text),
        AdoptionError::NoRequest | AdoptionError::IssuerComing => {
            ApiError::new(ProblemCode::RootRotation, text)
        }
        AdoptionError::Rotation(error) => refused(error),
    }
}

fn refused(error: RotationError) -> ApiError {
    let text = error.to_string();
    match error {
        RotationError::Spread(_) => ApiError::bad_request(text),
        RotationError::UnderWay | RotationError::Undone | RotationError::IssuerOver | RotationError::None => {
            ApiError::new(ProblemCode::RootRotation, text)
        }
        RotationError::Authority(error) => ApiError::unavailable(error.to_string()),
    }
}

async fn read(api: &Api) -> Result<AuthorityStatus, ApiError> {
    // Leaves that the store has: this replica may not have heard of all yet.
    let (leaves, now) = (api.ledger.list().await?, api.clock.unix_seconds());
    let live: Vec<&LedgerEntry> = leaves.iter().filter(|leaf| leaf.expires_at > now).collect();
    let state = api.authority.state();
    let below = |issuer: &Serial| live.iter().filter(|leaf| leaf.issuer == *issuer).count();
    let issuer = |issuer: &crate::ca::IssuerOfMesh| IssuerStatus {
        expires_at: issuer.certificate.not_after.unix_timestamp(),
        serial: issuer.certificate.serial.to_string(),
        root: issuer.root.as_ref().map(ToString::to_string),
        state: state_of_issuer(&state, &issuer.certificate.serial, below(&issuer.certificate.serial)),
        leaves: below(&issuer.certificate.serial),
    };
    let root = |root: &crate::ca::ValidCertificate| RootStatus {
        spki_sha256: HEXLOWER.encode(&root.spki_sha256),
        expires_at: root.not_after.unix_timestamp(),
        serial: root.serial.to_string(),
        state: state_of_root(&state, &root.serial),
        origin: state.origin_of(&root.serial),
        leaves: state.issuers_below(&root.serial).into_iter().map(below).sum(),
        pem: pem("CERTIFICATE", &root.certificate).to_string(),
    };
    let signing = &state.signing.issuer.serial;
    let issuers: Vec<_> = state.issuers.iter().map(issuer).collect();
    Ok(AuthorityStatus {
        trust_domain: api.authority.trust_domain().to_string(),
        root: root(&state.signing.root),
        issuer: issuers
            .iter()
            .find(|one| one.serial == signing.as_str())
            .cloned()
            .ok_or_else(|| ApiError::unavailable("the issuer that signs is not among the issuers"))?,
        leaves: live.len(),
        roots: state.bundle.iter().map(root).collect(),
        issuers,
        rotation: match &state.rotation {
            Some(rotation) => Some(rotation_of(&api.rotations, rotation).await?),
            None => None,
        },
        seal: Some(seal_of(api).await),
    })
}

/// What is wrong with the records is a part of the status, and no reason to tell nothing of the rest.
async fn seal_of(api: &Api) -> SealStatus {
    let held = api.authority.seal_keys();
    match api.authority.seal_use(api.store.as_ref()).await {
        Ok(used) => SealStatus {
            version: used.version,
            sealing: used.sealing.to_string(),
            keys: used
                .keys
                .into_iter()
                .map(|(id, records)| SealKeyStatus { held: held.contains(&id), id: id.to_string(), records })
                .collect(),
            problem: None,
        },
        Err(error) => SealStatus { problem: Some(error.to_string()), ..SealStatus::default() },
    }
}

fn state_of_root(state: &AuthorityState, root: &Serial) -> CaState {
    let is_distributing =
        state.rotation.as_ref().is_some_and(|rotation| rotation.stage == RotationStage::DistributingRoot);
    match (*root == state.signing.root.serial, is_distributing) {
        (true, _) => CaState::Signing,
        (false, true) => CaState::Coming,
        (false, false) => CaState::Leaving,
    }
}

fn state_of_issuer(state: &AuthorityState, issuer: &Serial, leaves: usize) -> CaState {
    let signing = &state.signing.issuer;
    let own = state.issuers.iter().find(|known| known.certificate.serial == *issuer);
    let is_newer = own.is_some_and(|own| own.certificate.not_before > signing.not_before);
    // One that was imported may have been signed whenever its owner liked.
    let is_coming = state.coming_issuer.as_ref() == Some(issuer) || (is_newer && leaves == 0);
    match (*issuer == signing.serial, is_coming) {
        (true, _) => CaState::Signing,
        (false, true) => CaState::Coming,
        (false, false) => CaState::Leaving,
    }
}

async fn rotation_of(rotations: &RootRotations, rotation: &RootRotation) -> Result<RotationStatus, ApiError> {
    let mut waits_for = rotations.waits(rotation).await?;
    let waits = waits_for.len();
    waits_for.truncate(NAMED);
    let mut left_behind = rotations.left_behind(rotation).await;
    left_behind.truncate(NAMED);
    Ok(RotationStatus {
        stage: match rotation.stage {
            RotationStage::DistributingRoot => RotationStageName::DistributingRoot,
            RotationStage::RenewingLeaves => RotationStageName::RenewingLeaves,
            RotationStage::MovingControlPlanes => RotationStageName::MovingControlPlanes,
        },
        started_at: rotation.started_at,
        stage_since: rotation.stage_since,
        spread_seconds: rotation.spread,
        aborted: rotation.aborted,
        vouched: rotations.authority.state().vouched,
        by: rotation.by.clone(),
        waits_for,
        waits,
        left_behind: left_behind.iter().map(ToString::to_string).collect(),
    })
}
