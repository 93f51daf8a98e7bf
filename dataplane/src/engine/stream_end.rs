//! The end of a stream: it gives its connection back, counts, and logs; once.

use std::borrow::Cow;

use super::active_stream::ActiveStream;
use super::clock::now;
use super::http_connection::CodecType;
use super::limits::TimedOut;
use super::pool::ConnectionLease;
use super::{span, stream_info};
use crate::format::ResponseFlags;

impl ActiveStream {
    /// The response went out whole: the connection may serve the next request.
    pub(crate) fn complete(&mut self) {
        if std::mem::replace(&mut self.done, true) {
            return;
        }
        if let Some(upstream) = &mut self.upstream {
            // As in Envoy: what of the request is not there yet is not waited for.
            match upstream.lease.take().filter(|_| self.limits.request_ended()) {
                Some(ConnectionLease::Http1(lease)) => lease.give_back(),
                Some(ConnectionLease::Http2(lease)) => lease.finish(),
                None => {}
            }
        }
        self.report();
        match self.connection.protocol {
            // The codec has the rest, and the connection watches that it goes out.
            CodecType::Http1 => self.limits.end(),
            CodecType::Http2 => self.limits.flush(),
        }
    }

    /// The driver ended the stream at a limit, when it was too late for an answer.
    fn cut(&mut self, reached: TimedOut) {
        self.details = Cow::Borrowed(reached.details());
        if let Some(flag) = reached.flag() {
            self.flags.insert(flag);
        }
        let shard = &self.connection.worker.shard;
        shard.inc(self.view.manager.stats.downstream_rq_tx_reset);
        shard.inc(self.view.manager.stats.downstream_rq_rx_reset);
        self.count_timeout(reached);
        if let Some(upstream) = &self.upstream {
            shard.inc(upstream.picked.view.config.stats.upstream_rq_tx_reset);
        }
    }

    /// Counts and logs; once.
    fn report(&mut self) {
        let took = now().saturating_duration_since(self.start);
        let (shard, manager) = (&self.connection.worker.shard, &self.view.manager);
        let stats = &manager.stats;
        shard.down(stats.downstream_rq_active);
        shard.inc(stats.downstream_rq_completed);
        if let Some(class) = stats.downstream_rq_class(self.status) {
            shard.inc(class);
        }
        shard.record(stats.downstream_rq_time, took);
        stream_info::log(self, took);
        if let Some(active) = self.span.take() {
            span::end(self, *active, took);
        }
        if let Some(upstream) = &self.upstream {
            let stats = &upstream.picked.view.config.stats;
            shard.down(stats.upstream_rq_active);
            if self.responding {
                let took = now().saturating_duration_since(upstream.started);
                shard.record(stats.upstream_rq_time, took);
                self.count_route(|stats| shard.record(stats.upstream_rq_time, took));
            }
        }
    }
}

impl Drop for ActiveStream {
    fn drop(&mut self) {
        let cut = self.limits.cut_for();
        if self.done {
            if cut.is_some() {
                // Counted and logged long ago; only its bytes were still not taken.
                self.connection.worker.shard.inc(self.view.manager.stats.downstream_rq_tx_reset);
            }
            return;
        }
        self.done = true;
        if let Some(reached) = cut {
            self.cut(reached);
        } else if self.flags == ResponseFlags::default() {
            // Nobody here ended it, so the caller did.
            self.flags.insert(ResponseFlags::DOWNSTREAM_TERMINATION);
            if self.details.is_empty() || self.responding {
                self.details = Cow::Borrowed("downstream_remote_disconnect");
            }
            let shard = &self.connection.worker.shard;
            shard.inc(self.view.manager.stats.downstream_rq_rx_reset);
            if let Some(upstream) = &self.upstream {
                shard.inc(upstream.picked.view.config.stats.upstream_rq_cancelled);
            }
        }
        if cut.is_none() {
            self.limits.end();
        }
        self.report();
    }
}
