//! `weft proxy`: who is connected, and what each was sent, took and refused.

use std::process::ExitCode;

use weft_api::cause::clock_in_words;
use weft_api::rest::{CertificateStatus, ProxyStatus, Sync};

use super::name::full_name;
use crate::args::{ListArgs, OutputFormat, ProxyStatusArgs as StatusArgs};
use crate::output::{self, outln};
use crate::replicas::ReplicaClients;

pub async fn list(replicas: &ReplicaClients, args: ListArgs) -> anyhow::Result<ExitCode> {
    let proxies = replicas.proxies().await?;
    if proxies.items.is_empty() && args.output.is_table() {
        outln!(
            "no proxies; make a token with `weft token create --out FILE` and start `weft-proxy run --join-file FILE`"
        );
        return Ok(ExitCode::SUCCESS);
    }
    let row = if args.output == OutputFormat::Wide { wide_row } else { proxy_row };
    let reasons: Vec<Option<String>> = proxies.items.iter().map(reason).collect();
    if reasons.iter().all(Option::is_none) {
        output::print(args.output, &proxies, &PROXY_HEAD, || proxies.items.iter().map(row).collect())?;
    } else {
        // Where all is well, the table fits into 80 columns.
        let head: Vec<&str> = PROXY_HEAD.into_iter().chain(["REASON"]).collect();
        let rows = || {
            let reasons = reasons.iter().map(|reason| reason.clone().unwrap_or_default());
            let rows = proxies.items.iter().map(row).zip(reasons);
            rows.map(|(row, reason)| row.into_iter().chain([reason]).collect()).collect()
        };
        output::print(args.output, &proxies, &head, rows)?;
    }
    if args.output.is_table() {
        for note in proxies.items.iter().filter_map(elsewhere) {
            outln!("{note}");
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// What is to be said of a proxy whose address is not where its join came from.
fn elsewhere(proxy: &ProxyStatus) -> Option<String> {
    let from = proxy.joined_from.as_ref().filter(|from| **from != proxy.address)?;
    let is_loopback =
        |text: &str| text.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback());
    // On one machine, sidecars have addresses of their own on loopback.
    let is_usual = is_loopback(from) && is_loopback(&proxy.address);
    (!is_usual)
        .then(|| format!("{}: peers reach it at {}; its join came from {from}", proxy.id, proxy.address))
}

/// What is wrong with a proxy, the worst first; nothing of one that is well.
pub fn reason(proxy: &ProxyStatus) -> Option<String> {
    let refused =
        proxy.types.iter().flat_map(|(name, status)| status.refused.iter().map(move |one| (name, one)));
    if let Some((name, refusal)) = refused.into_iter().next() {
        let names = refusal.resources.join(", ");
        return Some(format!("{name} refused {names}: {}", first_line(&refusal.message)));
    }
    if let Some(offset) = proxy.clock_offset_ms {
        return Some(format!(
            "{}: certificates are refused; set it by NTP",
            clock_in_words(&proxy.id, offset)
        ));
    }
    if let Some(reason) = proxy.certificate.as_ref().and_then(end_of) {
        return Some(reason);
    }
    // Without a stream its word on its application is void. One that is taken out of service goes on purpose.
    if proxy.sync == Sync::Disconnected && proxy.health != "Draining" {
        return Some("it has no stream: it is down, or cannot reach the control plane".to_owned());
    }
    if let Some(reason) = &proxy.health_reason {
        return Some(reason.clone());
    }
    match proxy.sync {
        Sync::HeldBack => Some("a part is held back; weft proxy status tells more".to_owned()),
        Sync::Synced if takes_no_listener(proxy) => Some(
            "takes no listener from the control plane, so peers are not told of it; join with --client if it only calls"
                .to_owned(),
        ),
        Sync::Synced | Sync::Pending | Sync::Refused | Sync::Disconnected => None,
    }
}

/// What is to be said of a certificate that ended, or that should have been renewed by now: that is done at 50 to 60 % of its
/// life.
fn end_of(certificate: &CertificateStatus) -> Option<String> {
    if output::is_past(certificate.expires_at) {
        return Some("its certificate has expired: look into its log, or let it join again".to_owned());
    }
    let life = certificate.expires_at - certificate.issued_at;
    let is_late = output::is_past(certificate.expires_at - life / 5);
    is_late.then(|| {
        let left = output::until(certificate.expires_at);
        format!("its certificate ends in {left} and was not renewed: is `weft-proxy join --keep` running, or what does its log say?")
    })
}

/// An Envoy with listeners of its own, that joined as one that others call.
fn takes_no_listener(proxy: &ProxyStatus) -> bool {
    let none = proxy.types.get("LDS").is_none_or(|listeners| listeners.sent == 0);
    proxy.health == "Starting" && none
}

/// A refusal's first line, cut: the table has one line for each proxy.
fn first_line(message: &str) -> String {
    const MOST: usize = 120;
    let line = message.lines().next().unwrap_or_default();
    let cut: String = line.chars().take(MOST).collect();
    if cut.len() < line.len() { format!("{cut}…") } else { cut }
}

pub async fn revoke(replicas: &ReplicaClients, args: StatusArgs) -> anyhow::Result<ExitCode> {
    let id = id_of(&args);
    let revoked = replicas.any(async |client| client.revoke_proxy(&id).await).await?;
    if args.output.is_table() {
        outln!(
            "{} is revoked: {} certificate(s) on the revocation list; it may join again with a new token",
            revoked.workload,
            revoked.leaves
        );
    } else {
        output::print(args.output, &revoked, &[], Vec::new)?;
    }
    Ok(ExitCode::SUCCESS)
}

/// `NAMESPACE/WORKLOAD`, in whichever form it was given.
fn id_of(args: &StatusArgs) -> String {
    let (namespace, name) = full_name(&args.id, &args.namespace);
    format!("{namespace}/{name}")
}

/// Head of the table of proxies.
pub const PROXY_HEAD: [&str; 7] = ["PROXY", "SERVICE", "KIND", "SYNC", "HEALTH", "CONNECTED", "CERTIFICATE"];

/// One proxy as a row, which fits into 80 columns.
pub fn proxy_row(proxy: &ProxyStatus) -> Vec<String> {
    let certificate = proxy.certificate.as_ref().map_or("-".to_owned(), |certificate| {
        if output::is_past(certificate.expires_at) {
            return format!("expired {} ago", output::since(certificate.expires_at));
        }
        format!("{} left", output::until(certificate.expires_at))
    });
    vec![
        proxy.id.clone(),
        proxy.service.clone(),
        if proxy.client { format!("{} client", proxy.proxy) } else { proxy.proxy.clone() },
        proxy.sync.to_string(),
        if proxy.drained.is_some() { "Drained".to_owned() } else { proxy.health.clone() },
        output::since(proxy.connected_at),
        certificate,
    ]
}

/// The same, with the age of the certificate.
fn wide_row(proxy: &ProxyStatus) -> Vec<String> {
    let mut row = proxy_row(proxy);
    if let (Some(last), Some(certificate)) = (row.last_mut(), &proxy.certificate) {
        *last = format!("{last}, {} old", output::since(certificate.issued_at));
    }
    row
}

pub async fn status(replicas: &ReplicaClients, args: StatusArgs) -> anyhow::Result<ExitCode> {
    let id = id_of(&args);
    let proxy = replicas.proxy(&id).await?;
    output::print(args.output, &proxy, &["TYPE", "SENT", "TAKEN", "SYNC"], || {
        let row = |(name, status): (&String, &weft_api::rest::TypeStatus)| {
            vec![name.clone(), status.sent.to_string(), status.acked.to_string(), status.sync.to_string()]
        };
        proxy.types.iter().map(row).collect()
    })?;
    if args.output.is_table() {
        for (name, status) in &proxy.types {
            if status.held_back > 0 {
                let count = status.held_back;
                outln!("\n{name} holds {count} back until what was refused changes or goes");
            }
            for refusal in &status.refused {
                outln!("\n{name} refused {}:\n  {}", refusal.resources.join(", "), refusal.message);
                if !refusal.policies.is_empty() {
                    outln!("  from {}", refusal.policies.join(", "));
                }
            }
        }
    }
    let refused = matches!(proxy.sync, Sync::Refused | Sync::HeldBack);
    Ok(if refused { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

pub async fn config(replicas: &ReplicaClients, args: StatusArgs) -> anyhow::Result<ExitCode> {
    let id = id_of(&args);
    let config = replicas.any(async |client| client.proxy_config(&id).await).await?;
    let format = if args.output == OutputFormat::Json { OutputFormat::Json } else { OutputFormat::Yaml };
    output::print(format, &config, &[], Vec::new)?;
    Ok(ExitCode::SUCCESS)
}

#[cfg(test)]
mod tests {
    use std::time::{SystemTime, UNIX_EPOCH};

    use weft_api::rest::{Refusal, TypeStatus};

    use super::*;

    fn certificate(issued: i64, expires: i64) -> Option<CertificateStatus> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs().cast_signed();
        Some(CertificateStatus {
            issued_at: now + issued,
            expires_at: now + expires,
            ..CertificateStatus::default()
        })
    }

    #[test]
    fn reason_names_what_is_wrong_with_a_proxy_and_nothing_of_one_that_is_well() {
        let id = "shop/web-1".to_owned();
        let well = ProxyStatus {
            id,
            sync: Sync::Synced,
            certificate: certificate(-3600, 3600),
            ..Default::default()
        };
        assert_eq!(reason(&well), None);
        let refusal =
            Refusal { resources: vec!["a".to_owned()], message: "no\nway".to_owned(), ..Default::default() };
        let refused = TypeStatus { refused: vec![refusal], ..TypeStatus::default() };
        for (proxy, words) in [
            (
                ProxyStatus { types: [("CDS".to_owned(), refused)].into(), ..well.clone() },
                "CDS refused a: no",
            ),
            (
                ProxyStatus { clock_offset_ms: Some(-600_000), ..well.clone() },
                "the clock of shop/web-1 is 10m behind",
            ),
            (
                ProxyStatus { certificate: certificate(-3600, -60), ..well.clone() },
                "its certificate has expired",
            ),
            (ProxyStatus { certificate: certificate(-3600, 600), ..well.clone() }, "and was not renewed"),
            (
                ProxyStatus {
                    health_reason: Some("the application of port http fails".to_owned()),
                    ..well.clone()
                },
                "the application of port http fails",
            ),
            (ProxyStatus { sync: Sync::Disconnected, ..well.clone() }, "it has no stream"),
        ] {
            let said = reason(&proxy).unwrap_or_default();
            assert!(said.contains(words), "{said:?} does not say {words:?}");
        }
    }
}
