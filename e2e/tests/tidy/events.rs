//! Each log line of the control plane and of weft-proxy names an event of the list, and the page of events is made of both.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::fs;

use regex::Regex;
use weft_api::LOG_EVENTS;
use weft_api::log_event::place_of;

use crate::nothing_in;
use crate::source;

/// Where the lines are that people read.
const LOGGING: [(&str, &[Program]); 4] = [
    ("control-plane/", &[Program::ControlPlane]),
    ("dataplane/", &[Program::Proxy]),
    // Of the discovery protocol both ends are there, and the client's has a log.
    ("api/xds/", &[Program::Proxy]),
    ("api/", &[Program::ControlPlane, Program::Proxy]),
];
const PAGE: &str = "docs/reference/events.md";

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Program {
    ControlPlane,
    Proxy,
}

/// A line of the source that logs.
struct LogLine {
    place: String,
    programs: &'static [Program],
    level: String,
    event: Option<String>,
    fields: Vec<String>,
}

#[test]
fn every_log_line_has_an_event_of_the_list() {
    let (mut found, mut used) = (Vec::new(), BTreeSet::new());
    for line in lines() {
        match line.event.as_deref().map(|event| (event, place_of(event))) {
            None => found.push(format!("{}: a line without an event", line.place)),
            Some((event, None)) => found.push(format!("{}: {event} is not on the list", line.place)),
            Some((event, Some(_))) => drop(used.insert(event.to_owned())),
        }
    }
    let unused = LOG_EVENTS.iter().filter(|event| !used.contains(event.name));
    found.extend(unused.map(|event| format!("{} is on the list, and no line has it", event.name)));
    nothing_in(&found, "the list is api/src/log_event.rs; a line begins with event = \"NAME\":");
}

#[test]
fn page_of_events_is_what_the_log_lines_say() {
    let (path, page) = (source::root().join(PAGE), page());
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, &page).unwrap();
    }
    let written = fs::read_to_string(&path).unwrap_or_default();
    assert!(written == page, "{PAGE} is out of date: UPDATE_GOLDEN=1 makes it anew");
}

fn lines() -> Vec<LogLine> {
    let call = Regex::new(r"tracing::(info|warn|error)!\(").unwrap();
    let mut found = Vec::new();
    for file in source::rust() {
        let Some((_, programs)) = LOGGING.iter().find(|(folder, _)| file.path.starts_with(folder)) else {
            continue;
        };
        let text = file.production();
        for captures in call.captures_iter(text) {
            let whole = captures.get(0).unwrap();
            let number = text[..whole.start()].lines().count().max(1);
            let (mut event, mut fields) = (None, Vec::new());
            for argument in arguments(&text[whole.end()..]) {
                match argument.strip_prefix("event = ") {
                    Some(name) => event = Some(name.trim_matches('"').to_owned()),
                    None => fields.extend(field(&argument)),
                }
            }
            let (place, level) = (format!("{}:{number}", file.path), captures[1].to_owned());
            found.push(LogLine { place, programs, level, event, fields });
        }
    }
    assert!(found.len() > 100, "only {} log lines were found", found.len());
    found
}

/// The arguments of a call, of which `text` is what follows its parenthesis.
fn arguments(text: &str) -> Vec<String> {
    let (mut found, mut current, mut depth, mut characters) = (Vec::new(), String::new(), 0, text.chars());
    let mut in_text = false;
    while let Some(character) = characters.next() {
        match character {
            '\\' if in_text => {
                current.push(character);
                current.extend(characters.next());
                continue;
            }
            '"' => in_text = !in_text,
            _ if in_text => {}
            '(' | '[' | '{' => depth += 1,
            ')' if depth == 0 => break,
            ')' | ']' | '}' => depth -= 1,
            ',' if depth == 0 => {
                found.push(std::mem::take(&mut current).trim().to_owned());
                continue;
            }
            _ => {}
        }
        current.push(character);
    }
    found.push(current.trim().to_owned());
    found.retain(|argument| !argument.is_empty());
    found
}

/// The name of the field that an argument is; none of the message.
fn field(argument: &str) -> Option<String> {
    if argument.starts_with('"') {
        return None;
    }
    let name = argument.split(" = ").next().unwrap_or_default().trim_start_matches(['%', '?']);
    Some(name.trim_start_matches("r#").to_owned())
}

fn page() -> String {
    let mut page = String::from(
        "# Events

Each line that the control plane and weft-proxy log at the levels info, warn and error has a field `event`, by which it is
found whatever its words say. Names stay when words change. With `--log-format json` it is a key of the line:

    journalctl -u weft-control-plane -o cat | jq 'select(.event == \"resource_refused\")'

`/metrics` of the control plane counts them: `weft_events_total{event=\"…\"}`. Of what strangers can cause, a line is written
once a minute, with the number of those that were not (`more`, `unsaid`).

This page is made from the source.
",
    );
    for (program, name) in
        [(Program::ControlPlane, "weft-control-plane"), (Program::Proxy, "weft-proxy, and `weft-proxy join`")]
    {
        write!(
            page,
            "\n## {name}\n\n| event | level | what happened | fields |\n| --- | --- | --- | --- |\n"
        )
        .unwrap();
        for (event, (levels, fields)) in rows(program) {
            let meaning = place_of(&event).map_or("", |place| LOG_EVENTS[place].meaning);
            let levels: Vec<String> = levels.into_iter().collect();
            let fields: Vec<String> = fields.into_iter().map(|field| format!("`{field}`")).collect();
            writeln!(page, "| `{event}` | {} | {meaning} | {} |", levels.join(", "), fields.join(", "))
                .unwrap();
        }
    }
    page
}

/// By event, its levels and its fields.
fn rows(program: Program) -> BTreeMap<String, (BTreeSet<String>, BTreeSet<String>)> {
    let mut rows: BTreeMap<String, (BTreeSet<String>, BTreeSet<String>)> = BTreeMap::new();
    for line in lines().into_iter().filter(|line| line.programs.contains(&program)) {
        let Some(event) = line.event else { continue };
        let (levels, fields) = rows.entry(event).or_default();
        levels.insert(line.level);
        fields.extend(line.fields);
    }
    rows
}
