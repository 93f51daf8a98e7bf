//! Which kinds there are, by name.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::table::with_kinds;

/// The API version of all kinds of ours.
pub const API_VERSION: &str = "weft.dev/v1";
/// The API version under which Gateway API routes are taken unchanged.
pub const GATEWAY_API_VERSION: &str = "gateway.networking.k8s.io/v1";
/// The one before, of which an HTTPRoute reads the same.
pub const GATEWAY_API_BETA: &str = "gateway.networking.k8s.io/v1beta1";
/// The one under which Gateway API has its TCPRoute.
pub const GATEWAY_API_ALPHA: &str = "gateway.networking.k8s.io/v1alpha2";

/// How specific a policy is about what it targets. Later ones win.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Level {
    /// The whole mesh: all calls within it.
    Mesh,
    /// A namespace: calls to its services.
    Namespace,
    /// A service: calls to all of its ports.
    Service,
    /// One port of a service.
    ServicePort,
    /// A route: the requests or connections that it takes.
    Route,
    /// One rule of a route.
    RouteRule,
}

impl fmt::Display for Level {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Mesh => "mesh",
            Self::Namespace => "namespace",
            Self::Service => "service",
            Self::ServicePort => "service port",
            Self::Route => "route",
            Self::RouteRule => "route rule",
        })
    }
}

/// Whose registration with the mesh a change of an object may alter: who is granted which names, and whose reports of
/// health count.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Registration {
    /// Nobody's: documents of the kind say nothing of members.
    Nobody,
    /// That of the workload of the same name.
    Itself,
    /// Those of a service's members, and of whom it selects.
    Members,
}

/// What the table says of a kind beside its type.
struct Row {
    name: &'static str,
    plural: &'static str,
    short: &'static [&'static str],
    api_versions: &'static [&'static str],
    level: Option<Level>,
    registration: Registration,
}

macro_rules! declare_kind {
    ($($(#[$doc:meta])* $kind:ident $module:ident $row:tt)*) => {
        /// A kind of policy.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Kind {
            $($(#[$doc])* $kind,)*
        }

        impl Kind {
            /// All kinds, in the order in which objects are listed.
            pub const ALL: [Self; ROWS.len()] = [$(Self::$kind),*];
        }

        /// What the table says of each kind, in the order of [`Kind::ALL`].
        const ROWS: [Row; [$(Kind::$kind),*].len()] = [$(Row $row),*];
    };
}
with_kinds!(declare_kind);

impl Kind {
    const fn row(self) -> &'static Row {
        &ROWS[self as usize]
    }

    /// The name in `kind:`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        self.row().name
    }

    /// The name in REST paths.
    #[must_use]
    pub const fn plural(self) -> &'static str {
        self.row().plural
    }

    /// Short names for people who type.
    #[must_use]
    pub const fn short(self) -> &'static [&'static str] {
        self.row().short
    }

    /// The API versions under which this kind is taken.
    #[must_use]
    pub const fn api_versions(self) -> &'static [&'static str] {
        self.row().api_versions
    }

    /// The level of a policy that targets a whole object of this kind; `None` where policies cannot target it.
    #[must_use]
    pub const fn level(self) -> Option<Level> {
        self.row().level
    }

    /// Whether objects of this kind are called: they have ports and share their names.
    #[must_use]
    pub fn is_backend(self) -> bool {
        self.level() == Some(Level::Service)
    }

    /// Whose registration a change of an object of this kind may alter.
    #[must_use]
    pub const fn registration(self) -> Registration {
        self.row().registration
    }

    /// The kind that `word` names: singular, plural or short, in any case.
    #[must_use]
    pub fn named(word: &str) -> Option<Self> {
        let word = word.to_ascii_lowercase();
        Self::ALL.into_iter().find(|kind| {
            kind.name().to_ascii_lowercase() == word
                || kind.plural() == word
                || kind.short().contains(&word.as_str())
        })
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Kind {
    type Err = UnknownKind;

    fn from_str(word: &str) -> Result<Self, UnknownKind> {
        Self::named(word).ok_or_else(|| UnknownKind(word.to_owned()))
    }
}

impl Serialize for Kind {
    fn serialize<S: Serializer>(&self, out: S) -> Result<S::Ok, S::Error> {
        out.serialize_str(self.name())
    }
}

impl<'de> Deserialize<'de> for Kind {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let word = String::deserialize(from)?;
        word.parse().map_err(serde::de::Error::custom)
    }
}

/// All kinds, with what is quicker to type.
fn known() -> String {
    let name = |kind: Kind| match kind.short() {
        [] => kind.plural().to_owned(),
        short => format!("{} ({})", kind.plural(), short.join(", ")),
    };
    Kind::ALL.map(name).join(", ")
}

/// A word that names no kind.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("unknown kind {0:?}: the kinds are {known}", known = known())]
pub struct UnknownKind(pub String);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_answer_to_singular_plural_and_short_names() {
        for word in ["HTTPRoute", "httproute", "httproutes", "hr"] {
            assert_eq!(Kind::named(word), Some(Kind::HttpRoute), "{word}");
        }
        assert_eq!(Kind::named("pods"), None);
    }

    #[test]
    fn no_word_names_two_kinds() {
        let mut seen = std::collections::BTreeSet::new();
        for kind in Kind::ALL {
            let name = kind.name().to_ascii_lowercase();
            for word in [name.as_str(), kind.plural()].iter().chain(kind.short()) {
                assert!(seen.insert((*word).to_owned()), "{word}");
            }
        }
    }
}
