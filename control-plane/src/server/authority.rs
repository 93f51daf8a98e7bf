//! The certificate authority as the command line describes it, the user's own among it.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use tokio_util::sync::CancellationToken;
use weft_store::Store;

use super::advertised::Advertised;
use crate::args::Args;
use crate::ca::{Adopted, AdoptionError, Authority, AuthoritySettings, OwnAuthority, RotationError};
use crate::clock::Clock;

/// How long after a rotation that is under way another try is made.
const RETRY: Duration = Duration::from_secs(10);

/// What the flags say; files of an own authority are read and checked.
pub(super) fn authority_settings(
    args: &Args,
    reach: &Advertised,
    clock: &Clock,
) -> anyhow::Result<AuthoritySettings> {
    let mut settings = AuthoritySettings {
        trust_domain: args.trust_domain.clone(),
        leaf_life: time::Duration::try_from(args.leaf_ttl).context("--leaf-ttl")?,
        issuer_life: time::Duration::try_from(args.issuer_ttl).context("--issuer-ttl")?,
        root_life: time::Duration::try_from(args.root_ttl).context("--root-ttl")?,
        server_names: reach.server_names(&[reach.xds_listen, args.api_listen]),
        own: None,
    };
    if let (Some(certificate), Some(key)) = (&args.ca_cert, &args.ca_key) {
        let own = OwnAuthority::read(certificate, key, &settings, clock.now());
        settings.own = Some(Arc::new(own.context("--ca-cert, --ca-key")?));
    }
    Ok(settings)
}

/// Moves the mesh to the authority that files bring. One that does not fit is said now; while another rotation is under way, it is
/// tried again when that is over.
pub(super) async fn adopt(
    authority: &Arc<Authority>,
    store: &Arc<dyn Store>,
    shutdown: &CancellationToken,
) -> anyhow::Result<()> {
    if !is_to_wait(authority.adopt(store.as_ref()).await)? {
        return Ok(());
    }
    let (authority, store) = (Arc::clone(authority), Arc::clone(store));
    tokio::spawn(shutdown.clone().run_until_cancelled_owned(async move {
        loop {
            tokio::time::sleep(RETRY).await;
            match is_to_wait(authority.adopt(store.as_ref()).await) {
                Ok(true) => {}
                Ok(false) => return,
                Err(error) => tracing::warn!(
                    event = "own_authority_not_adopted",
                    error = format!("{error:#}"),
                    "the mesh does not move to the authority of --ca-cert; it is tried again"
                ),
            }
        }
    }));
    Ok(())
}

fn is_to_wait(outcome: Result<Adopted, AdoptionError>) -> anyhow::Result<bool> {
    match outcome {
        Ok(Adopted::Already | Adopted::Begun) => Ok(false),
        Ok(Adopted::Left) => {
            tracing::warn!(
                event = "own_authority_left",
                "the mesh has left the root of --ca-cert (weft ca rotate) and does not go back to it by itself: take the flags off, or name another root"
            );
            Ok(false)
        }
        Err(AdoptionError::Rotation(RotationError::UnderWay)) => {
            tracing::info!(
                event = "own_authority_waits",
                "the mesh moves to the authority of --ca-cert when the rotation of the root that is under way is over"
            );
            Ok(true)
        }
        Err(error) => Err(anyhow::Error::from(error).context("--ca-cert, --ca-key")),
    }
}
