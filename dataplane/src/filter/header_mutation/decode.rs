//! From Envoy's `HeaderMutation` and `HeaderMutationPerRoute`.

use std::sync::Arc;

use envoy_types::pb::envoy::config::common::mutation_rules::v3 as rules;
use envoy_types::pb::envoy::extensions::filters::http::header_mutation::v3 as wire;
use rules::header_mutation::Action;
use weft_routing::decode::matcher;
use weft_routing::rejection::{Rejection, Within as _, refuse};

use super::super::Override;
use super::{HeaderMutation, LevelOrder, Mutation, Mutations};
use crate::decode::route::header_ops;

pub(in super::super) fn filter(given: &wire::HeaderMutation) -> Result<HeaderMutation, Rejection> {
    Ok(HeaderMutation {
        mutations: mutations(given.mutations.as_ref())?,
        levels: if given.most_specific_header_mutations_wins {
            LevelOrder::MostSpecificLast
        } else {
            LevelOrder::LeastSpecificLast
        },
    })
}

pub(in super::super) fn per_route(given: &wire::HeaderMutationPerRoute) -> Result<Override, Rejection> {
    Ok(Override::HeaderMutation(mutations(given.mutations.as_ref())?))
}

fn mutations(given: Option<&wire::Mutations>) -> Result<Arc<Mutations>, Rejection> {
    let Some(given) = given else { return Ok(Arc::default()) };
    refuse(&given.query_parameter_mutations, "mutations.query_parameter_mutations")?;
    refuse(&given.request_trailers_mutations, "mutations.request_trailers_mutations")?;
    let read = |given: &[rules::HeaderMutation], field: &str| -> Result<Vec<Mutation>, Rejection> {
        let each = given.iter().enumerate();
        each.map(|(index, one)| mutation(one).within(|| format!("mutations.{field}[{index}]"))).collect()
    };
    Ok(Arc::new(Mutations {
        request: read(&given.request_mutations, "request_mutations")?,
        response: read(&given.response_mutations, "response_mutations")?,
        response_trailers: read(&given.response_trailers_mutations, "response_trailers_mutations")?,
    }))
}

fn mutation(given: &rules::HeaderMutation) -> Result<Mutation, Rejection> {
    match &given.action {
        Some(Action::Remove(name)) => {
            let name = std::slice::from_ref(name);
            header_ops(&[], name).within(|| "remove").map(Mutation::Named)
        }
        Some(Action::Append(option)) => {
            let option = std::slice::from_ref(option);
            header_ops(option, &[]).within(|| "append").map(Mutation::Named)
        }
        Some(Action::RemoveOnMatch(matching)) => {
            let missing = || Rejection::new("remove_on_match.key_matcher", "is missing");
            let given = matching.key_matcher.as_ref().ok_or_else(missing)?;
            let matcher = matcher::string(given).within(|| "remove_on_match.key_matcher")?;
            Ok(Mutation::RemoveMatching(matcher))
        }
        None => Err(Rejection::new("action", "is missing")),
    }
}
