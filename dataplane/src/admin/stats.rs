//! `/stats` and `/stats/prometheus`.

use http::StatusCode;
use regex::Regex;
use serde_json::{Value as Json, json};

use super::query::QueryParameters;
use super::response::AdminResponse;
use crate::control::ControlHandle;
use crate::stats::{SeriesReading, StatValue, render_prometheus, render_text};

pub(super) async fn render(query: &QueryParameters, handle: &ControlHandle) -> AdminResponse {
    if query.value("format") == Some("prometheus") {
        return prometheus(query, handle).await;
    }
    let filter = match filter(query) {
        Ok(filter) => filter,
        Err(page) => return page,
    };
    let (used, as_json) = (query.has("usedonly"), query.value("format") == Some("json"));
    let page = handle.stats(move |readings| {
        let readings: Vec<SeriesReading<'_>> =
            readings.iter().filter(|reading| !used || is_used(reading)).cloned().collect();
        let keep = |name: &str| filter.as_ref().is_none_or(|filter| filter.is_match(name));
        if as_json {
            let shown = readings.iter().filter(|reading| keep(&reading.name)).map(shown);
            AdminResponse::json(&json!({ "stats": shown.collect::<Vec<_>>() }))
        } else {
            AdminResponse::text(render_text(&readings, keep))
        }
    });
    page.await.unwrap_or_else(AdminResponse::gone)
}

pub(super) async fn prometheus(query: &QueryParameters, handle: &ControlHandle) -> AdminResponse {
    let filter = match filter(query) {
        Ok(filter) => filter,
        Err(page) => return page,
    };
    let used = query.has("usedonly");
    let page = handle.stats(move |readings| {
        let readings: Vec<SeriesReading<'_>> =
            readings.iter().filter(|reading| !used || is_used(reading)).cloned().collect();
        let keep = |name: &str| filter.as_ref().is_none_or(|filter| filter.is_match(name));
        let mut page = AdminResponse::text(render_prometheus(&readings, keep));
        page.content_type = "text/plain; version=0.0.4; charset=utf-8";
        page
    });
    page.await.unwrap_or_else(AdminResponse::gone)
}

fn filter(query: &QueryParameters) -> Result<Option<Regex>, AdminResponse> {
    match query.value("filter").filter(|text| !text.is_empty()).map(Regex::new) {
        None => Ok(None),
        Some(Ok(regex)) => Ok(Some(regex)),
        Some(Err(error)) => {
            Err(AdminResponse::text(format!("filter: {error}\n")).with_status(StatusCode::BAD_REQUEST))
        }
    }
}

fn is_used(reading: &SeriesReading<'_>) -> bool {
    !matches!(reading.value, StatValue::Counter(0) | StatValue::Gauge(0) | StatValue::Histogram(None))
}

fn shown(reading: &SeriesReading<'_>) -> Json {
    let name = &*reading.name;
    match reading.value {
        StatValue::Counter(value) => json!({ "name": name, "value": value }),
        StatValue::Gauge(value) => json!({ "name": name, "value": value }),
        StatValue::Histogram(histogram) => {
            let quantile = |q: f64| histogram.map(|histogram| histogram.quantile(q));
            json!({
                "name": name, "count": histogram.map_or(0, |histogram| histogram.count()),
                "p50": quantile(0.5), "p95": quantile(0.95), "p99": quantile(0.99),
            })
        }
    }
}
