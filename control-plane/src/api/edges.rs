//! What flows between services, and has flown, at all replicas.

use std::convert::Infallible;
use std::time::Duration;

use axum::extract::State;
use axum::response::sse::{Event, KeepAlive};
use axum::{Extension, Json};
use futures::Stream;
use schemars::JsonSchema;
use serde::Deserialize;
use tokio::sync::OwnedSemaphorePermit;
use weft_api::rest::{EdgeList, EdgeSeries, SeriesStep};
use weft_api::{Name, ServiceId};
use weft_policies::kinds::role::{ApiKind, RoleVerb};

use super::access::ApiCaller;
use super::answer::EventStream;
use super::error::ApiError;
use super::extract::Parameters;
use super::needs::rights_now;
use super::parameter::{Count, read_name, read_service};
use super::problem_code::ProblemCode;
use super::rights::CallerRights;
use super::state::Api;
use crate::edges::{COARSE, EdgesBy, FINE, Moment, Selection, Steps, shown, shown_series};
use crate::identity::holders::TokenHolder;
use crate::metrics::Limit;
use crate::replicas::traffic::Traffic;

/// Who may watch at the same time. Each holds a connection and is sent the whole picture every two seconds.
pub const WATCHERS: usize = 64;
const PACE: Duration = Duration::from_secs(2);

/// Which edges are wanted.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(inline)]
pub struct EdgesQuery {
    /// `route` tells the rules of routes apart, in place of subsets
    #[serde(default)]
    by: EdgesBy,
    /// Only calls of this service, NAMESPACE/SERVICE
    #[schemars(with = "Option<ServiceId>")]
    source: Option<String>,
    /// Only calls to this service, NAMESPACE/SERVICE
    #[schemars(with = "Option<ServiceId>")]
    destination: Option<String>,
}

/// What an [`EdgesQuery`] asks for, with its names parsed.
#[derive(Debug)]
struct EdgesSelection {
    by: EdgesBy,
    source: Option<ServiceId>,
    destination: Option<ServiceId>,
    rights: CallerRights,
}

impl EdgesSelection {
    fn try_new(wanted: EdgesQuery, rights: CallerRights) -> Result<Self, ApiError> {
        let service =
            |parameter, text: Option<String>| text.map(|text| read_service(parameter, &text)).transpose();
        Ok(Self {
            by: wanted.by,
            source: service("source", wanted.source)?,
            destination: service("destination", wanted.destination)?,
            rights,
        })
    }

    /// An edge is seen from both of its ends.
    fn may_see(&self, source: &ServiceId, destination: &ServiceId) -> bool {
        [source, destination].iter().any(|end| self.rights.may_read(ApiKind::Traffic, end.namespace.as_str()))
    }

    async fn of(&self, traffic: &Traffic) -> EdgeList {
        let mut heard = traffic.flows().await;
        let is =
            |wanted: &Option<ServiceId>, id: &ServiceId| wanted.as_ref().is_none_or(|wanted| wanted == id);
        heard.all.retain(|source, target| {
            let destination = &target.destination.service;
            is(&self.source, source)
                && is(&self.destination, destination)
                && self.may_see(source, destination)
        });
        EdgeList { items: shown(&heard.all, self.by), unheard: heard.unheard }
    }
}

/// `GET /v1/edges`
pub async fn list(
    State(api): State<Api>,
    rights: CallerRights,
    Parameters(wanted): Parameters<EdgesQuery>,
) -> Result<Json<EdgeList>, ApiError> {
    Ok(Json(EdgesSelection::try_new(wanted, rights)?.of(&api.traffic).await))
}

/// `GET /v1/watch/edges`: the list, again and again, for as long as the client stays.
pub async fn watch(
    State(api): State<Api>,
    Extension(caller): Extension<ApiCaller>,
    rights: CallerRights,
    Parameters(wanted): Parameters<EdgesQuery>,
) -> Result<EventStream<(EdgeList,)>, ApiError> {
    let view = EdgesSelection::try_new(wanted, rights)?;
    let Ok(place) = api.watchers.clone().try_acquire_owned() else {
        api.metrics.limited(Limit::EdgeWatchers);
        let detail = format!("{WATCHERS} watch already; ask /v1/edges now and then");
        return Err(ApiError::new(ProblemCode::TooManyWatchers, detail));
    };
    let pictures = pictures(api, caller.holder().clone(), view, place);
    Ok(EventStream::new(pictures, KeepAlive::default()))
}

fn pictures(
    api: Api,
    holder: TokenHolder,
    view: EdgesSelection,
    place: OwnedSemaphorePermit,
) -> impl Stream<Item = Result<Event, Infallible>> {
    let mut ticks = tokio::time::interval(PACE);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    futures::stream::unfold(
        (api, holder, view, place, ticks),
        async |(api, holder, mut view, place, mut ticks)| {
            ticks.tick().await;
            view.rights = rights_now(&api, &holder).await?;
            let event = Event::default().event("edges");
            // A picture that cannot be written would be a fault of ours; the next one may do.
            let event = event.json_data(view.of(&api.traffic).await).unwrap_or_default();
            Some((Ok(event), (api, holder, view, place, ticks)))
        },
    )
}

/// Whose series is wanted, how fine, and how far back.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(inline)]
pub struct WantedSeries {
    /// The called service, NAMESPACE/SERVICE
    #[schemars(with = "ServiceId")]
    destination: String,
    /// Only calls of this service; all together without it
    #[schemars(with = "Option<ServiceId>")]
    source: Option<String>,
    /// Only calls to this port
    #[schemars(with = "Option<Name>")]
    port: Option<String>,
    /// Only calls to this subset
    #[schemars(with = "Option<Name>")]
    subset: Option<String>,
    /// Only calls that follow this rule, named as an edge by route names it
    route: Option<String>,
    /// Only calls to members of this version; `-` for those without one
    version: Option<String>,
    /// 5s, for the last 10 minutes (the default), or 1m, for the last 24 hours
    #[serde(default)]
    step: SeriesStep,
    /// Only the last so many seconds
    #[schemars(with = "Option<Count>")]
    since: Option<u64>,
}

/// `GET /v1/edges/series`
pub async fn series(
    State(api): State<Api>,
    rights: CallerRights,
    Parameters(wanted): Parameters<WantedSeries>,
) -> Result<Json<EdgeSeries>, ApiError> {
    let grain = match wanted.step {
        SeriesStep::FiveSeconds => FINE,
        SeriesStep::OneMinute => COARSE,
    };
    let selection = Selection {
        source: wanted.source.as_deref().map(|text| read_service("source", text)).transpose()?,
        destination: read_service("destination", &wanted.destination)?,
        port: wanted.port.as_deref().map(|text| read_name("port", text)).transpose()?,
        subset: wanted.subset.as_deref().map(|text| read_name("subset", text)).transpose()?,
        route: wanted.route,
        version: wanted.version,
        grain,
    };
    // Of all callers together only those of the called service's namespace are told.
    let of_source =
        selection.source.as_ref().is_some_and(|id| rights.may_read(ApiKind::Traffic, id.namespace.as_str()));
    if !of_source {
        rights.demand(RoleVerb::Read, ApiKind::Traffic, Some(&selection.destination.namespace))?;
    }
    let seconds = wanted.since.unwrap_or(grain.step * grain.kept);
    let steps = Steps::until(Moment::now(&api.clock).millis, grain, seconds);
    let heard = api.traffic.points(&selection, steps.first).await;
    Ok(Json(EdgeSeries { unheard: heard.unheard, ..shown_series(&heard.all, steps, grain) }))
}
