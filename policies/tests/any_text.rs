//! No text makes the parser panic or hang, and every place that it tells lies within the text.

use proptest::prelude::*;
use weft_policies::parse;

const SEED: &str = include_str!("../examples/routes.yaml");

fn check(text: &str) {
    if let Err(found) = parse("any", text) {
        assert!(!found.is_empty());
        let lines = text.split(['\n', '\r']).count();
        for one in found {
            assert!(one.line >= 1 && one.line <= lines + 1, "{one:?} of {lines} lines in {text:?}");
            assert!(one.column >= 1);
            assert!(!one.code.is_empty() && !one.message.is_empty());
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn any_text_is_read_or_refused(text in "\\PC{0,200}") {
        check(&text);
    }

    #[test]
    fn any_mix_of_yaml_signs_is_read_or_refused(text in "[-a-c0-9:,{}\\[\\]\"'|>&*!#%@?~ \t\n]{0,120}") {
        check(&text);
    }

    #[test]
    fn a_damaged_document_is_read_or_refused(
        at in 0..SEED.len(),
        cut in 0usize..40,
        put in "[-a-z0-9:,{}\\[\\]\"'|>&*!# \t\n]{0,12}",
    ) {
        let end = (at + cut).min(SEED.len());
        check(&format!("{}{put}{}", &SEED[..at], &SEED[end..]));
    }

    #[test]
    fn any_value_in_any_field_is_read_or_refused(
        kind in prop::sample::select(weft_policies::Kind::ALL.to_vec()),
        field in prop::sample::select(vec![
            "ports", "rules", "parentRefs", "targetRefs", "action", "address", "defaults", "retry", "timeouts",
        ]),
        value in prop::sample::select(vec![
            "1", "[]", "{}", "null", "[null]", "[1]", "[[]]", "[{}]", "text", "-1", "1e99", "[{name: a}]", "true",
        ]),
    ) {
        check(&format!("apiVersion: weft.dev/v1\nkind: {kind}\nmetadata: {{name: a}}\nspec:\n  {field}: {value}\n"));
    }
}
