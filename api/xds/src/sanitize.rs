//! Text from a peer, made safe to keep, log and show: cut to a length, and without characters that act.

/// A refusal is kept this long, in bytes. Envoy says in a few hundred what it dislikes.
pub(crate) const MAX_REFUSAL: usize = 4 << 10;

/// What a peer calls itself or somebody else, in bytes.
pub(crate) const MAX_LABEL: usize = 256;

/// Cuts `untrusted` to `limit` bytes, the mark that says so included, and replaces what a terminal would act on. Line feeds
/// and tabs stay: refusals have several lines.
pub(crate) fn text(untrusted: &str, limit: usize) -> String {
    let mut kept = String::with_capacity(untrusted.len().min(limit));
    // Replacing makes a character longer at times, so the length is counted on what is kept.
    for character in untrusted.chars().map(replaced) {
        if kept.len() + character.len_utf8() > limit {
            return mark(kept, untrusted.len(), limit);
        }
        kept.push(character);
    }
    kept
}

/// The same in one line.
pub(crate) fn label(untrusted: &str) -> String {
    text(untrusted, MAX_LABEL).replace(['\n', '\t'], " ")
}

fn mark(mut kept: String, length: usize, limit: usize) -> String {
    let mark = format!("… (cut, {length} bytes came)");
    let mut end = kept.len().min(limit.saturating_sub(mark.len()));
    while !kept.is_char_boundary(end) {
        end -= 1;
    }
    kept.truncate(end);
    kept + &mark
}

fn replaced(character: char) -> char {
    let acts = character.is_control() && !matches!(character, '\n' | '\t');
    // Marks that reorder the text around them, so that a line reads as what it is not.
    let reorders =
        matches!(character, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    if acts || reorders { char::REPLACEMENT_CHARACTER } else { character }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_words_are_cut_at_a_character_and_marked() {
        let cut = text(&"ä".repeat(4_000_000), MAX_REFUSAL);
        assert!(cut.len() <= MAX_REFUSAL && cut.len() > MAX_REFUSAL - 8, "{}", cut.len());
        assert!(cut.ends_with("ä… (cut, 8000000 bytes came)"), "{}", &cut[cut.len() - 40..]);
        let whole = "x".repeat(MAX_REFUSAL);
        assert_eq!(text(&whole, MAX_REFUSAL), whole);
    }

    #[test]
    fn characters_that_act_are_replaced_also_where_that_makes_the_words_longer() {
        assert_eq!(text("a\u{1b}[2Jb\r\nc\td\u{202e}e", 100), "a\u{fffd}[2Jb\u{fffd}\nc\td\u{fffd}e");
        assert!(text(&"\u{1b}".repeat(MAX_REFUSAL), MAX_REFUSAL).len() <= MAX_REFUSAL);
    }

    #[test]
    fn labels_are_one_short_line() {
        assert_eq!(label("envoy\n1.40\t\u{7}"), "envoy 1.40 \u{fffd}");
        assert!(label(&"x".repeat(3 << 20)).len() <= MAX_LABEL);
    }
}
