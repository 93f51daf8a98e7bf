//! `weft top`: the mesh as it is now, on a terminal; without one, a line for each change.
//!
//! ```text
//! ReplicaClients ── once a second ──▶ Picture ──▶ App (what is chosen, sorted, filtered) ──▶ draw
//!                               keys ──────▲
//! ```
//!
//! `weft up` shows the same of the mesh that it runs.

mod app;
mod changes;
mod details;
mod draw;
mod failure_group;
mod picture;
mod rows;

use std::io::IsTerminal as _;
use std::io::Write as _;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use crossterm::event::{Event, EventStream, KeyEventKind};
use futures::StreamExt as _;
use tokio::signal::unix::{SignalKind, signal};

use crate::replicas::ReplicaClients;
use app::{App, KeyOutcome};
use picture::Picture;

/// How long a picture stands before the next one is asked for.
const EVERY: Duration = Duration::from_secs(1);

/// What stands around the picture.
#[derive(Clone, Debug, Default)]
pub struct Surroundings {
    pub title: String,
    /// What to try next, where there is room for it and among the help.
    pub hints: Vec<String>,
    /// Ends by itself after so long.
    pub duration: Option<Duration>,
}

/// Runs until somebody ends it.
pub async fn run(replicas: &ReplicaClients, api: &str) -> anyhow::Result<ExitCode> {
    let mut terminate = signal(SignalKind::terminate()).context("SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("SIGINT")?;
    let around = Surroundings { title: format!("weft top  {api}"), ..Surroundings::default() };
    tokio::select! {
        shown = show(replicas, around, || Ok(Vec::new())) => shown?,
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    Ok(ExitCode::SUCCESS)
}

/// Shows the mesh until a key, the end of `duration`, or an error of `fallen`, which says what of one's own has ended.
pub async fn show(
    replicas: &ReplicaClients,
    around: Surroundings,
    fallen: impl FnMut() -> anyhow::Result<Vec<String>>,
) -> anyhow::Result<()> {
    if std::io::stdout().is_terminal() && std::io::stdin().is_terminal() {
        on_terminal(replicas, around, fallen).await
    } else {
        as_lines(replicas, &around, fallen).await
    }
}

async fn on_terminal(
    replicas: &ReplicaClients,
    around: Surroundings,
    mut fallen: impl FnMut() -> anyhow::Result<Vec<String>>,
) -> anyhow::Result<()> {
    let ends = around.duration.map(|duration| Instant::now() + duration);
    let mut app = App::new(around.title, around.hints);
    let mut screen = Screen::try_new()?;
    let mut keys = EventStream::new();
    let mut asking = Box::pin(after(Duration::ZERO, replicas));
    let mut ticks = ticks();
    loop {
        screen.terminal.draw(|frame| draw::draw(frame, &mut app)).context("the terminal")?;
        tokio::select! {
            event = keys.next() => match event {
                Some(Ok(Event::Key(key))) if key.kind != KeyEventKind::Release => {
                    if app.key(key) == KeyOutcome::Quit {
                        return Ok(());
                    }
                }
                // Another size, and what else a terminal tells: drawn anew.
                Some(Ok(_)) => {}
                // The terminal is gone.
                Some(Err(_)) | None => return Ok(()),
            },
            picture = &mut asking => {
                app.take(picture);
                asking = Box::pin(after(EVERY, replicas));
            }
            _ = ticks.tick() => {
                app.fallen = fallen()?;
                if ends.is_some_and(|ends| Instant::now() >= ends) {
                    return Ok(());
                }
            }
        }
    }
}

async fn as_lines(
    replicas: &ReplicaClients,
    around: &Surroundings,
    mut fallen: impl FnMut() -> anyhow::Result<Vec<String>>,
) -> anyhow::Result<()> {
    let ends = around.duration.map(|duration| Instant::now() + duration);
    // Whoever reads no more has seen enough.
    let mut out = std::io::stdout();
    for line in std::iter::once(&around.title).chain(&around.hints) {
        if writeln!(out, "{line}").is_err() {
            return Ok(());
        }
    }
    let (mut before, mut ended) = (Picture::default(), Vec::new());
    let mut ticks = ticks();
    loop {
        ticks.tick().await;
        let now_ended = fallen()?;
        let news = now_ended.iter().filter(|line| !ended.contains(*line)).cloned();
        let now = picture::ask(replicas).await.after(before.clone());
        for line in news.chain(changes::between(&before, &now)) {
            let now = humantime::format_rfc3339_seconds(std::time::SystemTime::now());
            if writeln!(out, "{now}  {line}").is_err() {
                return Ok(());
            }
        }
        (before, ended) = (now, now_ended);
        if ends.is_some_and(|ends| Instant::now() >= ends) {
            return Ok(());
        }
    }
}

async fn after(pause: Duration, replicas: &ReplicaClients) -> Picture {
    tokio::time::sleep(pause).await;
    picture::ask(replicas).await
}

fn ticks() -> tokio::time::Interval {
    let mut ticks = tokio::time::interval(EVERY);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    ticks
}

/// The terminal as long as it is ours; given back however this ends.
struct Screen {
    terminal: ratatui::DefaultTerminal,
}

impl Screen {
    fn try_new() -> anyhow::Result<Self> {
        Ok(Self {
            terminal: ratatui::try_init().context("the terminal cannot be used; pipe this through cat")?,
        })
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        ratatui::restore();
    }
}
