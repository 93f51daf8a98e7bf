//! What `accept-encoding` says of gzip, read as Envoy reads it.

/// What becomes of a response by what its caller takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum AcceptedCoding {
    /// Gzip is named, and nothing is liked more.
    Gzip,
    /// A star is named, and nothing is liked more.
    Any,
    /// It shall stay as it is.
    Identity,
    /// Gzip is not among what is taken.
    None,
}

/// Chooses by all that a caller says of codings.
pub(super) fn choose(accept: &str, choose_first: bool) -> AcceptedCoding {
    let mut takes_gzip = true;
    let mut all = Vec::new();
    for token in accept.split(',').filter(|token| !token.is_empty()) {
        let (name, parameters) =
            token.split_once(';').map_or((token, None), |(name, rest)| (name, Some(rest)));
        let quality = match parameters.and_then(|text| text.split_once('=')) {
            Some((key, value)) if key.trim().eq_ignore_ascii_case("q") => {
                let Ok(quality) = value.trim().parse::<f32>() else { continue };
                quality
            }
            Some(_) | None => 1.0,
        };
        takes_gzip &= name.trim() != "gzip" || quality != 0.0;
        all.push((name.trim(), quality));
    }
    if !takes_gzip {
        return AcceptedCoding::None;
    }
    let (mut choice, mut best) = (AcceptedCoding::None, 0.0);
    for (name, quality) in all {
        let coding = match name {
            "gzip" => AcceptedCoding::Gzip,
            "*" => AcceptedCoding::Any,
            "identity" => AcceptedCoding::Identity,
            _ => continue,
        };
        if quality > best || (quality == best && choose_first && coding == AcceptedCoding::Gzip) {
            (choice, best) = (coding, quality);
        }
    }
    choice
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_coding_that_is_liked_most_is_chosen() {
        for (accept, coding) in [
            ("gzip", AcceptedCoding::Gzip),
            ("deflate, gzip;q=0.5, br", AcceptedCoding::Gzip),
            ("gzip ; Q = 0.1", AcceptedCoding::Gzip),
            ("*", AcceptedCoding::Any),
            ("gzip;q=0.5, *", AcceptedCoding::Any),
            ("identity, gzip;q=0.5", AcceptedCoding::Identity),
            ("identity, gzip", AcceptedCoding::Identity),
            ("gzip;q=0, *", AcceptedCoding::None),
            ("gzip;q=much", AcceptedCoding::None),
            ("br", AcceptedCoding::None),
            ("", AcceptedCoding::None),
        ] {
            assert_eq!(choose(accept, false), coding, "{accept}");
        }
        assert_eq!(choose("identity, gzip", true), AcceptedCoding::Gzip);
    }
}
