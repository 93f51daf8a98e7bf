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
    let link = Regex::new(r"\]\(([^)#:\s]*)(?:#([^)\s]+))?\)").unwrap();
    let mut found = Vec::new();
    for page in markdown() {
        let links =
            link.captures_iter(&page.text).filter(|link| !link[1].is_empty() || link.get(2).is_some());
        found.extend(
            links.filter_map(|link| dead(&page.path, &link[1], link.get(2).map(|anchor| anchor.as_str()))),
        );
    }
    nothing_in(&found, "dead links:");
}

/// Why a link leads nowhere. Those of a page of the site stay within it: the site is built of `docs` alone.
fn dead(page: &str, target: &str, anchor: Option<&str>) -> Option<String> {
    let own = source::root().join(page);
    let file = if target.is_empty() { own } else { own.parent().unwrap().join(target) };
    let Ok(file) = file.canonicalize() else { return Some(format!("{page}: {target}")) };
    if page.starts_with("docs/") && !file.starts_with(source::root().join("docs").canonicalize().unwrap()) {
        return Some(format!("{page}: {target} is outside docs, and not on the site"));
    }
    let anchor = anchor?;
    let text = std::fs::read_to_string(&file).unwrap_or_default();
    let is_there = anchors(&text).any(|known| known == anchor);
    (!is_there).then(|| format!("{page}: {target} has no heading #{anchor}"))
}

/// The anchors of a page's headings, as mdBook and most others make them.
fn anchors(text: &str) -> impl Iterator<Item = String> {
    let heading = text
        .lines()
        .filter_map(|line| line.trim_start_matches('#').strip_prefix(' ').filter(|_| line.starts_with('#')));
    heading.map(|heading| {
        let kept = heading.trim().chars().filter(|c| c.is_alphanumeric() || " _-".contains(*c));
        kept.map(|c| if c == ' ' { '-' } else { c.to_ascii_lowercase() }).collect()
    })
}

#[test]
fn every_page_of_the_site_is_in_its_summary() {
    let summary = std::fs::read_to_string(source::root().join("docs/SUMMARY.md")).unwrap();
    let mut found = Vec::new();
    for page in markdown() {
        if let Some(path) = page.path.strip_prefix("docs/")
            && path != "SUMMARY.md"
            && !summary.contains(&format!("]({path})"))
        {
            found.push(page.path);
        }
    }
    nothing_in(&found, "docs/SUMMARY.md does not name:");
}

/// Rows and claims with figures stand in BENCHMARKS.md word for word, so that they are of a run that was made.
#[test]
fn figures_of_what_it_costs_are_measured() {
    let measured = std::fs::read_to_string(source::root().join("BENCHMARKS.md")).unwrap();
    let page = std::fs::read_to_string(source::root().join("docs/costs.md")).unwrap();
    let figures = page.lines().filter(|line| line.starts_with('|') || line.starts_with("- CPU"));
    let (mut found, mut rows) = (Vec::new(), 0);
    for line in figures.filter(|line| line.contains(|c: char| c.is_ascii_digit())) {
        rows += 1;
        if !measured.lines().any(|known| known == line) {
            found.push(line.to_owned());
        }
    }
    assert!(rows > 10, "only {rows} rows of figures in docs/costs.md");
    nothing_in(&found, "docs/costs.md says what BENCHMARKS.md does not:");
}
