//! `weft check`: what is wrong with the mesh. What control planes know they tell; the version and the clock of this machine
//! are seen only here.

use std::io::IsTerminal as _;
use std::process::ExitCode;
use std::time::{SystemTime, UNIX_EPOCH};

use weft_api::client::ClientError;
use weft_api::rest::{
    CLI_VERSION, CONTROL_PLANE_AWAY, CheckFinding, CheckResult, CheckSeverity, MACHINE_CLOCK,
};

use crate::args::CheckArgs;
use crate::output::{self, Palette, out};
use crate::replicas::{ReplicaClients, is_silence};

const VERSION: &str = env!("CARGO_PKG_VERSION");
/// How far clocks may be apart: certificates begin two minutes before they are issued.
const CLOCKS_APART_MS: u64 = 30_000;
/// Columns where nobody says how many there are.
const COLUMNS: usize = 80;

pub async fn run(replicas: &ReplicaClients, args: CheckArgs) -> anyhow::Result<ExitCode> {
    let mut result = gather(replicas).await?;
    if args.quiet {
        result.findings.retain(|finding| finding.severity != CheckSeverity::Ok);
    }
    let failed = result.findings.iter().any(|finding| finding.severity == CheckSeverity::Failure);
    if args.output.is_table() {
        let columns = if std::io::stdout().is_terminal() {
            crossterm::terminal::size().map_or(COLUMNS, |(columns, _)| usize::from(columns))
        } else {
            COLUMNS
        };
        out!("{}", report(&result, columns, Palette::of_stdout()));
    } else {
        output::print(args.output, &result, &[], Vec::new)?;
    }
    Ok(if failed { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

/// What control planes say, and what is seen from here.
pub async fn gather(replicas: &ReplicaClients) -> Result<CheckResult, ClientError> {
    let begun = now();
    let (mut result, silent) = match replicas.check().await {
        Ok(found) => found,
        Err(error) if is_silence(&error) => {
            let result = CheckResult { findings: vec![away(&error)], ..CheckResult::default() };
            return Ok(result);
        }
        Err(error) => return Err(error),
    };
    let own = of_version(&result.version).into_iter().chain(of_clock((begun, now()), result.now));
    result.findings.extend(own.chain(silent.iter().map(away)));
    result.findings.sort_by_key(|finding| finding.severity);
    Ok(result)
}

fn now() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(now.as_millis()).unwrap_or(u64::MAX)
}

fn away(error: &ClientError) -> CheckFinding {
    CheckFinding {
        code: CONTROL_PLANE_AWAY.to_owned(),
        severity: CheckSeverity::Failure,
        place: String::new(),
        what: error.to_string(),
        remedy: Some("start it, or say where it is: --api URL[,URL…]".to_owned()),
    }
}

/// Major and minor version.
fn minor(version: &str) -> Option<(&str, &str)> {
    let (major, rest) = version.split_once('.')?;
    Some((major, rest.split('.').next()?))
}

fn of_version(control_plane: &str) -> Option<CheckFinding> {
    (minor(control_plane) != minor(VERSION)).then(|| CheckFinding {
        code: CLI_VERSION.to_owned(),
        severity: CheckSeverity::Warning,
        place: "this machine".to_owned(),
        what: format!("weft is {VERSION}, and the control plane is {control_plane}"),
        remedy: Some(format!("use weft {control_plane} here")),
    })
}

/// Compares the control plane's time of day with this machine's, between the question and the answer.
fn of_clock((begun, ended): (u64, u64), theirs: u64) -> Option<CheckFinding> {
    let (apart, word) =
        if theirs < begun { (begun - theirs, "ahead of") } else { (theirs.saturating_sub(ended), "behind") };
    (apart > CLOCKS_APART_MS).then(|| CheckFinding {
        code: MACHINE_CLOCK.to_owned(),
        severity: CheckSeverity::Warning,
        place: "this machine".to_owned(),
        what: format!(
            "its clock is {} {word} the control plane's: ages and ends of certificates are shown wrong here",
            output::span(std::time::Duration::from_millis(apart))
        ),
        remedy: Some("set both clocks by NTP".to_owned()),
    })
}

/// The findings for people: what is wrong first, each with its remedy, then what is well.
pub fn report(result: &CheckResult, columns: usize, palette: Palette) -> String {
    let mut text = String::new();
    let columns = columns.clamp(40, 160);
    for group in result.findings.chunk_by(|one, other| one.code == other.code) {
        let severity = group[0].severity;
        let word = format!("{:<11}", severity.word());
        let word = match severity {
            CheckSeverity::Failure => palette.removed(&word),
            CheckSeverity::Warning | CheckSeverity::NotKnown => palette.changed(&word),
            CheckSeverity::Ok => palette.added(&word),
        };
        if let [CheckFinding { severity: CheckSeverity::Ok, remedy: None, code, what, .. }] = group {
            let lines = wrap(&format!("{code}: {what}"), columns - 11);
            text.push_str(&word);
            text.push_str(&lines.join(&format!("\n{:11}", "")));
            text.push('\n');
            continue;
        }
        text.push_str(&format!("{word}{}\n", group[0].code));
        for (index, finding) in group.iter().enumerate() {
            let place = if finding.place.is_empty() { String::new() } else { format!("{}: ", finding.place) };
            push_wrapped(&mut text, "  ", &format!("{place}{}", finding.what), columns);
            let is_said_next = group.get(index + 1).is_some_and(|next| next.remedy == finding.remedy);
            if let Some(remedy) = finding.remedy.as_ref().filter(|_| !is_said_next) {
                push_wrapped(&mut text, "    -> ", remedy, columns);
            }
        }
        if let Some(count) = result.omitted.get(&group[0].code) {
            text.push_str(&format!("  and {count} more\n"));
        }
    }
    text.push_str(&verdict(result));
    text
}

fn verdict(result: &CheckResult) -> String {
    let count = |severity: CheckSeverity| {
        let of = result.findings.iter().filter(move |finding| finding.severity == severity);
        let told = of.clone().count();
        let codes: std::collections::BTreeSet<_> = of.map(|finding| &finding.code).collect();
        told + codes.into_iter().filter_map(|code| result.omitted.get(code)).sum::<usize>()
    };
    let plural = |count: usize, word: &str| format!("{count} {word}{}", if count == 1 { "" } else { "s" });
    let (failures, warnings) = (count(CheckSeverity::Failure), count(CheckSeverity::Warning));
    let mut text = match (failures, warnings) {
        (0, 0) => "nothing is wrong".to_owned(),
        _ => format!("{}, {}", plural(failures, "failure"), plural(warnings, "warning")),
    };
    let unknown = count(CheckSeverity::NotKnown);
    if unknown > 0 {
        text.push_str(&format!("; {unknown} not known"));
    }
    if !result.complete && !result.version.is_empty() {
        text.push_str("; what this token may not read is left out");
    }
    text.push('\n');
    text
}

/// A paragraph whose first line begins with `mark`, and whose others stand below it.
fn push_wrapped(text: &mut String, mark: &str, words: &str, columns: usize) {
    for (index, line) in wrap(words, columns - mark.len()).into_iter().enumerate() {
        let start = if index == 0 { mark.to_owned() } else { " ".repeat(mark.len()) };
        text.push_str(&format!("{start}{line}\n"));
    }
}

/// Lines of at most so many characters, broken between words; a longer word stands alone.
fn wrap(text: &str, columns: usize) -> Vec<String> {
    let mut lines: Vec<String> = vec![String::new()];
    for word in text.split_whitespace() {
        let line = lines.last_mut().expect("there is a line");
        if !line.is_empty() && line.chars().count() + 1 + word.chars().count() > columns {
            lines.push(word.to_owned());
        } else {
            if !line.is_empty() {
                line.push(' ');
            }
            line.push_str(word);
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    fn finding(code: &str, severity: CheckSeverity, place: &str, remedy: Option<&str>) -> CheckFinding {
        CheckFinding {
            code: code.to_owned(),
            severity,
            place: place.to_owned(),
            what: "it is down, or cannot reach the control plane, which nobody can tell from here".to_owned(),
            remedy: remedy.map(str::to_owned),
        }
    }

    #[test]
    fn findings_of_one_code_stand_together_and_fit_80_columns() {
        let away = |place| finding("proxy_away", CheckSeverity::Failure, place, Some("look at its machine"));
        let result = CheckResult {
            findings: vec![
                away("shop/web-1"),
                away("shop/web-2"),
                finding("store", CheckSeverity::Ok, "", None),
            ],
            omitted: [("proxy_away".to_owned(), 3)].into(),
            complete: true,
            ..CheckResult::default()
        };
        let text = report(&result, 80, Palette::Plain);
        assert!(text.lines().all(|line| line.chars().count() <= 80), "{text}");
        assert_eq!(text.matches("-> look at its machine").count(), 1, "{text}");
        assert!(text.contains("failure    proxy_away\n") && text.contains("and 3 more\n"), "{text}");
        assert!(
            text.contains("ok         store: it is down") && text.ends_with("5 failures, 0 warnings\n"),
            "{text}"
        );
    }

    #[test]
    fn clocks_are_compared_with_the_time_that_the_answer_took() {
        assert_eq!(of_clock((1_000_000, 1_004_000), 1_033_000), None);
        assert_eq!(of_clock((1_000_000, 1_004_000), 971_000), None);
        let words = |theirs| of_clock((1_000_000, 1_004_000), theirs).unwrap().what;
        assert!(words(940_000).starts_with("its clock is 1m0s ahead of"), "{}", words(940_000));
        assert!(words(1_124_000).starts_with("its clock is 2m0s behind"), "{}", words(1_124_000));
    }

    #[test]
    fn another_minor_version_is_told_of() {
        assert_eq!(of_version(VERSION), None);
        assert_eq!(of_version(&format!("{VERSION}-dev")), None);
        assert!(of_version("99.1.0").unwrap().remedy.unwrap().contains("99.1.0"));
    }
}
