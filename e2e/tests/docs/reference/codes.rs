//! Codes that programs match on: of what is wrong with documents, and of refused calls of the API.

use std::collections::BTreeMap;

use regex::Regex;

use super::sources::{read, variants, written};
use super::{keep, table};
use crate::page::root;

const FINDINGS: &str = "policies/src/finding.rs";
const CHECKS: &str = "control-plane/src/api/check/code.rs";

/// What each code of the API means.
const OF_THE_API: [(&str, &str); 26] = [
    ("bad_request", "the request cannot be read: a parameter, the body, a name in the path"),
    ("busy", "another backup is being taken by this replica; try again"),
    ("changed_meanwhile", "what the caller saw (`If-Match`, `ifRevision`) is not what is there any more"),
    ("conflict", "two documents set one thing at one level; `violations` names both"),
    ("contended", "other replicas kept changing the policies in between; try again"),
    (
        "cross_origin",
        "a page of another origin sent it; changes are taken from the control plane's own page only",
    ),
    ("invalid", "documents are not right; `violations` has each, with line and column"),
    ("last_instance", "nobody else would be left to take a service's requests; `force` does it all the same"),
    ("method_not_allowed", "the path exists, the method does not apply to it"),
    ("not_found", "there is no such path, object, proxy or token"),
    ("read_only", "this browser's session only reads; switch changes on first"),
    ("store_unavailable", "the store does not answer; nothing was written, proxies keep what they have"),
    ("token_needed", "a browser's session may not do this: an operator's token is needed"),
    ("too_large", "the body or the set of documents is beyond the limit"),
    (
        "too_many",
        "too many sign-ins from this address failed, or one principal calls too often; wait. There are enough principals",
    ),
    ("too_many_watchers", "so many watch this replica already"),
    ("unauthenticated", "no operator's token, one that is not good, or a session that has ended"),
    ("wrong_host", "the request names a host that is not the control plane's; `--xds-name` adds one"),
    ("unexpected", "made by the client: the answer was no problem document"),
    ("exists", "there is a principal of that name already"),
    ("forbidden", "a right is missing; `detail` says which, and `weft operator whoami` what there is"),
    ("internal", "a fault of the control plane's own; its log says more"),
    ("not_kept", "that revision is not kept any more; the oldest that is stands in `detail`"),
    ("not_ready", "the newest policies are not compiled yet, or the control plane ends; try again"),
    ("too_many_taps", "so many taps are open at this replica already"),
    ("unsupported_media_type", "the body is of a type, or an encoding, that this call does not take"),
];

#[test]
fn codes_are_those_of_the_sources() {
    let mut text = "# Codes

An error of the API is a problem document (RFC 9457, `application/problem+json`): `status`, `code`, `title`, `detail`, and
`violations` where documents are not right. Match on `code`; titles and messages may change.

## Of refused calls

"
    .to_owned();
    let found = of_calls();
    let rows = found.iter().map(|(code, statuses)| {
        let known = OF_THE_API.iter().find(|(known, _)| known == code);
        let (_, meaning) = known.unwrap_or_else(|| panic!("say in OF_THE_API what the code {code} means"));
        [format!("`{code}`"), statuses.join(", "), (*meaning).to_owned()]
    });
    text += &table(["code", "status", "meaning"], rows);
    for (code, _) in OF_THE_API.iter().filter(|(code, _)| *code != "unexpected") {
        assert!(found.contains_key(*code), "{code} is in OF_THE_API, and no call is refused with it");
    }
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
    text += "
## Of weft check

What `weft check` finds, and `GET /v1/check` tells: `findings` with `code`, `severity` (Failure, Warning, NotKnown, Ok), `where`, `what`
and `remedy`. Where nothing is wrong in an area, its name stands in place of a code, with severity Ok.

";
    let source = read(CHECKS);
    let rows = variants(&source, "CheckCode").into_iter().map(|(variant, meaning)| {
        let area = source.split("pub const fn area").nth(1).expect("areas");
        let before = area.split("CheckArea::").collect::<Vec<_>>();
        let at = before.iter().position(|part| mentions(part, &variant)).expect("an area");
        let area = before[at + 1].split(|c: char| !c.is_alphanumeric()).next().unwrap_or_default();
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
    text += &table(["code", "area", "meaning"], rows.chain(own));
    keep("docs/reference/codes.md", &text);
}

/// Whether a part of a `match` names a variant, and not one that begins alike.
fn mentions(part: &str, variant: &str) -> bool {
    part.split(|c: char| !c.is_alphanumeric()).any(|word| word == variant)
}

/// Codes with the statuses that they come with.
fn of_calls() -> BTreeMap<String, Vec<String>> {
    let made = Regex::new(r#"(?:ApiError|Self)::new\(\s*StatusCode::(\w+),\s*(?:"(\w+)"|(\w+))"#)
        .expect("a pattern");
    let pair = Regex::new(r#"\(StatusCode::(\w+), "(\w+)"\)"#).expect("a pattern");
    let mut found: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for entry in std::fs::read_dir(root().join("control-plane/src/api")).expect("the API's sources") {
        let text = std::fs::read_to_string(entry.expect("a file").path()).unwrap_or_default();
        for one in made.captures_iter(&text).chain(pair.captures_iter(&text)) {
            let constant = one.get(3).map(|name| name.as_str());
            let code = match (one.get(2), constant) {
                (Some(code), _) => code.as_str(),
                (None, Some("CHANGED_MEANWHILE")) => weft_api::rest::CHANGED_MEANWHILE,
                (None, Some("NOT_KEPT")) => weft_api::rest::NOT_KEPT,
                // A constant of the errors' own, so that it can be told from others.
                (None, Some("ApiError")) => "forbidden",
                (None, other) => panic!("what is the code {other:?}?"),
            };
            let status = one[1].to_lowercase().replace('_', " ");
            let statuses = found.entry(code.to_owned()).or_default();
            if !statuses.contains(&status) {
                statuses.push(status);
            }
        }
    }
    found
}
