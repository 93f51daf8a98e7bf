//! What others call their objects, as names here.

use weft_api::{Name, ServiceId};

use super::input::InputNode;

/// The name here. One that Weft does not take is made one, which is noted; nothing where that cannot be.
pub fn name(node: &InputNode<'_>) -> Option<Name> {
    let written = node.text()?;
    if let Ok(name) = Name::try_new(written) {
        return Some(name);
    }
    let name = plain(written);
    match &name {
        Some(name) => {
            node.differs(format!("is called {name} here: names have small letters, digits and '-'"));
        }
        None => node.not_carried(
            "is no name here: use 1 to 63 of a-z, 0-9 and '-', with a letter or digit at both ends",
        ),
    }
    name
}

/// A text as a name, as near as can be.
pub fn plain(text: &str) -> Option<Name> {
    let lower = text.to_ascii_lowercase();
    let plain: String =
        lower.chars().map(|c| if c.is_ascii_lowercase() || c.is_ascii_digit() { c } else { '-' }).collect();
    Name::try_new(plain.trim_matches('-')).ok()
}

/// A service as policies of `namespace` refer to it.
pub fn reference(service: &ServiceId, namespace: &Name) -> String {
    if service.namespace == *namespace { service.name.to_string() } else { service.to_string() }
}
