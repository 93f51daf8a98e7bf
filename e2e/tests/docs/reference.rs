//! docs/reference is what the programs, the schemas and the sources say. `UPDATE_GOLDEN=1` rewrites it.

mod api;
mod codes;
mod kinds;
mod metrics;
mod programs;
mod reasons;
mod schema;
mod sources;

use crate::page::root;

/// Compares a page with what it should be, or writes it.
fn keep(path: &str, text: &str) {
    let full = root().join(path);
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::write(&full, text).expect("the page can be written");
        return;
    }
    let kept = std::fs::read_to_string(&full).unwrap_or_default();
    let differs = kept.lines().zip(text.lines()).enumerate().find(|(_, (kept, made))| kept != made);
    if let Some((line, (kept, made))) = differs {
        panic!("{path}:{}: run with UPDATE_GOLDEN=1 and review the diff\n- {kept}\n+ {made}", line + 1);
    }
    assert!(kept == text, "{path}: run with UPDATE_GOLDEN=1 and review the diff: its end is another");
}

/// A table in Markdown. What would end a cell is escaped.
fn table<const N: usize>(head: [&str; N], rows: impl IntoIterator<Item = [String; N]>) -> String {
    let row = |cells: [String; N]| {
        let cells =
            cells.map(|cell| cell.split_whitespace().collect::<Vec<_>>().join(" ").replace('|', "\\|"));
        format!("| {} |\n", cells.join(" | "))
    };
    let mut text = row(head.map(str::to_owned)) + &row(head.map(|_| "---".to_owned()));
    text.extend(rows.into_iter().map(row));
    text
}
