//! Whether an output has the shape that the page shows.
//!
//! What differs from run to run counts as the same: spaces, times, rates. `…` on the page stands for anything. All
//! else is compared, so that a share of successes, a revision or a name that is no longer true is found.

use std::sync::LazyLock;

use regex::Regex;

// A number with a unit of time, or several; a number per second; a measure with its moment, as Prometheus prints it.
static VARIES: LazyLock<Regex> = LazyLock::new(|| {
    Regex::new(r"(?P<span>\b(\d+(\.\d+)?(ms|[dhms]))+\b)|(?P<rate>\b\d+(\.\d+)?/s)|=> [\d.e+-]+ @\[[\d.]+\]")
        .expect("a pattern")
});

/// Compares; says where the two part.
pub fn compare(shown: &str, printed: &str) -> Result<(), String> {
    let (shown, printed) = (normal(shown), normal(printed));
    let pieces: Vec<&str> = shown.split('…').collect();
    let pattern = pieces.iter().map(|piece| regex::escape(piece)).collect::<Vec<_>>().join(".*");
    let pattern = Regex::new(&format!("^{pattern}$")).map_err(|error| error.to_string())?;
    if pattern.is_match(&printed) {
        return Ok(());
    }
    let mut rest = printed.as_str();
    for piece in pieces {
        let Some(at) = rest.find(piece) else {
            let ends = piece.char_indices().map(|(at, c)| at + c.len_utf8());
            let same = ends.take_while(|end| rest.starts_with(&piece[..*end])).last().unwrap_or_default();
            let (wanted, found) = (start(&piece[same..]), start(&rest[same..]));
            return Err(format!("where {wanted:?} should be, there is {found:?}"));
        };
        rest = &rest[at + piece.len()..];
    }
    Err(format!(
        "there is more than the page shows: {:?}",
        start(if rest.is_empty() { &printed } else { rest })
    ))
}

fn normal(text: &str) -> String {
    let text = VARIES.replace_all(text, |found: &regex::Captures<'_>| {
        if found.name("span").is_some() {
            "TIME"
        } else if found.name("rate").is_some() {
            "RATE"
        } else {
            "=> MEASURE"
        }
    });
    text.split_whitespace().collect()
}

fn start(text: &str) -> String {
    text.chars().take(60).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_that_vary_and_spaces_are_the_same() {
        let shown = "TO         RATE    SUCCESS  P99\nshop/cart  30.0/s  100.0%   4.8ms\n";
        assert_eq!(compare(shown, "TO  RATE  SUCCESS P99\nshop/cart 29.1/s 100.0% 12.0ms"), Ok(()));
        assert_eq!(compare("19s old, 23h59m left", "1m2s old, 23h58m left"), Ok(()));
        assert_eq!(compare("{a} => 30.1 @[1.5]", "{a} => 7 @[1732905600.123]"), Ok(()));
        assert!(compare(shown, "TO RATE SUCCESS P99\nshop/cart 29.1/s 97.0% 12.0ms").is_err());
        assert!(compare("revision 2", "revision 3").is_err());
    }

    #[test]
    fn ellipsis_is_anything_and_what_stands_around_it_is_not() {
        assert_eq!(compare("{\"a\":1,…,\n  \"z\":[…]}", "{\"a\":1,\"b\":2,\"z\":[3]}"), Ok(()));
        assert_eq!(compare("a …", "a b c"), Ok(()));
        let error = compare("{\"a\":1,…,\"z\":2}", "{\"a\":1,\"b\":2}").unwrap_err();
        assert!(error.contains("z"), "{error}");
        assert!(compare("a", "a b").unwrap_err().contains("more than the page shows: \"b\""));
        assert!(compare("a b", "a").is_err());
        assert_eq!(compare("a…b", "a b c b"), Ok(()));
    }
}
