//! How values look in messages.

/// Characters of a value that a message repeats.
const SHORT: usize = 80;

/// A value that somebody gave and that a message repeats: its first 80 characters, with `…` where there are more.
#[must_use]
pub fn shorten(text: &str) -> String {
    match text.char_indices().nth(SHORT) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

/// The beginning of a text, of at most so many bytes.
#[must_use]
pub fn cut(text: &str, most: usize) -> &str {
    let mut end = text.len().min(most);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    &text[..end]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_values_are_cut_between_characters() {
        assert_eq!(shorten("short"), "short");
        assert_eq!(shorten(&"\u{fc}".repeat(100)), format!("{}…", "\u{fc}".repeat(80)));
        assert_eq!((cut("a\u{fc}b", 2), cut("a\u{fc}b", 3), cut("a", 9)), ("a", "a\u{fc}", "a"));
    }
}
