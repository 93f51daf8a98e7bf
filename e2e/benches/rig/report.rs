//! The table, the goals, and their place in BENCHMARKS.md.

use std::fmt::Write as _;
use std::path::Path;

use anyhow::{Context as _, ensure};

use super::contest::{Effort, Row, Turn};
use super::origin::Size;

/// A goal that the numbers reach or miss.
#[derive(Debug)]
pub struct Goal {
    what: String,
    reached: f64,
    at_most: f64,
}

impl Goal {
    /// `reached` must be at most `at_most`.
    pub fn at_most(what: impl Into<String>, reached: f64, at_most: f64) -> Self {
        Self { what: what.into(), reached, at_most }
    }

    fn holds(&self) -> bool {
        self.reached <= self.at_most
    }
}

/// The median of `of` over the turns of a peer with a size of answers.
pub fn median(rows: &[Row], peer: &str, size: Size, of: fn(&Turn) -> f64) -> anyhow::Result<f64> {
    let row = rows.iter().find(|row| row.peer == peer && row.size == size);
    Ok(Spread::of(&row.with_context(|| format!("{peer} was not measured"))?.turns, of).median)
}

/// The goals that compare CPU a request with another peer's, one for each size of answers.
pub fn ratios(rows: &[Row], ours: &str, theirs: &str, at_most: f64) -> anyhow::Result<Vec<Goal>> {
    let of = |turn: &Turn| turn.cpu;
    let goals = Size::ALL.into_iter().map(|size| {
        let ratio = median(rows, ours, size, of)? / median(rows, theirs, size, of)?;
        Ok(Goal::at_most(
            format!("CPU a request, {ours} / {theirs}, {} answers", size.name()),
            ratio,
            at_most,
        ))
    });
    goals.collect()
}

/// Prints the table and the goals; puts them into BENCHMARKS.md where that is asked for. Fails when a goal is missed.
pub fn finish(bench: &str, effort: &Effort, rows: &[Row], goals: &[Goal]) -> anyhow::Result<()> {
    let text = format!("{}\n{}\n{}", facts(bench, effort)?, table(rows)?, said(goals)?);
    println!("{text}");
    if effort.write {
        write(bench, &text)?;
    }
    let missed: Vec<&str> =
        goals.iter().filter(|goal| !goal.holds()).map(|goal| goal.what.as_str()).collect();
    ensure!(missed.is_empty(), "missed: {}", missed.join("; "));
    Ok(())
}

fn facts(bench: &str, effort: &Effort) -> anyhow::Result<String> {
    let kernel = std::fs::read_to_string("/proc/sys/kernel/osrelease")?;
    let version: String = kernel.trim().chars().take_while(|c| c.is_ascii_digit() || *c == '.').collect();
    let cores = std::thread::available_parallelism()?;
    let date = humantime::format_rfc3339_seconds(std::time::SystemTime::now()).to_string();
    let date = date.split('T').next().unwrap_or_default();
    let profile = std::env::current_exe()?;
    let profile = profile.ancestors().nth(2).and_then(Path::file_name).context("not started by cargo")?;
    let Effort { rounds, seconds, .. } = effort;
    Ok(format!(
        "{date}, {cores} processors, Linux {version}, profile {profile}, medians of {rounds} rounds of {seconds} s: \
         `cargo bench --workspace --bench {bench} -- --rounds {rounds} --seconds {seconds}`\n",
        profile = profile.display(),
    ))
}

fn table(rows: &[Row]) -> anyhow::Result<String> {
    let mut text = String::new();
    for size in Size::ALL {
        writeln!(
            text,
            "| {} answers | CPU us/request (least to most) | system calls/request | requests/s (least to most) | p50 ms | p99 ms | MiB idle | MiB after |",
            size.name()
        )?;
        writeln!(text, "| --- | --- | --- | --- | --- | --- | --- | --- |")?;
        for row in rows.iter().filter(|row| row.size == size) {
            let cpu = Spread::of(&row.turns, |turn| turn.cpu);
            let rate = Spread::of(&row.turns, |turn| turn.seen.rate);
            let p50 = Spread::of(&row.turns, |turn| turn.seen.p50).median;
            let p99 = Spread::of(&row.turns, |turn| turn.seen.p99).median;
            let calls = row.calls.map_or_else(|| "not counted".to_owned(), |calls| format!("{calls:.1}"));
            writeln!(
                text,
                "| {} | **{:.1}** ({:.1} to {:.1}) | {calls} | {:.0} ({:.0} to {:.0}) | {p50:.2} | {p99:.2} | {:.1} | {:.1} |",
                row.peer,
                cpu.median,
                cpu.least,
                cpu.most,
                rate.median,
                rate.least,
                rate.most,
                row.idle,
                row.loaded
            )?;
        }
        writeln!(text)?;
    }
    Ok(text.trim_end().to_owned() + "\n")
}

fn said(goals: &[Goal]) -> anyhow::Result<String> {
    let mut text = String::new();
    for goal in goals {
        let verdict = if goal.holds() { "holds" } else { "missed" };
        writeln!(text, "- {}: {:.2}, goal at most {}: {verdict}", goal.what, goal.reached, goal.at_most)?;
    }
    Ok(text)
}

/// Between the marks `<!-- BENCH -->` and `<!-- end BENCH -->`.
fn write(bench: &str, text: &str) -> anyhow::Result<()> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../BENCHMARKS.md");
    let old = std::fs::read_to_string(&path)?;
    let (begin, end) = (format!("<!-- {bench} -->"), format!("<!-- end {bench} -->"));
    let (before, rest) = old.split_once(&begin).with_context(|| format!("BENCHMARKS.md has no {begin}"))?;
    let (_, after) = rest.split_once(&end).with_context(|| format!("BENCHMARKS.md has no {end}"))?;
    std::fs::write(&path, format!("{before}{begin}\n{}\n{end}{after}", text.trim_end()))?;
    Ok(())
}

struct Spread {
    least: f64,
    median: f64,
    most: f64,
}

impl Spread {
    fn of(turns: &[Turn], value: impl Fn(&Turn) -> f64) -> Self {
        let mut values: Vec<f64> = turns.iter().map(value).collect();
        values.sort_by(f64::total_cmp);
        let at = |index: usize| values.get(index).copied().unwrap_or(f64::NAN);
        Self { least: at(0), median: at(values.len() / 2), most: at(values.len().saturating_sub(1)) }
    }
}
