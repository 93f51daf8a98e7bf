//! The live table: edges and proxies, from the API, redrawn in place on a terminal, as large as that is.

use std::io::Write as _;
use std::time::{Duration, Instant};

use rustix::termios::tcgetwinsize;
use weft_api::client::ApiClient;
use weft_api::rest::{EdgeList, ProxyList, Sync};

use crate::commands::get::{EDGE_HEAD, edge_row};
use crate::commands::proxy::{PROXY_HEAD, proxy_row};
use crate::output::table;

/// Without a terminal a picture is printed this often.
const PRINT_EVERY: Duration = Duration::from_secs(10);
const RED: &str = "\x1b[31m";
const PLAIN: &str = "\x1b[0m";

/// Where the table is drawn.
pub struct Screen {
    terminal: bool,
    printed: Option<Instant>,
}

impl Screen {
    /// Redraws in place when it is a terminal, prints now and then otherwise.
    pub fn new(terminal: bool) -> Self {
        Self { terminal, printed: None }
    }

    /// Asks the API and draws; `fallen` are words about processes that have ended.
    pub async fn show(&mut self, client: &ApiClient, greeting: &[String], fallen: &[String]) {
        if !self.terminal && self.printed.is_some_and(|at| at.elapsed() < PRINT_EVERY) {
            return;
        }
        let (edges, proxies) = tokio::join!(client.edges(), client.proxies());
        let picture = match (edges, proxies) {
            (Ok(edges), Ok(proxies)) => picture(&edges, &proxies),
            (Err(error), _) | (_, Err(error)) => format!("{error}\n"),
        };
        let size = std::io::stdout();
        let size = tcgetwinsize(&size).ok().filter(|size| self.terminal && size.ws_row > 0);
        let text = match size {
            Some(size) => frame(greeting, fallen, &picture, size.ws_row.into(), size.ws_col.into()),
            None => [greeting, fallen].concat().join("\n") + "\n\n" + &picture,
        };
        let mut out = std::io::stdout().lock();
        drop(write!(out, "{text}").and_then(|()| out.flush()));
        self.printed = Some(Instant::now());
    }
}

/// Drawn over the frame before, so that nothing flickers and nothing scrolls: each line cut to the width, and of the
/// greeting as much as there is room for.
fn frame(greeting: &[String], fallen: &[String], picture: &str, rows: usize, columns: usize) -> String {
    let picture: Vec<&str> = picture.lines().collect();
    let (title, hints) = greeting.split_at(greeting.len().min(1));
    let taken = title.len() + fallen.len() + 1 + picture.len();
    let hints = if taken + hints.len() < rows { hints } else { &[] };
    let cut = |line: &str| line.chars().take(columns).collect::<String>();
    let head = title.iter().map(|line| cut(line));
    let fallen = fallen.iter().map(|line| format!("{RED}{}{PLAIN}", cut(line)));
    let rest = hints.iter().map(String::as_str).chain([""]).chain(picture).map(cut);
    let lines: Vec<String> = head.chain(fallen).chain(rest).take(rows).collect();
    // Home; each line is cleared behind its end, and what is left below the last.
    format!("\x1b[H{}\x1b[K\x1b[J", lines.join("\x1b[K\r\n"))
}

fn picture(edges: &EdgeList, proxies: &ProxyList) -> String {
    let synced = proxies.items.iter().filter(|proxy| proxy.sync == Sync::Synced).count();
    let edge_rows: Vec<_> = edges.items.iter().map(edge_row).collect();
    let proxy_rows: Vec<_> = proxies.items.iter().map(proxy_row).collect();
    let mut text = table(&EDGE_HEAD, &edge_rows);
    if edge_rows.is_empty() {
        text.push_str("(no traffic yet)\n");
    }
    text.push_str(&format!("\n{synced} of {} proxies in sync\n", proxies.items.len()));
    text.push_str(&table(&PROXY_HEAD, &proxy_rows));
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(count: usize, text: &str) -> Vec<String> {
        vec![text.to_owned(); count]
    }

    #[test]
    fn frame_fits_the_terminal_and_gives_up_hints_first() {
        let (greeting, picture) = (lines(5, "hint"), lines(17, "row that is long").join("\n"));
        let count = |text: &str| text.matches("\r\n").count() + 1;
        let whole = frame(&greeting, &[], &picture, 24, 80);
        assert_eq!((count(&whole), whole.matches("hint").count()), (23, 5));
        let fallen = frame(&greeting, &lines(2, "cart has ended"), &picture, 24, 80);
        assert_eq!((count(&fallen), fallen.matches("hint").count()), (21, 1), "{fallen}");
        assert!(fallen.contains("\x1b[31mcart has ended\x1b[0m"));
        let small = frame(&greeting, &[], &picture, 10, 8);
        assert_eq!((count(&small), small.matches("row that").count()), (10, 8));
        assert!(!small.contains("row that "), "{small}");
    }
}
