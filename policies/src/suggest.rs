//! "Did you mean": the known word that is nearest to an unknown one.

/// The nearest of `known`, when it is near enough to be a slip of the hand.
pub(crate) fn suggest<'a>(written: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let written: Vec<char> = written.chars().take(64).flat_map(char::to_lowercase).collect();
    let allowed = (written.len() / 3).clamp(1, 3);
    known
        .into_iter()
        .map(|word| (distance(&written, &word.to_lowercase().chars().collect::<Vec<_>>()), word))
        .filter(|(distance, _)| *distance <= allowed)
        .min()
        .map(|(_, word)| word)
}

/// How many letters must be changed, put in, taken out or swapped with their neighbour.
fn distance(one: &[char], two: &[char]) -> usize {
    let width = two.len() + 1;
    let mut table = vec![0; (one.len() + 1) * width];
    for (row, line) in table.chunks_mut(width).enumerate() {
        line[0] = row;
    }
    for (column, cell) in table[..width].iter_mut().enumerate() {
        *cell = column;
    }
    for row in 1..=one.len() {
        for column in 1..=two.len() {
            let changed = usize::from(one[row - 1] != two[column - 1]);
            let above = (row - 1) * width + column;
            let here = row * width + column;
            let mut best = (table[above] + 1).min(table[here - 1] + 1).min(table[above - 1] + changed);
            let swapped =
                row > 1 && column > 1 && one[row - 1] == two[column - 2] && one[row - 2] == two[column - 1];
            if swapped {
                best = best.min(table[(row - 2) * width + column - 2] + 1);
            }
            table[here] = best;
        }
    }
    table[table.len() - 1]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_the_nearest_word_and_nothing_far_away() {
        let known = ["weight", "namespace", "name", "port", "targetPort"];
        assert_eq!(suggest("wieght", known), Some("weight"));
        assert_eq!(suggest("nmae", known), Some("name"));
        assert_eq!(suggest("targetport", known), Some("targetPort"));
        assert_eq!(suggest("ports", known), Some("port"));
        assert_eq!(suggest("replicas", known), None);
        assert_eq!(suggest("", known), None);
    }
}
