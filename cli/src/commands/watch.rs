//! `weft get KIND -w`: objects as they change.

use std::process::ExitCode;
use std::time::Duration;

use weft_api::client::{ApiClient, ClientError, ObjectEvent, ObjectEvents};
use weft_api::rest::{NOT_KEPT, ObjectChange};
use weft_policies::kinds::Kind;

use super::get::{HEAD, row};
use crate::args::{Get, OutputFormat};
use crate::output::{self, outln};
use crate::replicas::ReplicaClients;

/// A lost connection is made again after so long.
const AGAIN: Duration = Duration::from_secs(1);

/// Ends when it is interrupted. A connection that is lost is made again, to whichever replica answers, and goes on behind
/// the last change that was shown.
pub async fn run(replicas: &ReplicaClients, kind: Kind, args: &Get) -> anyhow::Result<ExitCode> {
    let mut seen = None;
    loop {
        let events = match connect(replicas, kind, args, seen).await {
            Err(ClientError::Refused(problem)) if problem.code == NOT_KEPT => {
                seen = None;
                continue;
            }
            // The first answer says what is wrong; later ones, that it is away.
            Err(error) if seen.is_none() => return Err(error.into()),
            Err(_) => {
                tokio::time::sleep(AGAIN).await;
                continue;
            }
            Ok(events) => events,
        };
        seen = follow(events, args.output, seen).await?;
        tokio::time::sleep(AGAIN).await;
    }
}

async fn connect(
    replicas: &ReplicaClients,
    kind: Kind,
    args: &Get,
    seen: Option<u64>,
) -> Result<ObjectEvents, ClientError> {
    let namespace = args.namespace.as_deref();
    replicas.any(async |client: &ApiClient| client.watch(kind.plural(), namespace, seen).await).await
}

/// Shows events until the stream ends, and gives the revision that was shown last; none where changes are missing.
async fn follow(
    mut events: ObjectEvents,
    format: OutputFormat,
    mut seen: Option<u64>,
) -> anyhow::Result<Option<u64>> {
    while let Ok(Some(event)) = events.next().await {
        match event {
            ObjectEvent::Snapshot(list) => {
                seen = Some(list.revision);
                output::print(format, &list, &HEAD, || list.items.iter().map(row).collect())?;
            }
            ObjectEvent::Changes(changes) => {
                seen = Some(changes.revision);
                if format.is_table() {
                    changes.documents.iter().for_each(|change| outln!("{}", line(change)));
                } else {
                    output::print(format, &changes, &[], Vec::new)?;
                }
            }
            ObjectEvent::Gone => return Ok(None),
        }
    }
    Ok(seen)
}

fn line(change: &ObjectChange) -> String {
    format!("{} {}/{}", change.outcome, change.namespace, change.name)
}
