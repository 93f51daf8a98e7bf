//! "Did you mean": the known word that is nearest to an unknown one.

/// The nearest of `known`, when it is near enough to be a slip of the hand.
#[must_use]
pub fn suggest<'a>(written: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let written: String = written.chars().take(64).flat_map(char::to_lowercase).collect();
    let allowed = (written.chars().count() / 3).clamp(1, 3);
    known
        .into_iter()
        .map(|word| (strsim::osa_distance(&written, &word.to_lowercase()), word))
        .filter(|(distance, _)| *distance <= allowed)
        .min()
        .map(|(_, word)| word)
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
