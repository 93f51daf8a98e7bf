//! Every rule of the discovery protocol that Weft implements has a test that names it.

use regex::Regex;

use crate::nothing_in;
use crate::source;

/// Rules in scope: each is named by a test's name (`s9_…`) or the comment on it (`/// S9: …`).
const IN_SCOPE: &str = "S1 S2 S3 S4 S5 S6 S7 S8 S9 S10 S11 S12 S13 S14 \
    U1 U2 U3 U4 U5 U6 U7 U8 U9 U11 U12 U13 U14 U16 U17 \
    R1 R2 R3 R4 W1 W2 W3 W4 W5 W6 W7 W8 W9 T2 O1 O2 F1 M1 M2";

/// Rules that are left out on purpose, with the reason.
const OUT_OF_SCOPE: [(&str, &str); 3] = [
    ("T1", "the server sends no resource with a time to live yet; clients take a heartbeat as T2 says"),
    ("L1", "load reports are not taken yet: edges come from the metrics service"),
    ("C1", "client status discovery is not offered yet: /v1/proxies tells what each took"),
];

/// Where tests of the protocol lie; elsewhere the same letters may mean something else.
const SPEAKS_OF_RULES: [&str; 4] = ["api/xds/", "control-plane/", "dataplane/src/control", "e2e/tests/"];

/// Where such letters name findings of reviews, not rules; and this test itself.
const FINDINGS: [&str; 4] =
    ["/tidy/", "/attacks/", "control-plane/src/join/", "control-plane/tests/mesh/stored.rs"];

fn names_of_tests() -> String {
    let tested = Regex::new(r"(?m)^\s*(//[/ ][^\n]*|(async )?fn [a-z0-9_]+)").unwrap();
    let mut text = String::new();
    for file in source::rust() {
        if !SPEAKS_OF_RULES.iter().any(|start| file.path.starts_with(start))
            || FINDINGS.iter().any(|part| file.path.contains(part))
        {
            continue;
        }
        for line in tested.find_iter(file.tests()) {
            text.push_str(line.as_str());
            text.push('\n');
        }
    }
    text
}

fn is_named(id: &str, tests: &str) -> bool {
    let lower = id.to_lowercase();
    Regex::new(&format!(r"\b{id}\b|\bfn (\w+_)?{lower}_")).unwrap().is_match(tests)
}

#[test]
fn every_rule_in_scope_is_named_by_a_test() {
    let tests = names_of_tests();
    let missing: Vec<_> =
        IN_SCOPE.split_whitespace().filter(|id| !is_named(id, &tests)).map(str::to_owned).collect();
    nothing_in(&missing, "no test names these rules of the discovery protocol:");
}

#[test]
fn rules_left_out_are_not_tested_all_the_same() {
    let tests = names_of_tests();
    let found: Vec<_> = OUT_OF_SCOPE
        .iter()
        .filter(|(id, _)| is_named(id, &tests))
        .map(|(id, reason)| format!("{id}: {reason}"))
        .collect();
    nothing_in(&found, "a test names these, so move them to IN_SCOPE:");
}
