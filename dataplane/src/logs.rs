//! The log on standard error: text for a terminal, JSON otherwise; its filter can change while the proxy runs.

use std::io::IsTerminal as _;
use std::sync::Arc;

use tracing_subscriber::filter::LevelFilter;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{EnvFilter, Layer as _, reload};
use weft_api::flags::LogFormat;
use weft_api::log_event::EventCounts;

use crate::control::LogControl;

/// Starts the log. `RUST_LOG` counts where `--log` is not given.
///
/// # Errors
/// When the filter cannot be read.
pub fn start(filter: Option<&str>, format: Option<LogFormat>) -> Result<LogControl, String> {
    let given = filter.map(str::to_owned).or_else(|| std::env::var("RUST_LOG").ok());
    let given = given.filter(|text| !text.is_empty()).unwrap_or_else(|| "info".to_owned());
    let filter = parse(&given)?;
    let (filter, handle) = reload::Layer::new(filter);
    let terminal = std::io::stderr().is_terminal();
    let format = format.unwrap_or(if terminal { LogFormat::Text } else { LogFormat::Json });
    let lines = tracing_subscriber::fmt::layer().with_writer(std::io::stderr).with_ansi(terminal);
    let lines = match format {
        LogFormat::Text => lines.boxed(),
        LogFormat::Json => lines.json().flatten_event(true).boxed(),
    };
    // What is finer has no name to count by; a level without an end would have every library say all that it does.
    let events = EventCounts::default();
    let counting = events.clone().with_filter(LevelFilter::INFO);
    let subscriber = tracing_subscriber::registry().with(lines.with_filter(filter)).with(counting);
    subscriber.try_init().map_err(|error| error.to_string())?;
    let shown = handle.clone();
    Ok(LogControl {
        events,
        set: Arc::new(move |text| handle.reload(parse(text)?).map_err(|error| error.to_string())),
        show: Arc::new(move || shown.with_current(ToString::to_string).unwrap_or_default()),
    })
}

fn parse(text: &str) -> Result<EnvFilter, String> {
    let filter = EnvFilter::builder().parse(text);
    filter.map_err(|error| format!("{text:?} is not a log filter: {error}"))
}
