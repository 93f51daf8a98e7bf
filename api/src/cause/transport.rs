//! Failures of connections and of TLS in words, from the texts of both proxies.

/// What a text says, by what stands in it. Alerts come first: who sends one has looked at the certificate of who reads it.
const WORDS: [(&[&str], &str); 17] = [
    (
        &["ALERT_CERTIFICATE_EXPIRED", "alert CertificateExpired"],
        "the other side says that our certificate has expired",
    ),
    (
        &["ALERT_CERTIFICATE_REVOKED", "alert CertificateRevoked"],
        "the other side says that our certificate is revoked",
    ),
    (
        &["ALERT_UNKNOWN_CA", "alert UnknownCA"],
        "the other side knows no root that has issued our certificate: are both of one mesh?",
    ),
    (
        &["ALERT_CERTIFICATE_REQUIRED", "alert CertificateRequired"],
        "the other side needs a certificate of the mesh",
    ),
    (
        &[
            "ALERT_CERTIFICATE_UNKNOWN",
            "ALERT_BAD_CERTIFICATE",
            "alert CertificateUnknown",
            "alert BadCertificate",
        ],
        "the other side does not accept our certificate",
    ),
    (&["certificate has expired"], "the certificate of the other side has expired"),
    (
        &["certificate is not yet valid", "certificate is not valid yet"],
        "the certificate of the other side is not valid yet: compare the clocks",
    ),
    (&["certificate revoked", "certificate is revoked"], "the certificate of the other side is revoked"),
    (
        &["local issuer", "self-signed", "self signed", "no root of the trust bundle"],
        "unknown root: nothing in the trust bundle has issued the certificate of the other side",
    ),
    (
        &["WRONG_VERSION_NUMBER", "HTTP_REQUEST", "corrupt message of type InvalidContentType", "is not TLS"],
        "plain text where TLS is expected",
    ),
    (
        &["PEER_DID_NOT_RETURN_A_CERTIFICATE", "no certificate was presented"],
        "no certificate was presented: the client is not in the mesh",
    ),
    (&["onnection refused", "onnection_refused"], "connection refused"),
    (&["connection timeout", "connection_timeout", "timed out"], "no answer in time"),
    (
        &["o route to host", "o_route_to_host", "etwork is unreachable", "etwork_is_unreachable"],
        "no way to that address",
    ),
    (&["onnection reset", "onnection_reset", "ECONNRESET"], "the connection was reset"),
    (&["transport socket is not configured", "ecret is not supplied"], "the sidecar has no certificate yet"),
    (&["CERTIFICATE_VERIFY_FAILED"], "the certificate of the other side could not be verified"),
];

/// Which texts mean that the certificate is good, and somebody else's.
const OTHER_IDENTITY: [&str; 3] = ["verify SAN list", "SAN matcher", "certificate names"];

/// What weft-proxy and Envoy write before the names that a certificate has, and after them.
const NAMES: ([&str; 2], &str) = (["certificate names [", "certificate SANs are ["], "]");

/// A failure in words. One that is not known stays as it is. `expected` is who should have been there.
#[must_use]
pub fn in_words(failure: &str, expected: Option<&str>) -> String {
    if OTHER_IDENTITY.iter().any(|text| failure.contains(text)) {
        let expected = expected.unwrap_or("another one");
        let got = names(failure).map(|names| format!(", got {names}")).unwrap_or_default();
        return format!("the other side has the wrong identity: expected {expected}{got}");
    }
    let known = WORDS.iter().find(|(texts, _)| texts.iter().any(|text| failure.contains(text)));
    match (known, whose(failure)) {
        (Some((_, words)), Some(whose)) => format!("{words}, which is {whose}"),
        (Some((_, words)), None) => (*words).to_owned(),
        (None, _) => failure.to_owned(),
    }
}

/// Whose certificate was refused, where the failure tells it: weft-proxy writes it between angle brackets at the end.
fn whose(failure: &str) -> Option<&str> {
    failure.strip_suffix('>')?.rsplit_once('<').map(|(_, whose)| whose)
}

/// The names of the certificate that was there, where the failure tells them.
fn names(failure: &str) -> Option<String> {
    let (_, rest) = NAMES.0.into_iter().find_map(|before| failure.split_once(before))?;
    let (names, _) = rest.split_once(NAMES.1)?;
    Some(names.replace('"', ""))
}
