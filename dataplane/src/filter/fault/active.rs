//! How many faults are injected now.

use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use super::Fault;
use crate::engine::local::Local;
use crate::stats::GaugeId;

/// A fault that is injected into one stream, counted until the stream ends.
#[derive(Debug)]
pub(crate) struct ActiveFault {
    worker: Rc<Local>,
    gauge: GaugeId,
    all: Arc<AtomicU32>,
}

impl ActiveFault {
    /// One more, where there are fewer than `most`. As with Envoy's circuit breakers, the limit is a rough one.
    pub(super) fn try_new(fault: &Fault, most: Option<u32>, worker: &Rc<Local>) -> Option<Self> {
        if most.is_some_and(|most| fault.active.load(Ordering::Relaxed) >= most) {
            worker.shard.inc(fault.stats.faults_overflow);
            return None;
        }
        fault.active.fetch_add(1, Ordering::Relaxed);
        worker.shard.up(fault.stats.active_faults);
        Some(Self { worker: worker.clone(), gauge: fault.stats.active_faults, all: fault.active.clone() })
    }
}

impl Drop for ActiveFault {
    fn drop(&mut self) {
        self.all.fetch_sub(1, Ordering::Relaxed);
        self.worker.shard.down(self.gauge);
    }
}
