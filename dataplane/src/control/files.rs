//! Files as sources (`path_config_source`): each is read when it changes and delivered whole.
//!
//! Changes are noticed by looking at the file's inode, size and time twice a second: it works the same for writes
//! in place, renames and mounted volumes.

use std::collections::HashMap;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use envoy_types::pb::envoy::service::discovery::v3::{DiscoveryResponse, Resource};
use envoy_types::pb::google::protobuf::Any;
use prost::{Message as _, Name as _};
use tokio::sync::mpsc;
use tokio::task::AbortHandle;
use weft_api::ResourceKind;

use super::resource::ReceivedResource;
use crate::decode::name_of;

const LOOK_EVERY: Duration = Duration::from_millis(500);

/// The content of a file.
#[derive(Debug)]
pub(super) struct FileUpdate {
    pub(super) path: PathBuf,
    resources: Vec<(ResourceKind, ReceivedResource)>,
}

impl FileUpdate {
    pub(super) fn resources(&self, kind: ResourceKind) -> impl Iterator<Item = &ReceivedResource> {
        self.resources.iter().filter(move |(own, _)| *own == kind).map(|(_, incoming)| incoming)
    }
}

/// The tasks that look at files.
#[derive(Debug)]
pub(super) struct Watchers {
    running: HashMap<PathBuf, Watched>,
    updates: mpsc::Sender<FileUpdate>,
}

#[derive(Debug)]
struct Watched {
    task: AbortHandle,
    needed_by: usize,
}

impl Watchers {
    pub(super) fn new(updates: mpsc::Sender<FileUpdate>) -> Self {
        Self { running: HashMap::new(), updates }
    }

    /// Watches a file for one more who needs it.
    pub(super) fn watch(&mut self, path: &Path) {
        let start = || {
            let task = tokio::spawn(follow(path.to_owned(), self.updates.clone()));
            Watched { task: task.abort_handle(), needed_by: 0 }
        };
        self.running.entry(path.to_owned()).or_insert_with(start).needed_by += 1;
    }

    /// Watches it for one less; the last one ends it.
    pub(super) fn unwatch(&mut self, path: &Path) {
        let Some(watched) = self.running.get_mut(path) else { return };
        watched.needed_by -= 1;
        if watched.needed_by == 0 {
            watched.task.abort();
            self.running.remove(path);
        }
    }
}

impl Drop for Watchers {
    fn drop(&mut self) {
        self.running.values().for_each(|watched| watched.task.abort());
    }
}

async fn follow(path: PathBuf, updates: mpsc::Sender<FileUpdate>) {
    let mut seen = None;
    loop {
        let mark = tokio::fs::metadata(&path)
            .await
            .map(|meta| (meta.ino(), meta.size(), meta.mtime(), meta.mtime_nsec()))
            .ok();
        if mark != seen {
            match read(&path).await {
                Ok(update) => {
                    seen = mark;
                    if updates.send(update).await.is_err() {
                        return;
                    }
                }
                Err(reason) => {
                    // Reported once for each state of the file; what was read before stays.
                    seen = mark;
                    tracing::warn!(
                        event = "file_unusable",
                        path = %path.display(), reason,
                        "the file cannot be used"
                    );
                }
            }
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

async fn read(path: &Path) -> Result<FileUpdate, String> {
    let bytes = tokio::fs::read(path).await.map_err(|error| error.to_string())?;
    let response = if path.extension().is_some_and(|extension| extension == "pb") {
        DiscoveryResponse::decode(bytes.as_slice()).map_err(|error| error.to_string())?
    } else {
        let document: serde_json::Value =
            serde_yaml::from_slice(&bytes).map_err(|error| error.to_string())?;
        weft_api::json::from_json(&document).map_err(|error| error.to_string())?
    };
    let version: Arc<str> = if response.version_info.is_empty() {
        format!("{:016x}", xxhash_rust::xxh3::xxh3_64(&bytes)).into()
    } else {
        response.version_info.as_str().into()
    };
    let mut resources = Vec::with_capacity(response.resources.len());
    for any in response.resources {
        resources.push(resource(any, &version)?);
    }
    Ok(FileUpdate { path: path.to_owned(), resources })
}

fn resource(any: Any, version: &Arc<str>) -> Result<(ResourceKind, ReceivedResource), String> {
    let any = if any.type_url.rsplit('/').next() == Some(Resource::full_name().as_str()) {
        let wrapped = Resource::decode(any.value.as_slice()).map_err(|error| error.to_string())?;
        wrapped.resource.ok_or("an empty resource")?
    } else {
        any
    };
    let kind = ResourceKind::from_type_url(&any.type_url)
        .ok_or_else(|| format!("{} is not a resource that comes by files", any.type_url))?;
    let body = Bytes::from(any.value);
    let name = name_of(kind, &body).ok_or_else(|| format!("a {} has no name", any.type_url))?;
    Ok((kind, ReceivedResource { name: name.into(), version: Arc::clone(version), body }))
}
