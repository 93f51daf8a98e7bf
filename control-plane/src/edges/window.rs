//! The last samples of one caller's destination.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use weft_api::EdgeStatistic;
use weft_api::rest::EdgeProtocol;

use super::flow::EdgeFlow;
use super::sample::Sample;

/// Rates cover this much time.
pub const WINDOW: Duration = Duration::from_secs(15);
/// A proxy that has been silent for this long is forgotten.
pub const SILENT: Duration = Duration::from_secs(45);
/// Reports that come faster are taken together, so that a window has a bounded number of samples.
pub const SPACING: Duration = Duration::from_secs(1);
/// A request that waits is a hung server's only once it has waited this long.
const PATIENCE: Duration = Duration::from_secs(4);

/// Samples of the last [`WINDOW`], and one before them.
#[derive(Debug)]
pub struct Window {
    samples: VecDeque<(Instant, Sample)>,
    /// Requests that wait for the head of their answer, as far as can be told: a stream that has one may last.
    unanswered: f64,
    /// Since when there are such, with none answered.
    waiting_since: Option<Instant>,
}

impl Window {
    /// Begins with what was known at a report before, if there was one: nothing had been used then.
    #[must_use]
    pub fn begin(before: Option<Instant>) -> Self {
        let samples = before.map(|at| (at, Sample::default())).into_iter().collect();
        Self { samples, unanswered: 0.0, waiting_since: None }
    }

    /// What was open when it was heard of last.
    #[must_use]
    pub fn open(&self) -> f64 {
        self.samples.back().map_or(0.0, |(_, last)| last.open())
    }

    /// Gives what has flown since the sample before. The first one says nothing of that: another replica may have counted
    /// what it holds.
    pub fn push(&mut self, now: Instant, sample: Sample) -> Sample {
        let flown = match self.samples.back() {
            Some((_, last)) if sample.restarted_since(last) => {
                // What was before says nothing now.
                self.samples.clear();
                self.unanswered = 0.0;
                sample.clone()
            }
            Some((_, last)) => {
                let mut flown = sample.since(last);
                flown.add_latencies(&sample);
                flown
            }
            None => sample.since(&sample),
        };
        self.note_waiting(now, &flown, &sample);
        self.keep(now, sample);
        flown
    }

    fn note_waiting(&mut self, now: Instant, flown: &Sample, sample: &Sample) {
        let ended = flown.of(EdgeStatistic::Completed) + flown.of(EdgeStatistic::Retries);
        let unanswered = self.unanswered + flown.of(EdgeStatistic::Begun) - ended;
        let most = if sample.tells_open { sample.of(EdgeStatistic::Open) } else { f64::MAX };
        self.unanswered = unanswered.clamp(0.0, most);
        let waits = self.unanswered >= 1.0;
        if !waits || flown.of(EdgeStatistic::Completed) > 0.0 {
            self.waiting_since = None;
        }
        if waits {
            self.waiting_since.get_or_insert(now);
        }
    }

    fn keep(&mut self, now: Instant, mut sample: Sample) {
        let is_alone = self.samples.len() < 2;
        match self.samples.back_mut() {
            Some((at, last)) if !is_alone && now.saturating_duration_since(*at) < SPACING => {
                sample.add_latencies(last);
                *last = sample;
            }
            _ => self.samples.push_back((now, sample)),
        }
        while self.samples.len() > 2 && now.saturating_duration_since(self.samples[1].0) >= WINDOW {
            self.samples.pop_front();
        }
    }

    /// Whether nothing has been heard of it for too long.
    #[must_use]
    pub fn is_silent(&self, now: Instant) -> bool {
        self.samples.back().is_none_or(|(at, _)| now.saturating_duration_since(*at) > SILENT)
    }

    /// What flowed during the window; nothing where nothing has been heard for too long.
    #[must_use]
    pub fn flow(&self, now: Instant) -> Option<EdgeFlow> {
        if self.is_silent(now) {
            return None;
        }
        let (first_at, first) = self.samples.front()?;
        let (last_at, last) = self.samples.back()?;
        let seconds = last_at.duration_since(*first_at).as_secs_f64();
        let mut flown = last.since(first);
        self.samples.iter().skip(1).for_each(|(_, one)| flown.add_latencies(one));
        let waits = self.waiting_since.is_some_and(|since| last_at.duration_since(since) >= PATIENCE);
        let asked = flown.of(EdgeStatistic::Begun) > 0.0 || flown.of(EdgeStatistic::Open) > 0.0;
        let answered = flown.of(EdgeStatistic::Completed) > 0.0;
        let tells = flown.tells_completed && flown.protocol == EdgeProtocol::Http;
        Some(EdgeFlow {
            seconds,
            events: flown.events(),
            hangs: waits && asked && !answered && tells,
            flown,
            shadow_denied: 0.0,
            plaintext: last.plaintext_connections() > 0.0,
            secured: last.of(EdgeStatistic::Handshakes) > 0.0,
            used: last.used(),
        })
    }

    /// How many samples are kept.
    #[cfg(test)]
    pub fn len(&self) -> usize {
        self.samples.len()
    }
}
