//! Versions, and which of them work together.

/// Major, minor and patch of a version; none where it is written otherwise.
#[must_use]
pub fn parse(text: &str) -> Option<(u64, u64, u64)> {
    let plain = text.trim_start_matches('v').split(['-', '+', ' ']).next()?;
    let mut parts = plain.split('.').map(|part| part.parse().ok());
    let (major, minor) = (parts.next()??, parts.next()??);
    Some((major, minor, parts.next().flatten().unwrap_or_default()))
}

/// What a proxy of ours is beside a control plane: neighbouring minor versions work together, and control planes are
/// upgraded first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum VersionSkew {
    Fits,
    TooOld,
    TooNew,
}

/// Compares the version of a proxy of ours with the control plane's.
#[must_use]
pub fn skew(proxy: (u64, u64, u64), control_plane: (u64, u64, u64)) -> VersionSkew {
    let (proxy, own) = ((proxy.0, proxy.1), (control_plane.0, control_plane.1));
    if proxy > own {
        VersionSkew::TooNew
    } else if proxy.0 < own.0 || proxy.1 + 1 < own.1 {
        VersionSkew::TooOld
    } else {
        VersionSkew::Fits
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn neighbours_fit_as_long_as_the_control_plane_is_not_behind() {
        for (proxy, own, expected) in [
            ("0.1.0", "0.1.9", VersionSkew::Fits),
            ("0.1.9", "0.1.0", VersionSkew::Fits),
            ("0.1.0", "0.2.0", VersionSkew::Fits),
            ("0.1.0", "0.3.0", VersionSkew::TooOld),
            ("0.2.0", "0.1.0", VersionSkew::TooNew),
            ("1.0.0-rc.1", "0.9.0", VersionSkew::TooNew),
            ("0.9.0", "1.0.0", VersionSkew::TooOld),
        ] {
            assert_eq!(skew(parse(proxy).unwrap(), parse(own).unwrap()), expected, "{proxy} beside {own}");
        }
        assert_eq!(parse("3.4.23"), Some((3, 4, 23)));
        assert_eq!(parse("newest"), None);
    }
}
