//! How values look in messages.

/// Characters of a value that a message repeats.
const SHORT: usize = 80;

/// The beginning of a value that somebody gave and that a message repeats: its first 80 characters.
#[must_use]
pub fn shorten(text: &str) -> String {
    text.chars().take(SHORT).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_values_are_cut_between_characters() {
        assert_eq!(shorten("short"), "short");
        assert_eq!(shorten(&"\u{fc}".repeat(100)), "\u{fc}".repeat(80));
    }
}
