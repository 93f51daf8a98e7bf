//! Sizes, names and words of files.

use regex::Regex;

use crate::nothing_in;
use crate::source::{self, code};

/// Lines of production code in a file, without blank lines, comments and the inline test module.
const AT_MOST: usize = 400;
/// Not even with a reason, and tests neither.
const NEVER_OVER: usize = 600;

/// Files over `AT_MOST`, each with the reason that keeps it in one piece.
const LONG: [(&str, &str); 1] = [("control-plane/src/server.rs", "puts all parts together in one place")];

const BANNED: [&str; 9] = ["utils", "util", "common", "helpers", "helper", "types", "manager", "misc", "mod"];

#[test]
fn files_stay_within_their_size() {
    let mut found = Vec::new();
    for file in source::rust() {
        if file.is_test() {
            let lines = code(&file.text).count();
            if lines > NEVER_OVER {
                found.push(format!("{}: {lines} lines of tests", file.path));
            }
            continue;
        }
        let lines = code(file.production()).count();
        let listed = LONG.iter().any(|(path, _)| *path == file.path);
        if lines > NEVER_OVER || (lines > AT_MOST && !listed) {
            found.push(format!("{}: {lines} lines of code", file.path));
        }
        if listed && lines <= AT_MOST {
            found.push(format!("{}: {lines} lines of code, strike it off the list LONG", file.path));
        }
    }
    let gone = LONG.iter().filter(|(path, _)| !source::root().join(path).is_file());
    found.extend(gone.map(|(path, _)| format!("{path}: on the list LONG, but there is no such file")));
    nothing_in(&found, "look for a seam, or say in LONG why the file stays whole:");
}

#[test]
fn modules_are_named_for_the_domain() {
    let mut found = Vec::new();
    for file in source::rust() {
        for part in file.path.trim_end_matches(".rs").split('/') {
            if BANNED.contains(&part) {
                found.push(format!("{}: {part}", file.path));
            }
        }
        for (line, text) in code(&file.text) {
            let named = text.trim_start_matches("pub ").strip_prefix("mod ");
            if let Some(name) = named.map(|rest| rest.trim_end_matches([' ', '{', ';']))
                && BANNED.contains(&name)
            {
                found.push(format!("{}:{line}: mod {name}", file.path));
            }
        }
    }
    nothing_in(&found, "a module is a noun of the domain, and there is no mod.rs:");
}

#[test]
fn folders_are_at_most_two_deep_below_src() {
    let mut found = Vec::new();
    for file in source::rust() {
        if let Some((_, below)) = file.path.split_once("src/")
            && below.matches('/').count() > 2
        {
            found.push(file.path);
        }
    }
    nothing_in(&found, "at most two folders deep below src:");
}

#[test]
fn ignored_tests_say_why() {
    let bare = Regex::new(r"#\[ignore\]").unwrap();
    let mut found = Vec::new();
    for file in source::rust() {
        found.extend(
            code(&file.text)
                .filter(|(_, text)| bare.is_match(text))
                .filter(|_| !file.path.ends_with("tidy/files.rs"))
                .map(|(line, _)| format!("{}:{line}", file.path)),
        );
    }
    nothing_in(&found, "nothing is skipped in silence:");
}

#[test]
fn no_file_names_the_machine_it_was_written_on() {
    // Written in pieces, so that this file passes too.
    let places = ["home/[a-z]", concat!("ro", "ot/"), concat!("wo", "rk/"), concat!("fa", "rm/"), "Users/"];
    let hosts = [
        concat!("index.crates", r"\.io"),
        concat!("static.crates", r"\.io"),
        concat!("py", r"pi\.org"),
        concat!("python", r"hosted\.org"),
        concat!("deb.de", r"bian\.org"),
        concat!("npm", r"js\.(org|com)"),
    ];
    let words =
        [concat!("sub", "agent"), concat!("clau", "de"), concat!("anthro", "pic"), concat!("chat", "gpt")];
    let pattern = format!(
        r#"(?i)(^|[\s"'`(=:])/({})|({})|\b({})\b"#,
        places.join("|"),
        hosts.join("|"),
        words.join("|")
    );
    let pattern = Regex::new(&pattern).unwrap();
    let mut found = Vec::new();
    for file in source::all() {
        // The lock file names the registry of every crate.
        if file.path == "Cargo.lock" {
            continue;
        }
        for (index, line) in file.text.lines().enumerate() {
            if let Some(word) = pattern.find(line) {
                found.push(format!("{}:{}: {}", file.path, index + 1, word.as_str().trim()));
            }
        }
    }
    nothing_in(&found, "the project speaks of itself only:");
}
