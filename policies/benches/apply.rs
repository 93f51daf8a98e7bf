//! What applying one document costs: the way from a set to the next one, with all checks and without the store.
//!
//! `cargo bench -p weft-policies --bench apply` prints the median of [`ROUNDS`] for one HTTPRoute put into sets of 100,
//! 1,000 and 10,000 services. The cost should not grow with the set. One thread does all of it, so that the time that
//! passes is at most a little more than the CPU time that it takes.

#![allow(clippy::unwrap_used, missing_docs, reason = "a benchmark may stop anywhere")]

use std::time::{Duration, Instant};

use weft_policies::{Document, PolicySet, parse};

const ROUNDS: usize = 21;

fn services(count: usize) -> Vec<Document> {
    let one = |index: usize| {
        format!(
            "---\napiVersion: weft.dev/v1\nkind: Service\nmetadata: {{name: s{index}, namespace: shop}}\nspec: {{ports: [{{name: http, port: 80, protocol: HTTP}}]}}\n"
        )
    };
    (0..count).flat_map(|index| parse("services", &one(index)).unwrap()).collect()
}

fn route(round: usize) -> Vec<Document> {
    let text = format!(
        "apiVersion: weft.dev/v1\nkind: HTTPRoute\nmetadata: {{name: r, namespace: shop}}\nspec:\n  parentRefs: [{{name: s1}}]\n  rules: [{{matches: [{{path: {{value: /v{round}}}}}], backendRefs: [{{name: s2}}]}}]\n"
    );
    parse("route", &text).unwrap()
}

fn main() {
    for count in [100, 1_000, 10_000] {
        let mut set = PolicySet::default().apply(&services(count)).unwrap().set;
        let mut times: Vec<Duration> = (0..ROUNDS)
            .map(|round| {
                let documents = route(round);
                let start = Instant::now();
                let applied = set.apply(&documents).unwrap();
                let spent = start.elapsed();
                set = applied.set;
                spent
            })
            .collect();
        times.sort();
        println!("{count:>6} services: {:>9.3} ms for one HTTPRoute", times[ROUNDS / 2].as_secs_f64() * 1e3);
    }
}
