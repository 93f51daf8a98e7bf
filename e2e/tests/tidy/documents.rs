//! Documents that people copy from are true: examples parse, commands exist, links lead somewhere.

use regex::Regex;
use weft_policies::parse;

use crate::nothing_in;
use crate::source::{self, SourceFile};

fn markdown() -> Vec<SourceFile> {
    source::all().into_iter().filter(|file| file.path.ends_with(".md")).collect()
}

#[test]
fn every_shipped_yaml_is_taken() {
    let mut found = Vec::new();
    let mut documents = 0;
    for file in source::all() {
        if !file.path.contains("examples/") {
            continue;
        }
        match parse(&file.path, &file.text) {
            Ok(read) => documents += read.len(),
            Err(violations) => {
                found.extend(violations.iter().map(|violation| format!("{}: {violation}", file.path)));
            }
        }
    }
    nothing_in(&found, "a shipped example is refused:");
    assert!(documents >= 10, "only {documents} documents in policies/examples");
}

#[test]
fn yaml_in_the_documentation_is_taken() {
    let block = Regex::new(r"(?ms)^```yaml\n(.*?)^```").unwrap();
    let mut found = Vec::new();
    for file in markdown() {
        for text in block.captures_iter(&file.text).map(|block| block.get(1).unwrap()) {
            if text.as_str().contains("apiVersion: weft.dev/")
                && let Err(violations) = parse(&file.path, text.as_str())
            {
                found.extend(violations.iter().map(|violation| format!("{}: {violation}", file.path)));
            }
        }
    }
    nothing_in(&found, "the documentation shows YAML that is refused:");
}

/// A place is `FOLDER/…/FILE`, a test `FOLDER/…/FILE::NAME`.
#[test]
fn places_and_tests_that_the_architecture_names_exist() {
    let page = std::fs::read_to_string(source::root().join("ARCHITECTURE.md")).unwrap();
    let folders = "api|cli|control-plane|dataplane|e2e|policies";
    let place = Regex::new(&format!(r"`((?:{folders})/[\w/.-]+)(?:::(\w+))?`")).unwrap();
    let (mut found, mut named) = (Vec::new(), 0);
    for mention in place.captures_iter(&page) {
        let path = source::root().join(&mention[1]);
        match mention.get(2) {
            None if path.exists() => {}
            None => found.push(mention[1].to_owned()),
            Some(test) => {
                named += 1;
                let text = std::fs::read_to_string(&path).unwrap_or_default();
                if !text.contains(&format!("fn {}(", test.as_str())) {
                    found.push(mention[0].to_owned());
                }
            }
        }
    }
    assert!(named > 10, "only {named} tests are named");
    nothing_in(&found, "ARCHITECTURE.md names what is not there:");
}

#[test]
fn make_targets_in_the_documentation_exist() {
    let makefile = std::fs::read_to_string(source::root().join("Makefile")).unwrap();
    let mention = Regex::new(r"(?m)(`|^ {4})make ([a-z]+)").unwrap();
    let mut found = Vec::new();
    for file in markdown() {
        for target in mention.captures_iter(&file.text).map(|mention| mention.get(2).unwrap().as_str()) {
            if !makefile.contains(&format!("\n{target}:")) {
                found.push(format!("{}: make {target}", file.path));
            }
        }
    }
    nothing_in(&found, "no such target:");
}

#[test]
fn links_between_documents_lead_somewhere() {
    let link = Regex::new(r"\]\(([^)#:]+)(#[^)]*)?\)").unwrap();
    let mut found = Vec::new();
    for file in markdown() {
        let folder = source::root().join(&file.path).parent().unwrap().to_owned();
        for target in link.captures_iter(&file.text).map(|link| link.get(1).unwrap().as_str()) {
            if !folder.join(target).exists() {
                found.push(format!("{}: {target}", file.path));
            }
        }
    }
    nothing_in(&found, "dead links:");
}
