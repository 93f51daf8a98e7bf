//! The connection preface of HTTP/2 with prior knowledge (RFC 9113, section 3.4).

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// Whether a connection that begins with these bytes speaks HTTP/2; `None` while they are too few to tell.
#[must_use]
pub(crate) fn is_http2(ahead: &[u8]) -> Option<bool> {
    let known = ahead.len().min(PREFACE.len());
    if ahead[..known] != PREFACE[..known] {
        return Some(false);
    }
    (known == PREFACE.len()).then_some(true)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_byte_that_differs_decides() {
        assert_eq!(is_http2(b""), None);
        assert_eq!(is_http2(&PREFACE[..23]), None);
        assert_eq!(is_http2(b"PRI * HTTP/1"), Some(false));
        assert_eq!(is_http2(b"POST / HTTP/1.1\r\n"), Some(false));
        assert_eq!(is_http2(&[PREFACE, b"\0\0\0"].concat()), Some(true));
    }
}
