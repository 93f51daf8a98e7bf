//! The one thread that writes the file: takes what waits, syncs it once, then answers and publishes.

use std::path::PathBuf;
use std::sync::Arc;

use tokio::sync::{mpsc, oneshot};

use crate::deadlines::LeaseDeadlines;
use crate::error::{CommitError, OpenError};
use crate::history::{History, Retention};
use crate::record::{Batch, LeaseId, Revision};
use crate::state::{Entries, StoreState};
use crate::txn::Txn;

use super::file::StoreFile;

/// Commits that share one sync at most: bounds how long the first of them waits.
const GROUP: usize = 128;

type CommitReply = oneshot::Sender<Result<Revision, CommitError>>;

/// What the writer is asked to do.
#[derive(Debug)]
pub(super) enum WriterCommand {
    /// Commit a transaction that is within the limits.
    Commit { txn: Txn, reply: CommitReply },
    /// Remove the keys under a lease that has ended.
    Expire { lease: LeaseId, done: Option<oneshot::Sender<Result<(), String>>> },
}

/// Owns the file and the state.
pub(super) struct StoreWriter {
    path: PathBuf,
    /// `None` after a failed write, until the file could be opened again.
    file: Option<StoreFile>,
    /// What is durable and published.
    state: StoreState,
    /// A group whose write failed in a way that leaves open whether it is in the file.
    unsettled: Option<Group>,
    /// Leases whose keys could not be removed because a write failed; tried again with the next group.
    overdue: Vec<LeaseId>,
    deadlines: Arc<LeaseDeadlines>,
    history: Arc<History>,
}

/// What is written by one sync.
#[derive(Default)]
struct Group {
    state: StoreState,
    changes: Vec<(Batch, Entries)>,
}

impl StoreWriter {
    /// Opens the file, and removes the keys of leases that the process before left.
    pub(super) fn open(
        path: PathBuf,
        deadlines: Arc<LeaseDeadlines>,
        retention: Retention,
    ) -> Result<Self, OpenError> {
        let (mut file, loaded) = StoreFile::open(&path)?;
        let mut state = loaded;
        if let Some(batch) = state.expire_all() {
            let failed = |reason| OpenError::Io { path: path.clone(), reason };
            file.append([&batch]).map_err(|error| failed(error.to_string()))?;
        }
        let history = History::starting_at(state.revision, state.entries.clone(), retention);
        Ok(Self { path, file: Some(file), state, unsettled: None, overdue: Vec::new(), deadlines, history })
    }

    /// Where the writer publishes.
    pub(super) fn history(&self) -> Arc<History> {
        Arc::clone(&self.history)
    }

    /// Serves until every sender is gone.
    pub(super) fn run(mut self, mut queue: mpsc::Receiver<WriterCommand>) {
        while let Some(first) = queue.blocking_recv() {
            let mut commands = vec![first];
            while commands.len() < GROUP
                && let Ok(next) = queue.try_recv()
            {
                commands.push(next);
            }
            self.serve(commands);
        }
    }

    fn serve(&mut self, commands: Vec<WriterCommand>) {
        if let Err(reason) = self.reopen() {
            return refuse(commands, &reason, &mut self.overdue);
        }
        let mut group = Group { state: self.state.clone(), changes: Vec::new() };
        let mut replies: Vec<(CommitReply, Result<Revision, CommitError>)> = Vec::new();
        let mut ended: Vec<_> = self.overdue.drain(..).map(|lease| (lease, None)).collect();
        for (lease, _) in &ended {
            let batch = group.state.expire(*lease);
            group.keep(batch);
        }
        for command in commands {
            match command {
                WriterCommand::Commit { txn, reply } => {
                    let applied = group.state.apply(&txn, |lease| self.deadlines.alive(lease));
                    let answer = applied.map(|batch| group.keep(batch));
                    replies.push((reply, answer));
                }
                WriterCommand::Expire { lease, done } => {
                    let batch = group.state.expire(lease);
                    group.keep(batch);
                    ended.push((lease, done));
                }
            }
        }
        let outcome = self.write(group);
        for (reply, answer) in replies {
            // A guard that failed may have failed against a neighbour in the group, so all share the outcome.
            let answer = outcome.as_ref().map_err(Clone::clone).and_then(|()| answer.map_err(Box::new));
            // A caller that went away does not undo its commit.
            let _ = reply.send(answer.map_err(|error| *error));
        }
        for (lease, done) in ended {
            if outcome.is_err() {
                self.overdue.push(lease);
            }
            if let Some(done) = done {
                let _ = done.send(outcome.as_ref().map_err(ToString::to_string).copied());
            }
        }
    }

    /// Makes a group durable and publishes it.
    fn write(&mut self, group: Group) -> Result<(), Box<CommitError>> {
        if group.changes.is_empty() {
            return Ok(());
        }
        let Some(file) = &mut self.file else {
            return Err(Box::new(CommitError::Unavailable { reason: "the file is not open".into() }));
        };
        let Err(error) = file.append(group.changes.iter().map(|(batch, _)| batch)) else {
            self.publish(group);
            return Ok(());
        };
        tracing::error!(
            event = "store_write_failed",
            path = %self.path.display(), %error,
            "writing the store failed"
        );
        // Only the file knows now what it holds: look.
        let wanted = group.state.revision;
        self.file = None;
        self.unsettled = Some(group);
        let reason = format!("writing {} failed: {error}: check the disk and its space", self.path.display());
        match self.reopen() {
            Ok(()) if self.state.revision == wanted => Ok(()),
            Ok(()) => Err(Box::new(CommitError::Unavailable { reason })),
            Err(_) => Err(Box::new(CommitError::Uncertain { reason })),
        }
    }

    /// After a failed write: opens the file again and settles whether that write is in it.
    fn reopen(&mut self) -> Result<(), String> {
        if self.file.is_some() {
            return Ok(());
        }
        let (file, found) = StoreFile::open(&self.path).map_err(|error| error.to_string())?;
        match self.unsettled.take() {
            Some(group) if found.revision == group.state.revision => self.publish(group),
            unsettled if found.revision != self.state.revision => {
                self.unsettled = unsettled;
                return Err(format!(
                    "{} is at revision {}, this process at {}: someone replaced the file; restart the process",
                    self.path.display(),
                    found.revision,
                    self.state.revision
                ));
            }
            _ => {}
        }
        self.file = Some(file);
        Ok(())
    }

    fn publish(&mut self, group: Group) {
        self.state = group.state;
        for (batch, after) in group.changes {
            self.history.publish(batch, after);
        }
    }
}

impl Group {
    fn keep(&mut self, batch: Option<Batch>) -> Revision {
        self.changes.extend(batch.map(|batch| (batch, self.state.entries.clone())));
        self.state.revision
    }
}

fn refuse(commands: Vec<WriterCommand>, reason: &str, overdue: &mut Vec<LeaseId>) {
    for command in commands {
        match command {
            WriterCommand::Commit { reply, .. } => {
                let _ = reply.send(Err(CommitError::Unavailable { reason: reason.into() }));
            }
            WriterCommand::Expire { lease, done } => {
                overdue.push(lease);
                if let Some(done) = done {
                    let _ = done.send(Err(reason.into()));
                }
            }
        }
    }
}
