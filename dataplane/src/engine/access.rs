//! Access logs off the hot path: lines are collected by the worker and written by one thread for all.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::fs::OpenOptions;
use std::io::Write;
use std::rc::Rc;
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::time::Duration;

use super::otlp_buffers::OtlpBuffers;
use crate::access_log_service::entry::LogEntry;
use crate::access_log_service::queue::EntryQueue;
use crate::format::FormatContext;
use crate::otlp::OtlpRecord;
use crate::runtime::{AccessLogs, LogSink, LogTarget};
use crate::stats::Shard;

/// A worker hands its lines over when they are this old or this many bytes.
const FLUSH_AFTER: Duration = Duration::from_millis(200);
const FLUSH_BYTES: usize = 32 * 1024;
/// Batches that wait for the writing thread. More than that means that the disk does not keep up; then lines
/// are dropped and counted, since requests matter more.
const WAITING: usize = 256;

type LogWrite = (LogSink, Vec<u8>);

/// The writing thread's end for the workers.
#[derive(Debug, Clone)]
pub(crate) struct LogQueue(SyncSender<LogWrite>);

impl LogQueue {
    /// Starts the writing thread; it ends when all queues are gone.
    ///
    /// # Errors
    /// The thread cannot be started.
    pub(crate) fn start() -> std::io::Result<Self> {
        let (sender, receiver) = sync_channel(WAITING);
        std::thread::Builder::new().name("access-log".into()).spawn(move || write(&receiver))?;
        Ok(Self(sender))
    }
}

/// A worker's collected lines.
#[derive(Debug)]
pub(crate) struct LogWriter {
    queue: LogQueue,
    entries: EntryQueue,
    pending: Rc<RefCell<HashMap<LogSink, Vec<u8>>>>,
    flush_armed: Rc<Cell<bool>>,
    /// Batches that were dropped.
    pub(crate) dropped: Rc<Cell<u64>>,
}

impl LogWriter {
    pub(crate) fn new(queue: LogQueue, entries: EntryQueue) -> Self {
        Self { queue, entries, pending: Rc::default(), flush_armed: Rc::default(), dropped: Rc::default() }
    }

    /// Tells each of the logs that wants to know.
    pub(crate) fn write(
        &self,
        shard: &Shard,
        otlp: &OtlpBuffers,
        logs: &AccessLogs,
        context: &FormatContext<'_>,
    ) {
        for log in logs.iter().filter(|log| log.filter.as_ref().is_none_or(|filter| filter.accepts(context)))
        {
            match &log.to {
                LogTarget::Lines { sink, format } => {
                    let mut line = String::with_capacity(256);
                    format.render(context, &mut line);
                    self.line(sink, line.as_bytes());
                }
                LogTarget::Otlp(log) => {
                    if !otlp.offer(&log.collector, OtlpRecord::Log(Box::new(log.record(context)))) {
                        shard.inc(log.collector.stats.dropped);
                    }
                }
                LogTarget::Service(service) => {
                    let taken = self.entries.offer(service, LogEntry::of(service, context));
                    let stats = &service.stats;
                    shard.inc(if taken { stats.logs_written } else { stats.logs_dropped });
                }
            }
        }
    }

    /// Adds a line, which ends in a line feed.
    fn line(&self, sink: &LogSink, line: &[u8]) {
        let mut pending = self.pending.borrow_mut();
        if !pending.contains_key(sink) {
            pending.insert(sink.clone(), Vec::new());
        }
        if let Some(buffer) = pending.get_mut(sink) {
            buffer.extend_from_slice(line);
            if buffer.len() >= FLUSH_BYTES {
                let full = std::mem::take(buffer);
                hand_over(&self.queue, &self.dropped, sink.clone(), full);
                return;
            }
        }
        drop(pending);
        self.arm();
    }

    fn arm(&self) {
        if self.flush_armed.replace(true) {
            return;
        }
        let (queue, pending) = (self.queue.clone(), self.pending.clone());
        let (armed, dropped) = (self.flush_armed.clone(), self.dropped.clone());
        tokio::task::spawn_local(async move {
            tokio::time::sleep(FLUSH_AFTER).await;
            armed.set(false);
            flush(&queue, &pending, &dropped);
        });
    }
}

impl Drop for LogWriter {
    fn drop(&mut self) {
        flush(&self.queue, &self.pending, &self.dropped);
    }
}

fn flush(queue: &LogQueue, pending: &RefCell<HashMap<LogSink, Vec<u8>>>, dropped: &Cell<u64>) {
    for (sink, buffer) in pending.borrow_mut().iter_mut() {
        if !buffer.is_empty() {
            hand_over(queue, dropped, sink.clone(), std::mem::take(buffer));
        }
    }
}

fn hand_over(queue: &LogQueue, dropped: &Cell<u64>, sink: LogSink, lines: Vec<u8>) {
    match queue.0.try_send((sink, lines)) {
        Ok(()) => {}
        Err(TrySendError::Full(_) | TrySendError::Disconnected(_)) => dropped.set(dropped.get() + 1),
    }
}

fn write(batches: &Receiver<LogWrite>) {
    let mut files: HashMap<std::path::PathBuf, std::fs::File> = HashMap::new();
    while let Ok((sink, lines)) = batches.recv() {
        let result = match &sink {
            LogSink::Stdout => std::io::stdout().write_all(&lines),
            LogSink::Stderr => std::io::stderr().write_all(&lines),
            LogSink::File(path) => append(&mut files, path, &lines),
        };
        if let Err(error) = result {
            tracing::warn!(event = "access_log_not_written", ?sink, %error, "access log cannot be written");
            if let LogSink::File(path) = &sink {
                files.remove(path);
            }
        }
    }
}

fn append(
    files: &mut HashMap<std::path::PathBuf, std::fs::File>,
    path: &std::path::Path,
    lines: &[u8],
) -> std::io::Result<()> {
    if !files.contains_key(path) {
        let file = OpenOptions::new().create(true).append(true).open(path)?;
        files.insert(path.to_owned(), file);
    }
    match files.get_mut(path) {
        Some(file) => file.write_all(lines),
        None => Ok(()),
    }
}
