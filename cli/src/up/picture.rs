//! The live table: edges and proxies, from the API, redrawn in place on a terminal.

use std::io::Write as _;
use std::time::{Duration, Instant};

use weft_api::client::Client;
use weft_api::rest::{EdgeList, ProxyList, Sync};

use crate::commands::get::{EDGE_HEAD, edge_row};
use crate::commands::proxy::{PROXY_HEAD, proxy_row};
use crate::output::table;

/// Without a terminal a picture is printed this often.
const PRINT_EVERY: Duration = Duration::from_secs(10);

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

    /// Asks the API and draws.
    pub async fn show(&mut self, client: &Client, greeting: &[String]) {
        if !self.terminal && self.printed.is_some_and(|at| at.elapsed() < PRINT_EVERY) {
            return;
        }
        let (edges, proxies) = tokio::join!(client.edges(), client.proxies());
        let mut text = greeting.join("\n") + "\n\n";
        match (edges, proxies) {
            (Ok(edges), Ok(proxies)) => text.push_str(&picture(&edges, &proxies)),
            (Err(error), _) | (_, Err(error)) => text.push_str(&format!("{error}\n")),
        }
        let mut out = std::io::stdout().lock();
        let prefix = if self.terminal { "\x1b[H\x1b[2J" } else { "" };
        drop(write!(out, "{prefix}{text}").and_then(|()| out.flush()));
        self.printed = Some(Instant::now());
    }
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
