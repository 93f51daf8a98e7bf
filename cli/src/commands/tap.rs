//! `weft tap`: requests as they end.

use std::io::{self, ErrorKind, Write as _};
use std::process::ExitCode;
use std::time::Duration;

use tokio::time::Instant;
use weft_api::client::{ApiClient, TapFeed, TapNews, TapQuery};
use weft_api::rest::{Hop, TapLine, TapListening};

use crate::args::{OutputFormat, Tap};
use crate::output;
use crate::replicas::ReplicaClients;

/// Sidecars that are named as unheard.
const NAMED: usize = 5;
/// How often it is said that there was more.
const PAUSE: Duration = Duration::from_secs(2);

pub async fn run(replicas: &ReplicaClients, args: Tap) -> anyhow::Result<ExitCode> {
    let query = query(&args)?;
    let mut tap = replicas.any(async |client: &ApiClient| client.tap(&query).await).await?;
    let mut shown = ShownLines { format: args.output, lines: 0, not_shown: 0, said: 0, due: Instant::now() };
    let interrupted = tokio::signal::ctrl_c();
    tokio::pin!(interrupted);
    let ended = tokio::select! {
        ended = shown.all(&mut tap) => ended,
        _ = &mut interrupted => Ok(TapEnd::Interrupted),
    };
    match ended? {
        TapEnd::Interrupted => {
            shown.say_the_end();
            Ok(ExitCode::SUCCESS)
        }
        // Who reads has seen enough: `weft tap - - | head`.
        TapEnd::Unread => Ok(ExitCode::SUCCESS),
        TapEnd::ByControlPlane => anyhow::bail!("the control plane ended the tap"),
    }
}

enum TapEnd {
    Interrupted,
    Unread,
    ByControlPlane,
}

fn query(args: &Tap) -> anyhow::Result<TapQuery> {
    Ok(TapQuery {
        source: service("FROM", &args.from, &args.namespace)?,
        destination: service("TO", &args.to, &args.namespace)?,
        method: args.method.clone(),
        path: args.path.clone(),
        status: args.status.clone(),
        only_failures: args.failed,
        headers: args.headers.clone(),
    })
}

/// `[NAMESPACE/]SERVICE`; nothing for any.
fn service(argument: &str, text: &str, namespace: &str) -> anyhow::Result<Option<String>> {
    if matches!(text, "-" | "any") {
        return Ok(None);
    }
    let named = if text.contains('/') { text.to_owned() } else { format!("{namespace}/{text}") };
    named.parse::<weft_api::ServiceId>().map_err(|_| {
        anyhow::anyhow!("{argument} {text:?} is no service: write [NAMESPACE/]SERVICE, or - for any")
    })?;
    Ok(Some(named))
}

/// What has been shown so far.
struct ShownLines {
    format: OutputFormat,
    lines: u64,
    /// Since the beginning, and what was said of it.
    not_shown: u64,
    said: u64,
    due: Instant,
}

impl ShownLines {
    async fn all(&mut self, tap: &mut TapFeed) -> anyhow::Result<TapEnd> {
        if self.format == OutputFormat::Table && self.print(&head()).is_err() {
            return Ok(TapEnd::Unread);
        }
        loop {
            let Some(news) = tap.next().await? else { return Ok(TapEnd::ByControlPlane) };
            match news {
                TapNews::Listening(listening) => eprint!("{}", heard(&listening)),
                TapNews::NotShown(not_shown) => {
                    self.not_shown = not_shown.requests;
                    self.say_more();
                }
                TapNews::Request(line) => match self.print(&text(self.format, &line)?) {
                    Ok(()) => self.lines += 1,
                    Err(error) if error.kind() == ErrorKind::BrokenPipe => return Ok(TapEnd::Unread),
                    Err(error) => return Err(error.into()),
                },
            }
        }
    }

    fn print(&self, text: &str) -> io::Result<()> {
        let mut out = io::stdout().lock();
        out.write_all(text.as_bytes())?;
        out.flush()
    }

    fn say_more(&mut self) {
        let more = self.not_shown.saturating_sub(self.said);
        if more > 0 && Instant::now() >= self.due {
            eprintln!("{more} more not shown");
            (self.said, self.due) = (self.not_shown, Instant::now() + PAUSE);
        }
    }

    fn say_the_end(&self) {
        let plural = if self.lines == 1 { "" } else { "s" };
        eprintln!("\n{} request{plural}, {} more not shown", self.lines, self.not_shown);
    }
}

/// How many sidecars tell, and which cannot.
fn heard(listening: &TapListening) -> String {
    let plural = if listening.heard == 1 { "" } else { "s" };
    let mut text = format!("listening at {} sidecar{plural}\n", listening.heard);
    for sidecar in listening.unheard.iter().take(NAMED) {
        text.push_str(&format!("not heard: {}: {}\n", sidecar.workload, sidecar.reason));
    }
    let more = listening.unheard.len().saturating_sub(NAMED);
    if more > 0 {
        text.push_str(&format!("not heard: {more} more\n"));
    }
    if listening.unheard_replicas > 0 {
        text.push_str(&format!(
            "not heard: {} control planes, and the sidecars that are connected there\n",
            listening.unheard_replicas
        ));
    }
    text
}

fn text(format: OutputFormat, line: &TapLine) -> anyhow::Result<String> {
    Ok(match format {
        OutputFormat::Json => format!("{}\n", serde_json::to_string(line)?),
        OutputFormat::Name => format!("{}\n", line.request.id),
        OutputFormat::Yaml => format!("---\n{}", serde_yaml::to_string(line)?),
        OutputFormat::Table => row(line) + &details(line, TapDetail::Short),
        OutputFormat::Wide => row(line) + &details(line, TapDetail::Whole),
    })
}

/// Columns of 80; the path has what is left, and goes beyond where it is longer.
fn columns(cells: [&str; 7]) -> String {
    let [time, from, to, status, flags, took, request] = cells;
    let (from, to) = (fitted(from, 15), fitted(to, 15));
    format!("{time:8} {from:15} {to:15} {status:4} {flags:5} {took:>8} {request}").trim_end().to_owned()
        + "\n"
}

fn head() -> String {
    columns(["TIME", "FROM", "TO", "CODE", "FLAGS", "TOOK", "REQUEST"])
}

fn row(line: &TapLine) -> String {
    let request = &line.request;
    let (from, to) = ends(line);
    let status = request.status.map_or("-".to_owned(), |status| status.to_string());
    let flags = if request.flags.is_empty() { "-".to_owned() } else { request.flags.join(",") };
    let asked = [request.method.as_deref(), request.path.as_deref()];
    let asked = asked.into_iter().flatten().collect::<Vec<_>>().join(" ");
    let took = format!("{:.1}ms", request.duration_ms);
    columns([&output::time_of_day(request.at), &from, &to, &status, &flags, &took, &asked])
}

/// The workloads where they are known, else their services.
fn ends(line: &TapLine) -> (String, String) {
    let request = &line.request;
    let named = |service: &Option<String>| service.clone().unwrap_or_else(|| "-".to_owned());
    match request.hop {
        Hop::Outbound => {
            let server = line.server.as_ref().map(|server| server.workload.clone());
            let host = || request.destination.clone().or_else(|| request.authority.clone());
            (request.workload.clone(), server.or_else(host).unwrap_or_else(|| "-".to_owned()))
        }
        Hop::Inbound => (named(&request.source), request.workload.clone()),
    }
}

/// The end of a name says more than its beginning.
fn fitted(text: &str, width: usize) -> String {
    let count = text.chars().count();
    if count <= width {
        return text.to_owned();
    }
    std::iter::once('…').chain(text.chars().skip(count - width + 1)).collect()
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum TapDetail {
    /// Why it failed, and the headers that were asked for.
    Short,
    Whole,
}

fn details(line: &TapLine, detail: TapDetail) -> String {
    let request = &line.request;
    let reason = Some(&request.reason).filter(|reason| !reason.is_empty());
    let mut facts: Vec<(&str, Option<String>)> = vec![("why", reason.cloned())];
    if detail == TapDetail::Whole || reason.is_some() {
        facts.push(("id", Some(request.id.clone())));
    }
    if detail == TapDetail::Whole {
        let attempts = (line.attempts > 1).then(|| line.attempts.to_string());
        let rules = line.server.as_ref().and_then(|server| server.route.clone());
        facts.extend([
            ("host", request.authority.clone()),
            ("caller", request.peer.clone()),
            ("route", request.route.clone()),
            ("endpoint", request.upstream.clone()),
            ("attempts", attempts),
            ("rules", rules),
            ("policy", request.policy.clone()),
        ]);
    }
    let mut text = String::new();
    for (name, value) in facts {
        if let Some(value) = value.filter(|value| !value.is_empty()) {
            text.push_str(&format!("  {name}: {value}\n"));
        }
    }
    for (arrow, headers) in [('>', &line.request_headers), ('<', &line.response_headers)] {
        for (name, value) in headers {
            text.push_str(&format!("  {arrow} {name}: {value}\n"));
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use weft_api::rest::{RequestRecord, TapServer, UnheardSidecar};

    use super::*;

    fn line() -> TapLine {
        TapLine {
            request: RequestRecord {
                id: "6f1c".to_owned(),
                at: 50_602_000,
                workload: "shop/web-1".to_owned(),
                source: Some("shop/web".to_owned()),
                destination: Some("shop/cart".to_owned()),
                method: Some("GET".to_owned()),
                path: Some("/items/7".to_owned()),
                status: Some(200),
                duration_ms: 1.25,
                ..RequestRecord::default()
            },
            ..TapLine::default()
        }
    }

    #[test]
    fn a_line_fits_80_columns_and_names_the_workloads_that_are_known() {
        let one = row(&line());
        assert!(one.ends_with("shop/web-1      shop/cart       200  -        1.2ms GET /items/7\n"), "{one}");
        let server = TapServer { workload: "shop/cart-weft-0123".to_owned(), ..TapServer::default() };
        let both = row(&TapLine { server: Some(server), ..line() });
        assert!(both.contains(" …cart-weft-0123 200 "), "{both}");
        assert!(head().chars().count() <= 80 && both.chars().count() <= 80);
    }

    #[test]
    fn failures_say_why_and_headers_follow() {
        let mut failed = line();
        failed.request.reason = "shop/cart-1: the application does not answer".to_owned();
        failed.request_headers.insert("via".to_owned(), "1.1 x".to_owned());
        let said = "  why: shop/cart-1: the application does not answer\n  id: 6f1c\n  > via: 1.1 x\n";
        assert_eq!(details(&failed, TapDetail::Short), said);
        assert_eq!(details(&line(), TapDetail::Short), "");
        assert_eq!(details(&line(), TapDetail::Whole), "  id: 6f1c\n");
    }

    #[test]
    fn services_have_a_namespace_and_any_is_none() {
        assert_eq!(service("FROM", "web", "shop").unwrap().as_deref(), Some("shop/web"));
        assert_eq!(service("FROM", "pay/web", "shop").unwrap().as_deref(), Some("pay/web"));
        assert_eq!(service("TO", "-", "shop").unwrap(), None);
        assert!(service("TO", "a/b/c", "shop").unwrap_err().to_string().contains("[NAMESPACE/]SERVICE"));
    }

    #[test]
    fn those_that_are_not_heard_are_named_up_to_a_few() {
        let sidecar = |n: usize| UnheardSidecar { workload: format!("shop/w-{n}"), reason: "old".to_owned() };
        let listening =
            TapListening { heard: 1, unheard: (0..7).map(sidecar).collect(), unheard_replicas: 1 };
        let said = heard(&listening);
        assert!(said.starts_with("listening at 1 sidecar\nnot heard: shop/w-0: old\n"), "{said}");
        assert!(said.contains("not heard: 2 more\n") && said.contains("1 control planes"), "{said}");
    }
}
