//! What another process writes, line by line.

use std::collections::VecDeque;

use tokio::io::{AsyncBufReadExt as _, AsyncRead, AsyncReadExt as _, AsyncWriteExt as _, BufReader};

/// A line that is longer is broken up: whoever writes without an end takes no more memory than this.
const LONGEST: u64 = 16 << 10;

/// Passes lines on to standard error, each behind `prefix`, until the other side closes; returns the last ones.
pub async fn pass_on(from: impl AsyncRead + Unpin, prefix: &str, keep: usize) -> VecDeque<String> {
    let mut from = BufReader::new(from);
    let mut last = VecDeque::with_capacity(keep);
    let mut line = Vec::new();
    let mut screen = tokio::io::stderr();
    loop {
        line.clear();
        match (&mut from).take(LONGEST).read_until(b'\n', &mut line).await {
            Ok(0) | Err(_) => return last,
            Ok(_) => {}
        }
        let words = line.strip_suffix(b"\n").unwrap_or(&line);
        // In one piece, so that lines of several do not mix. Without standard error nobody can be told.
        let shown = [prefix.as_bytes(), words, b"\n"].concat();
        let _ = screen.write_all(&shown).await;
        let _ = screen.flush().await;
        if last.len() == keep {
            last.pop_front();
        }
        if keep > 0 {
            last.push_back(String::from_utf8_lossy(words).into_owned());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn last_lines_are_kept_and_no_line_is_endless() {
        let text = b"one\ntwo\nthree".to_vec();
        assert_eq!(pass_on(&text[..], "test | ", 2).await, ["two", "three"]);
        let endless = vec![b'x'; 40_000];
        let kept = pass_on(&endless[..], "", 9).await;
        assert_eq!(
            kept.iter().map(String::len).collect::<Vec<_>>(),
            [16 << 10, 16 << 10, 40_000 - (32 << 10)]
        );
    }
}
