//! Every shipped document is taken, says the same after a trip through the store, and fits the others.

#![allow(clippy::unwrap_used, reason = "a test may stop anywhere")]

use std::path::Path;

use weft_policies::{Document, Policy, PolicySet, parse};

fn examples() -> Vec<(String, String)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples");
    let mut files: Vec<_> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    let read = |path: &std::path::PathBuf| {
        (path.file_name().unwrap().to_string_lossy().into_owned(), std::fs::read_to_string(path).unwrap())
    };
    files.iter().map(read).collect()
}

fn documents() -> Vec<Document> {
    let read = |(name, text): (String, String)| {
        parse(&name, &text)
            .unwrap_or_else(|found| panic!("{}", found.iter().map(|v| format!("{v}\n")).collect::<String>()))
    };
    examples().into_iter().flat_map(read).collect()
}

/// Files are applied one after the other, as people do: one may change an object of another.
#[test]
fn all_examples_fit_together_without_a_warning() {
    let mut set = PolicySet::default();
    for (name, text) in examples() {
        let applied = set.apply(&parse(&name, &text).unwrap()).unwrap();
        assert!(!applied.outcomes.is_empty(), "{name}");
        set = applied.set;
    }
    assert!(set.len() >= 18, "{}", set.len());
    assert_eq!(set.validate(), []);
}

#[test]
fn every_example_says_the_same_after_it_was_stored() {
    for document in documents() {
        let stored = serde_json::to_string(&document.policy.to_value()).unwrap();
        let read = Policy::from_value(serde_json::from_str(&stored).unwrap()).unwrap();
        assert_eq!(read, document.policy);
        let again = parse("stored", &stored).unwrap().remove(0);
        assert!(again.policy.says_the_same(&document.policy), "{stored}");
    }
}

#[test]
fn every_kind_has_an_example_and_a_schema_that_names_it() {
    let documents = documents();
    for kind in weft_policies::Kind::ALL {
        assert!(documents.iter().any(|document| document.kind() == kind), "{kind}");
        let schema = weft_policies::schema(kind);
        assert_eq!(schema["properties"]["kind"]["enum"][0], kind.name());
        assert!(schema["properties"]["spec"].is_object());
    }
}

#[test]
fn json_and_yaml_of_one_document_mean_the_same() {
    let documents = documents();
    let list: Vec<_> = documents.iter().map(|document| document.policy.to_value()).collect();
    let text = serde_json::to_string_pretty(&list).unwrap();
    let tabs = text.replace("  ", "\t");
    let wrapped = serde_json::json!({"kind": "List", "items": list}).to_string();
    for json in [text, tabs, wrapped] {
        let read = parse("request", &json).unwrap();
        assert_eq!(read.len(), documents.len());
        for (one, two) in read.iter().zip(&documents) {
            assert!(one.policy.says_the_same(&two.policy), "{}", one.policy.key());
        }
    }
}
