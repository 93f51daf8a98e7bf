//! The control thread's end of taps: tells every worker what is wanted, and takes what they tell.

use std::sync::Arc;

use tokio::sync::mpsc;

use super::command::WorkerCommand;
use super::tap_point::EndedRequest;
use crate::tap::set::TapSet;

/// Ended requests that wait for the stream: a second of several taps. More means that it does not keep up.
pub(super) const WAITING: usize = 512;

/// All workers, as far as taps go.
#[derive(Debug)]
pub struct Tapping {
    // Weak, because a worker ends when nobody can send it commands any more.
    pub(super) workers: Vec<mpsc::WeakSender<WorkerCommand>>,
    pub(super) ended: mpsc::Receiver<EndedRequest>,
}

impl Tapping {
    /// Has every worker tell of these from now on.
    pub(crate) async fn set(&self, set: &Arc<TapSet>) {
        for worker in self.workers.iter().filter_map(mpsc::WeakSender::upgrade) {
            // A worker that ended has nothing to tell.
            let _ = worker.send(WorkerCommand::Tap(Arc::clone(set))).await;
        }
    }

    /// Waits for requests that ended, and takes as many as there are, up to so many. False when the workers are gone.
    pub(crate) async fn take(&mut self, ended: &mut Vec<EndedRequest>, most: usize) -> bool {
        self.ended.recv_many(ended, most).await > 0
    }
}
