//! `envoy.filters.http.header_mutation`: headers of requests, responses and trailers are added, replaced and removed.

pub(super) mod decode;
pub(super) mod run;

use std::sync::Arc;

use http::{HeaderMap, HeaderName};
use weft_routing::matcher::{StringMatch, UndecidedAs};

use crate::format::FormatContext;
use crate::route::{Evaluated, HeaderOps};

/// `envoy.filters.http.header_mutation`, whose mutations and those of routes add up.
#[derive(Debug, Clone)]
pub struct HeaderMutation {
    /// Done first, whatever routes say.
    pub mutations: Arc<Mutations>,
    /// In which order the levels of the route follow.
    pub levels: LevelOrder,
}

/// `most_specific_header_mutations_wins`: which level's mutations come last and may undo those of others.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum LevelOrder {
    /// From the most specific level to the least specific one.
    #[default]
    LeastSpecificLast,
    MostSpecificLast,
}

/// What is done, in order.
#[derive(Debug, Default)]
pub struct Mutations {
    pub(super) request: Vec<Mutation>,
    pub(super) response: Vec<Mutation>,
    pub(super) response_trailers: Vec<Mutation>,
}

/// One mutation; they are applied in their order.
#[derive(Debug)]
pub(super) enum Mutation {
    /// A header is added, replaced or removed by its name.
    Named(HeaderOps),
    /// All headers are removed whose names match.
    RemoveMatching(StringMatch),
}

/// What is done to trailers when they come. Values are made with the response's head, while the request is known.
#[derive(Debug)]
pub(crate) struct Trailers {
    pub(super) mutations: Arc<Mutations>,
    pub(super) values: Vec<Evaluated>,
}

impl Trailers {
    /// Applies them; a message has trailers once.
    pub(super) fn apply(&mut self, trailers: &mut HeaderMap) {
        for (mutation, values) in self.mutations.response_trailers.iter().zip(self.values.drain(..)) {
            mutation.apply(trailers, values);
        }
    }
}

impl Mutation {
    fn evaluate(&self, context: &FormatContext<'_>) -> Evaluated {
        match self {
            Self::Named(ops) => ops.evaluate(context),
            Self::RemoveMatching(_) => Evaluated::default(),
        }
    }

    fn apply(&self, headers: &mut HeaderMap, values: Evaluated) {
        match self {
            Self::Named(ops) => ops.apply(headers, values),
            Self::RemoveMatching(matcher) => remove_matching(headers, matcher),
        }
    }
}

fn remove_matching(headers: &mut HeaderMap, matcher: &StringMatch) {
    let matches = |name: &&HeaderName| matcher.matches(name.as_str().as_bytes(), UndecidedAs::Miss);
    let matching: Vec<HeaderName> = headers.keys().filter(matches).cloned().collect();
    matching.iter().for_each(|name| drop(headers.remove(name)));
}
