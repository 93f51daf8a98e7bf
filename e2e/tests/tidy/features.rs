//! The list of what Weft does is whole and true: every row has a state, and what it claims is shown by a test that exists.

use regex::Regex;

use crate::nothing_in;
use crate::source::{self, code};

const PAGE: &str = "docs/features.md";
/// Rows keep their numbers, so that they can be named elsewhere.
const ROWS: usize = 147;

/// Gives the text of a file of the repository, if there is one.
type Read<'a> = &'a dyn Fn(&str) -> Option<String>;

#[test]
fn every_feature_has_a_state_and_what_is_done_a_test() {
    let read = |path: &str| std::fs::read_to_string(source::root().join(path)).ok();
    let page = read(PAGE).expect("the list of features can be read");
    nothing_in(&flaws(&page, ROWS, &read), "the list of features is not what it says it is:");
}

/// What is wrong with a page of so many rows, each with its place and the remedy.
fn flaws(page: &str, rows: usize, read: Read<'_>) -> Vec<String> {
    let (mut found, mut last) = (Vec::new(), 0);
    for (line, text) in table_rows(page) {
        let mut tell = |flaw: String| found.push(format!("{PAGE}:{line}: {flaw}"));
        let Some(row) = Row::parse(text) else {
            tell("a row is | NUMBER | FEATURE | STATE | STATE | TESTS |".to_owned());
            continue;
        };
        if row.number != last + 1 {
            tell(format!("row {} follows row {last}: number them 1 to {rows}, each once", row.number));
        }
        last = row.number;
        row.flaws(read).into_iter().for_each(tell);
    }
    if last != rows {
        found.push(format!("{PAGE}: the last row is {last} of {rows}: rows move, none comes or goes"));
    }
    found
}

/// The rows of all tables with their lines, without headers.
fn table_rows(page: &str) -> impl Iterator<Item = (usize, &str)> {
    let is_separator = |line: &str| line.starts_with("| ---");
    let lines: Vec<&str> = page.lines().collect();
    let header = move |index: usize| lines.get(index + 1).is_some_and(|next| is_separator(next));
    let numbered = page.lines().enumerate();
    let rows =
        numbered.filter(move |(index, line)| line.starts_with('|') && !is_separator(line) && !header(*index));
    rows.map(|(index, line)| (index + 1, line))
}

/// What is said of a feature beside one proxy.
#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    Done,
    Partly,
    Not,
    OutOfScope,
    /// The feature asks nothing of this proxy.
    Nothing,
}

impl State {
    fn parse(cell: &str) -> Option<Self> {
        match cell {
            "done" => Some(Self::Done),
            "not" => Some(Self::Not),
            "out of scope" => Some(Self::OutOfScope),
            "–" => Some(Self::Nothing),
            _ => cell.strip_prefix("partly: ").map(|_| Self::Partly),
        }
    }

    fn wants_a_test(self) -> bool {
        matches!(self, Self::Done | Self::Partly)
    }
}

struct Row<'a> {
    number: usize,
    states: [&'a str; 2],
    tests: Vec<&'a str>,
}

impl<'a> Row<'a> {
    fn parse(line: &'a str) -> Option<Self> {
        let cells: Vec<&str> = line.strip_prefix('|')?.strip_suffix('|')?.split('|').map(str::trim).collect();
        let [number, _, weft, envoy, tests] = cells[..] else { return None };
        let tests = tests.split("<br>").filter(|test| !test.is_empty()).collect();
        Some(Self { number: number.parse().ok()?, states: [weft, envoy], tests })
    }

    fn flaws(&self, read: Read<'_>) -> Vec<String> {
        let mut found = Vec::new();
        let mut states = Vec::new();
        for cell in self.states {
            match State::parse(cell) {
                Some(state) => states.push(state),
                None => found.push(format!(
                    "{cell:?} is no state: write done, partly: WHAT IS MISSING, not, out of scope, or –"
                )),
            }
        }
        let is_shown = states.iter().any(|state| state.wants_a_test());
        if states == [State::Nothing; 2] {
            found.push("has no state: write it in the first column, if no proxy has a part in it".to_owned());
        }
        if is_shown && self.tests.is_empty() {
            found
                .push("names no test: name one that fails without it, `FILE::TEST`, or write not".to_owned());
        }
        if !is_shown && !self.tests.is_empty() && states.len() == 2 {
            found.push("names a test and claims nothing: move the state, or strike the test".to_owned());
        }
        found.extend(self.tests.iter().filter_map(|test| missing(test, read)));
        found
    }
}

/// Why a test that is named does not count.
fn missing(named: &str, read: Read<'_>) -> Option<String> {
    let inner = named.strip_prefix('`').and_then(|rest| rest.strip_suffix('`'));
    let Some((path, test)) = inner.and_then(|inner| inner.split_once("::")) else {
        return Some(format!("{named:?} is no test: write `FILE::TEST`, and <br> between two"));
    };
    let Some(text) = read(path) else {
        return Some(format!("there is no file {path}: say where the test is now"));
    };
    let runs = if path.ends_with(".rs") { declares(&text, test) } else { prints(&text, test) };
    (!runs).then(|| format!("{path} runs no test {test}: name the one that shows it now, or move the row"))
}

/// Whether a Rust file has a test of that name, by an attribute or by a macro `on_…!` that makes tests of functions. One
/// that is ignored shows nothing.
fn declares(text: &str, test: &str) -> bool {
    let test = regex::escape(test);
    let function = Regex::new(&format!(r"^(pub )?(async )?fn {test}\b")).unwrap();
    let by_attribute = Regex::new(r"^#\[(tokio::)?test\b").unwrap();
    let by_macro = Regex::new(&format!(r"\bon_[a-z_]+!\s*[({{\[][^)}}\]]*\b{test}\b")).unwrap();
    let lines: Vec<&str> = text.lines().map(str::trim).collect();
    let attributes = |index: usize| {
        let above = lines[..index].iter().rev();
        above.take_while(|line| line.starts_with("#[") || line.starts_with("///"))
    };
    let is_test = |index: usize| {
        attributes(index).any(|line| by_attribute.is_match(line))
            && !attributes(index).any(|line| line.starts_with("#[ignore"))
    };
    (0..lines.len()).any(|index| function.is_match(lines[index]) && is_test(index)) || by_macro.is_match(text)
}

/// Whether a script says so when the thing holds.
fn prints(text: &str, line: &str) -> bool {
    let quoted = format!("\"{line}\"");
    code(text).any(|(_, code)| !code.starts_with('#') && code.contains(&quoted))
}

mod checks {
    use super::{declares, flaws};

    const GOOD: &str = "# Features\n\n\
        | # | feature | weft-proxy | stock Envoy | shown by |\n\
        | --- | --- | --- | --- | --- |\n\
        | 1 | One | done | partly: untried | `a.rs::one`<br>`run::all is well` |\n\
        | 2 | Two | not | – | |\n";

    const TESTS: &str = "\
        #[test]\nfn one() {}\n\
        /// Waits.\n#[tokio::test(flavor = \"multi_thread\")]\n#[allow(x)]\nasync fn two() {}\n\
        #[test]\n#[ignore = \"long\"]\nfn slow() {}\n\
        #[cfg(test)]\nfn tool() {}\n\
        on_both_stores!(three, four);\n\
        on_every_store! {\n    five\n}\n";

    fn flaws_of(page: &str) -> Vec<String> {
        flaws(page, 2, &|path| match path {
            "a.rs" => Some(TESTS.to_owned()),
            "run" => Some("# \"all is lost\"\nuntil_it \"all is well\" 60 look\n".to_owned()),
            _ => None,
        })
    }

    #[test]
    fn good_page_has_no_flaw() {
        assert_eq!(flaws_of(GOOD), Vec::<String>::new());
    }

    #[test]
    fn each_flaw_is_told_with_its_line_and_the_remedy() {
        for (good, bad, told) in [
            ("| done |", "| finished |", "5: \"finished\" is no state: write done, "),
            ("partly: untried", "partly", "5: \"partly\" is no state"),
            ("| not |", "| – |", "6: has no state"),
            ("`a.rs::one`<br>`run::all is well`", "", "5: names no test: name one that fails without it"),
            ("| – | |", "| – | `a.rs::one` |", "6: names a test and claims nothing"),
            ("`a.rs::one`", "a.rs::one", "5: \"a.rs::one\" is no test: write `FILE::TEST`"),
            ("`a.rs::one`", "`b.rs::one`", "5: there is no file b.rs"),
            ("a.rs::one", "a.rs::on", "5: a.rs runs no test on: "),
            ("a.rs::one", "a.rs::slow", "5: a.rs runs no test slow: "),
            ("a.rs::one", "a.rs::tool", "5: a.rs runs no test tool: "),
            ("all is well", "all is lost", "5: run runs no test all is lost: "),
            ("| 1 |", "| 2 |", "5: row 2 follows row 0: number them 1 to 2, each once"),
            ("| 2 |", "| 1 |", "6: row 1 follows row 1"),
            ("| 2 | Two | not | – | |\n", "", ": the last row is 1"),
            ("| 2 | Two |", "| 2 |", "6: a row is | NUMBER |"),
        ] {
            let page = GOOD.replacen(good, bad, 1);
            assert_ne!(page, GOOD, "{good} stands nowhere");
            let found = flaws_of(&page);
            assert!(found.iter().any(|flaw| flaw.contains(told)), "{bad}: {told} is not in {found:?}");
            assert!(found.iter().all(|flaw| flaw.starts_with("docs/features.md:")), "{found:?}");
        }
    }

    #[test]
    fn tests_are_found_however_they_are_declared() {
        let found = ["one", "two", "three", "four", "five", "slow", "tool", "thre", "on_both_stores"];
        let found: Vec<&str> = found.into_iter().filter(|test| declares(TESTS, test)).collect();
        assert_eq!(found, ["one", "two", "three", "four", "five"]);
    }
}
