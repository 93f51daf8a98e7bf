//! Formats of access logs: text with the commands that both proxies know. One that a proxy did not know would have it
//! refuse its listener, so that others are refused here.

use crate::finding::{Code, Findings};
use crate::suggest::suggest;
use crate::value::HeaderName;

/// Longest format, in bytes.
const LONGEST: usize = 4096;

/// Commands that stand alone.
const PLAIN: [&str; 32] = [
    "BYTES_RECEIVED",
    "BYTES_SENT",
    "CONNECTION_ID",
    "DOWNSTREAM_DIRECT_REMOTE_ADDRESS",
    "DOWNSTREAM_LOCAL_ADDRESS",
    "DOWNSTREAM_PEER_DNS_SAN",
    "DOWNSTREAM_PEER_FINGERPRINT_256",
    "DOWNSTREAM_PEER_SERIAL",
    "DOWNSTREAM_PEER_URI_SAN",
    "DOWNSTREAM_REMOTE_ADDRESS",
    "DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT",
    "DOWNSTREAM_TLS_CIPHER",
    "DOWNSTREAM_TLS_VERSION",
    "DURATION",
    "GRPC_STATUS",
    "HOSTNAME",
    "PROTOCOL",
    "REQUESTED_SERVER_NAME",
    "REQUEST_DURATION",
    "RESPONSE_CODE",
    "RESPONSE_CODE_DETAILS",
    "RESPONSE_DURATION",
    "RESPONSE_FLAGS",
    "ROUTE_NAME",
    "START_TIME",
    "STREAM_ID",
    "TRACE_ID",
    "UPSTREAM_CLUSTER",
    "UPSTREAM_HOST",
    "UPSTREAM_REQUEST_ATTEMPT_COUNT",
    "UPSTREAM_TRANSPORT_FAILURE_REASON",
    "VIRTUAL_HOST_NAME",
];
/// Commands of a header: `%REQ(NAME)%`, or `%REQ(NAME?OTHER)%` with another one where the first is absent.
const OF_HEADERS: [&str; 3] = ["REQ", "RESP", "TRAILER"];

/// Notes what is wrong with a format.
pub(super) fn check_format(format: &str, out: &mut Findings) {
    if format.len() > LONGEST {
        out.add(Code::TooLarge, format!("a format has at most {LONGEST} bytes"));
        return;
    }
    let mut rest = format;
    while let Some((_, after)) = rest.split_once('%') {
        if let Some(literal) = after.strip_prefix('%') {
            rest = literal;
            continue;
        }
        let Some((command, behind)) = after.split_once('%') else {
            out.add(Code::InvalidValue, "a command ends with %").hint("write %% for a percent sign");
            return;
        };
        check_command(command, out);
        rest = behind;
    }
}

fn check_command(command: &str, out: &mut Findings) {
    let (command, length) = match command.rsplit_once(':') {
        Some((command, length)) if !length.is_empty() && length.bytes().all(|b| b.is_ascii_digit()) => {
            (command, length)
        }
        Some(_) | None => (command, "1"),
    };
    let is_length = length.parse::<u16>().is_ok_and(|length| length > 0);
    let is_known = match command.split_once('(') {
        None => PLAIN.contains(&command),
        Some((name, argument)) => {
            let headers = argument.strip_suffix(')').unwrap_or_default().split('?');
            OF_HEADERS.contains(&name) && headers.clone().count() <= 2 && headers.clone().all(is_header)
        }
    };
    if !is_known || !is_length {
        let hint = match suggest(command, PLAIN) {
            Some(known) => format!("did you mean %{known}%?"),
            None => "write one such as %RESPONSE_CODE%, %DURATION% or %REQ(USER-AGENT)%".to_owned(),
        };
        out.add(Code::InvalidValue, "not a command that both proxies know").value(command).hint(hint);
    }
}

fn is_header(name: &str) -> bool {
    name.strip_prefix(':').unwrap_or(name).parse::<HeaderName>().is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn flaws(format: &str) -> usize {
        let mut out = Findings::default();
        check_format(format, &mut out);
        out.into_vec().len()
    }

    #[test]
    fn commands_of_both_proxies_pass() {
        for format in [
            "",
            "100 %%",
            "%START_TIME% %REQ(:METHOD)% %REQ(X-ENVOY-ORIGINAL-PATH?:PATH):80% %RESPONSE_CODE%",
            "%TRAILER(grpc-message)%%RESP(server)%",
        ] {
            assert_eq!(flaws(format), 0, "{format}");
        }
    }

    #[test]
    fn all_else_is_refused() {
        for format in [
            "%",
            "50%",
            "%NOTHING%",
            "%REQ%",
            "%REQ()%",
            "%REQ(a?b?c)%",
            "%REQ(a b)%",
            "%RESPONSE_CODE:0%",
            "%RESPONSE_CODE:99999999%",
            "%START_TIME(%Y)%",
            "%ENVIRONMENT(HOME)%",
            "%FILE_CONTENT(/etc/passwd)%",
        ] {
            assert!(flaws(format) > 0, "{format}");
        }
    }
}
