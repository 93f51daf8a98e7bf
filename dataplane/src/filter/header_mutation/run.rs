//! Changes heads and trailers.

use std::sync::Arc;

use super::super::Override;
use super::super::request::{Flow, Request, Response, levels};
use super::super::state::FilterState;
use super::{HeaderMutation, LevelOrder, Mutations, Trailers};
use crate::engine::active_stream::ActiveStream;
use crate::engine::chain::HttpView;
use crate::engine::stream_info::context;

impl HeaderMutation {
    pub(in super::super) fn on_request(&self, name: &str, request: &mut Request<'_>) -> Flow {
        for mutations in self.all(name, request.view, request.stream) {
            for mutation in &mutations.request {
                let context = context(request.stream, Some(request.head()), None);
                let values = mutation.evaluate(&context);
                mutation.apply(&mut request.parts.headers, values);
            }
        }
        Flow::Continue
    }

    pub(in super::super) fn on_response(&self, name: &str, response: &mut Response<'_>) {
        let all = self.all(name, response.view, response.stream);
        for mutation in all.iter().flat_map(|mutations| &mutations.response) {
            let context = context(response.stream, Some(*response.request), Some(response.headers));
            let values = mutation.evaluate(&context);
            mutation.apply(response.headers, values);
        }
        for mutations in all.into_iter().filter(|mutations| !mutations.response_trailers.is_empty()) {
            let context = context(response.stream, Some(*response.request), Some(response.headers));
            let values =
                mutations.response_trailers.iter().map(|mutation| mutation.evaluate(&context)).collect();
            response.remember(FilterState::Trailers(Trailers { mutations, values }));
        }
    }

    /// The filter's own mutations, then those of the route's levels.
    fn all(&self, name: &str, view: &HttpView, stream: &ActiveStream) -> Vec<Arc<Mutations>> {
        let own = std::iter::once(self.mutations.clone());
        let Some((found, weighted)) = levels(view, stream) else { return own.collect() };
        let special = view.routes.filter_overrides(found, weighted, name);
        let special = special.filter_map(Override::header_mutation).cloned();
        match self.levels {
            LevelOrder::LeastSpecificLast => own.chain(special).collect(),
            LevelOrder::MostSpecificLast => own.chain(special.rev()).collect(),
        }
    }
}
