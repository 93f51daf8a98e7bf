//! Requests as they end, for who looks on.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use axum::Extension;
use axum::extract::State;
use axum::response::sse::{Event, KeepAlive};
use futures::Stream;
use schemars::JsonSchema;
use serde::Deserialize;
use tokio::sync::OwnedSemaphorePermit;
use weft_api::ServiceId;
use weft_api::rest::{TapLine, TapListening, TapNotShown};
use weft_policies::kinds::role::{ApiKind, RoleVerb};

use super::access::ApiCaller;
use super::answer::EventStream;
use super::error::{ApiError, Refuses};
use super::extract::{CallSource, Parameters};
use super::needs::rights_now;
use super::parameter::read_service;
use super::problem_code::ProblemCode;
use super::rights::CallerRights;
use super::state::Api;
use crate::identity::holders::TokenHolder;
use crate::metrics::Limit;
use crate::replicas::taps::{TapCounts, TapEvent, TapEvents};
use crate::taps::{InvalidTapFilter, TapFilter};

/// Who may look on at the same time, at one replica.
pub const VIEWERS: usize = 16;

/// Whether a viewer still may is asked so often.
const CHECK_AGAIN: Duration = Duration::from_secs(1);
/// A client that hears nothing for 10 s gives up.
const SIGN_OF_LIFE: Duration = Duration::from_secs(3);

/// What may stand in the query.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
#[schemars(inline)]
pub struct TapParameters {
    /// Only calls from this service, NAMESPACE/SERVICE
    #[schemars(with = "Option<ServiceId>")]
    source: Option<String>,
    /// Only calls to this service, NAMESPACE/SERVICE
    #[schemars(with = "Option<ServiceId>")]
    destination: Option<String>,
    /// Only with this method
    method: Option<String>,
    /// Only where the path begins so
    path: Option<String>,
    /// Only answered so: 503, or 5xx
    status: Option<String>,
    /// Only what failed or was refused
    only_failures: bool,
    /// Headers to be shown: NAME[,NAME]; a name that may not be shown is refused
    headers: Option<String>,
}

impl TapParameters {
    fn read(self) -> Result<TapFilter, ApiError> {
        let named =
            |parameter, text: Option<String>| text.map(|text| read_service(parameter, &text)).transpose();
        let mut filter = TapFilter {
            source: named("source", self.source)?,
            destination: named("destination", self.destination)?,
            only_failures: self.only_failures,
            ..TapFilter::default()
        };
        let refused = |error: InvalidTapFilter| ApiError::bad_request(error.to_string());
        if let Some(method) = self.method {
            filter = filter.with_method(&method).map_err(refused)?;
        }
        if let Some(path) = self.path {
            filter = filter.with_path(&path).map_err(refused)?;
        }
        if let Some(status) = self.status {
            filter = filter.with_status(&status).map_err(refused)?;
        }
        let headers = self.headers.unwrap_or_default();
        filter.with_headers(headers.split(',').filter(|name| !name.is_empty())).map_err(refused)
    }
}

/// `GET /v1/taps`: requests as they end, for as long as the client stays.
pub async fn watch(
    State(api): State<Api>,
    Extension(caller): Extension<ApiCaller>,
    rights: CallerRights,
    CallSource(source): CallSource,
    Parameters(query): Parameters<TapParameters>,
) -> Result<EventStream<(TapListening, TapLine, TapNotShown)>, Refuses<404>> {
    let filter = query.read()?;
    check_rights(&rights, &filter)?;
    for service in [&filter.source, &filter.destination].into_iter().flatten() {
        check(&api, service)?;
    }
    let too_many = || {
        api.metrics.limited(Limit::TapViewers);
        let detail =
            format!("{VIEWERS} taps are open at this control plane; end one, or ask another replica");
        ApiError::new(ProblemCode::TooManyTaps, detail)
    };
    let place = api.tap_viewers.clone().try_acquire_owned().map_err(|_| too_many())?;
    let events = api.taps.open(filter.clone()).map_err(|_| too_many())?;
    let viewer =
        TapViewer { api, holder: caller.holder().clone(), filter: filter.clone(), checked: Instant::now() };
    let log = ViewerLog::begin(&caller, source, &filter, &events);
    Ok(EventStream::new(events_of(viewer, events, place, log), KeepAlive::new().interval(SIGN_OF_LIFE)))
}

/// Who may look at one end of what is asked for; at all, whoever may look everywhere.
fn check_rights(rights: &CallerRights, filter: &TapFilter) -> Result<(), ApiError> {
    let may = |end: &ServiceId| rights.0.may(RoleVerb::Read, ApiKind::Tap, Some(&end.namespace));
    if [&filter.source, &filter.destination].into_iter().flatten().any(may) {
        return Ok(());
    }
    rights.demand(RoleVerb::Read, ApiKind::Tap, None)
}

/// A service that nobody knows would be listened to for ever, and nothing said.
fn check(api: &Api, wanted: &ServiceId) -> Result<(), ApiError> {
    let set = Arc::clone(&api.reconciler.published().borrow().set);
    let joined = || api.reconciler.records().values().any(|record| record.service == *wanted);
    if set.service(wanted).is_some() || joined() {
        return Ok(());
    }
    Err(ApiError::no_service(wanted, set.services().map(|service| service.id().to_string())))
}

/// Who looks on, and may no longer once the right is taken away.
struct TapViewer {
    api: Api,
    holder: TokenHolder,
    filter: TapFilter,
    checked: Instant,
}

impl TapViewer {
    async fn may_go_on(&mut self) -> bool {
        if self.checked.elapsed() < CHECK_AGAIN {
            return true;
        }
        self.checked = Instant::now();
        let rights = rights_now(&self.api, &self.holder).await;
        rights.is_some_and(|rights| check_rights(&rights, &self.filter).is_ok())
    }
}

fn events_of(
    viewer: TapViewer,
    events: TapEvents,
    place: OwnedSemaphorePermit,
    log: ViewerLog,
) -> impl Stream<Item = Result<Event, Infallible>> {
    futures::stream::unfold((viewer, events, place, log), async |(mut viewer, mut events, place, log)| {
        let next = events.next().await?;
        if !viewer.may_go_on().await {
            return None;
        }
        let event = match next {
            TapEvent::Listening(listening) => Event::default().event("listening").json_data(listening),
            TapEvent::Line(line) => Event::default().event("request").json_data(line),
            TapEvent::NotShown(not_shown) => Event::default().event("notShown").json_data(not_shown),
        };
        // What cannot be written would be a fault of ours; the next one may do.
        Some((Ok(event.unwrap_or_default()), (viewer, events, place, log)))
    })
}

/// Says who looked on, at the beginning and at the end.
struct ViewerLog {
    who: String,
    source: String,
    counts: Arc<TapCounts>,
}

impl ViewerLog {
    fn begin(caller: &ApiCaller, source: Option<SocketAddr>, filter: &TapFilter, events: &TapEvents) -> Self {
        let who = caller.to_string();
        let source = source.map_or_else(|| "unknown".to_owned(), |source| source.to_string());
        tracing::info!(event = "tap_opened", who, source, %filter, "a tap is opened");
        Self { who, source, counts: Arc::clone(&events.counts) }
    }
}

impl Drop for ViewerLog {
    fn drop(&mut self) {
        let Self { who, source, counts } = self;
        let (shown, not_shown) =
            (counts.shown.load(Ordering::Relaxed), counts.not_shown.load(Ordering::Relaxed));
        tracing::info!(event = "tap_closed", who, source, shown, not_shown, "a tap is closed");
    }
}
