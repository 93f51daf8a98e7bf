//! The newest lines of the log, for a bundle: what a person would otherwise have to fetch from each machine.

use std::collections::VecDeque;
use std::fmt::{self, Write as _};
use std::sync::{Arc, Mutex, PoisonError};

use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use tracing::field::{Field, Visit};
use tracing_subscriber::Layer;
use tracing_subscriber::layer::Context;
use weft_api::log_event::EventCounts;

/// Lines that are kept.
const LINES: usize = 500;
/// Bytes of one line; the rest is cut.
const LONGEST: usize = 1024;

/// Lines of level info and above. Clones are the same.
#[derive(Clone, Debug, Default)]
pub struct LogLines(Arc<Mutex<KeptLines>>);

#[derive(Debug, Default)]
struct KeptLines {
    lines: VecDeque<String>,
    dropped: u64,
}

impl LogLines {
    fn note(&self, event: &tracing::Event<'_>) {
        if *event.metadata().level() > tracing::Level::INFO {
            return;
        }
        let mut line = OffsetDateTime::now_utc().format(&Rfc3339).unwrap_or_default();
        let _ = write!(line, " {}", event.metadata().level());
        event.record(&mut WrittenFields(&mut line));
        if line.len() > LONGEST {
            let end = (0..=LONGEST).rev().find(|end| line.is_char_boundary(*end)).unwrap_or_default();
            line.truncate(end);
            line.push('…');
        }
        // A lock because any thread may log; held for a push.
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.lines.len() == LINES {
            kept.lines.pop_front();
            kept.dropped += 1;
        }
        kept.lines.push_back(line);
    }

    /// The lines, oldest first, and how many before them were not kept.
    #[must_use]
    pub fn all(&self) -> (Vec<String>, u64) {
        let kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        (kept.lines.iter().cloned().collect(), kept.dropped)
    }
}

impl<S: tracing::Subscriber> Layer<S> for LogLines {
    fn on_event(&self, event: &tracing::Event<'_>, _: Context<'_, S>) {
        self.note(event);
    }
}

/// What is known of the log: how often each event happened, and the newest lines.
#[derive(Clone, Debug, Default)]
pub struct LoggedEvents {
    pub counts: EventCounts,
    pub lines: LogLines,
}

impl From<EventCounts> for LoggedEvents {
    fn from(counts: EventCounts) -> Self {
        Self { counts, lines: LogLines::default() }
    }
}

struct WrittenFields<'a>(&'a mut String);

impl Visit for WrittenFields<'_> {
    fn record_str(&mut self, field: &Field, value: &str) {
        let _ = match field.name() {
            "message" => write!(self.0, " {value}"),
            name => write!(self.0, " {name}={value}"),
        };
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        let _ = match field.name() {
            "message" => write!(self.0, " {value:?}"),
            name => write!(self.0, " {name}={value:?}"),
        };
    }
}

#[cfg(test)]
mod tests {
    use tracing_subscriber::layer::SubscriberExt as _;

    use super::*;

    #[test]
    fn newest_lines_are_kept_within_their_bounds() {
        let kept = LogLines::default();
        let subscriber = tracing_subscriber::registry().with(kept.clone());
        tracing::subscriber::with_default(subscriber, || {
            for number in 0..LINES + 3 {
                tracing::info!(event = "workload_joined", number, "joined");
            }
            tracing::debug!("not kept");
            tracing::warn!(event = "workload_left", text = "ä".repeat(LONGEST), "long");
        });
        let (lines, dropped) = kept.all();
        assert_eq!((lines.len(), dropped), (LINES, 4));
        assert!(lines[0].contains("INFO joined event=workload_joined number=4"), "{}", lines[0]);
        assert!(lines[LINES - 1].len() <= LONGEST + '…'.len_utf8());
    }
}
