//! Codes that programs match on: of what is wrong with documents, and of refused calls of the API.

use regex::Regex;

use super::sources::{read, variants, written};
use super::{keep, table};
use crate::page::root;

const FINDINGS: &str = "policies/src/finding.rs";
const CHECKS: &str = "control-plane/src/api/check/code.rs";

#[test]
fn codes_are_those_of_the_sources() {
    let mut text = "# Codes

An error of the API is a problem document (RFC 9457, `application/problem+json`): `status`, `code`, `title`, `detail`, and
`violations` where documents are not right. Match on `code`; titles and messages may change.

## Of refused calls

"
    .to_owned();
    let sources = api_sources();
    let row = Regex::new(r#"((?: {4}///.*\n)+) {4}(\w+) "(\w+)" ([A-Z_]+),"#).expect("a pattern");
    let table_of_codes = read("control-plane/src/api/problem_code.rs");
    let rows: Vec<[String; 3]> = row
        .captures_iter(&table_of_codes)
        .map(|found| {
            let used = format!("ProblemCode::{}", &found[2]);
            assert!(sources.contains(&used), "no call is refused with {used}: strike it");
            let meaning = found[1].replace("///", "");
            let status = found[4].to_lowercase().replace('_', " ");
            [format!("`{}`", &found[3]), status, meaning.trim().trim_end_matches('.').to_owned()]
        })
        .collect();
    assert!(rows.len() > 20, "{} codes were read", rows.len());
    text += &table(["code", "status", "meaning"], rows);
    text += "\n`unexpected` is made by the client: the answer was no problem document.\n";
    text += "
## Of documents

Each of the `violations` has one of these, with `path`, `line`, `column`, `message` and `hint`. A warning does not keep the
documents from being taken.

";
    let source = read(FINDINGS);
    let warnings =
        source.split("fn is_warning").nth(1).and_then(|rest| rest.split('}').next()).expect("is_warning");
    let rows = variants(&source, "Code").into_iter().map(|(variant, meaning)| {
        let weight = if warnings.contains(&format!("Self::{variant}")) { "warning" } else { "error" };
        let meaning = meaning.replace(" (a warning)", "").replace("(a warning: it", "(it");
        [format!("`{}`", written(&source, "fn as_str", &variant)), weight.to_owned(), meaning]
    });
    text += &table(["code", "weight", "meaning"], rows);
    text += &of_check();
    keep("docs/reference/codes.md", &text);
}

/// What `weft check` can find.
fn of_check() -> String {
    let text = "
## Of weft check

What `weft check` finds, and `GET /v1/check` tells: `findings` with `code`, `severity` (Failure, Warning, NotKnown, Ok), `where`, `what`
and `remedy`. Where nothing is wrong in an area, its name stands in place of a code, with severity Ok.

";
    let source = read(CHECKS);
    let areas = source.split("pub const fn area").nth(1).expect("areas");
    let parts: Vec<&str> = areas.split("CheckArea::").collect();
    let rows = variants(&source, "CheckCode").into_iter().map(|(variant, meaning)| {
        let names = |part: &&str| part.split(|c: char| !c.is_alphanumeric()).any(|word| word == variant);
        let at = parts.iter().position(names).expect("an area");
        let area = parts[at + 1].split(|c: char| !c.is_alphanumeric()).next().unwrap_or_default();
        [format!("`{}`", written(&source, "fn as_str", &variant)), area.to_lowercase(), meaning]
    });
    let own = [
        (
            weft_api::rest::CLI_VERSION,
            "versions",
            "`weft` is of another minor version than the control plane.",
        ),
        (weft_api::rest::MACHINE_CLOCK, "clocks", "The clock of the machine that `weft` runs on is off."),
        (
            weft_api::rest::CONTROL_PLANE_AWAY,
            "replicas",
            "A control plane that `weft` was told of does not answer.",
        ),
    ]
    .map(|(code, area, meaning)| [format!("`{code}`"), area.to_owned(), meaning.to_owned()]);
    text.to_owned() + &table(["code", "area", "meaning"], rows.chain(own))
}

/// What the API's sources say, all in one.
fn api_sources() -> String {
    let mut folders = vec![root().join("control-plane/src/api")];
    let mut all = String::new();
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).expect("the API's sources") {
            let path = entry.expect("a file").path();
            if path.is_dir() {
                folders.push(path);
            } else {
                all += &std::fs::read_to_string(path).unwrap_or_default();
            }
        }
    }
    all
}
