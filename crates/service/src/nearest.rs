/// The known word that was probably meant, if any is near.
pub fn nearest<'k>(word: &str, known: impl IntoIterator<Item = &'k str>) -> Option<&'k str> {
    known
        .into_iter()
        .map(|candidate| (strsim::jaro_winkler(word, candidate), candidate))
        .filter(|(similarity, _)| *similarity > 0.75)
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .map(|(_, candidate)| candidate)
}

/// A sentence about an unknown word: what was probably meant, or what there is.
pub fn unknown<'k>(word: &str, known: impl IntoIterator<Item = &'k str> + Clone) -> String {
    if let Some(meant) = nearest(word, known.clone()) {
        return format!("unknown: did you mean \"{meant}\"?");
    }
    let all: Vec<&str> = known.into_iter().collect();
    if all.is_empty() { "unknown".to_owned() } else { format!("unknown; there are {}", all.join(", ")) }
}

/// A sentence about a word that is none of those there are. It repeats the word only where a known one is near: any other text
/// may be a secret that stands in the wrong place.
pub(crate) fn no_such<'k>(word: &str, known: impl IntoIterator<Item = &'k str> + Clone) -> String {
    match nearest(word, known.clone()) {
        Some(meant) => format!("\"{word}\" is unknown: did you mean \"{meant}\"?"),
        None => format!("expected one of {}", known.into_iter().collect::<Vec<_>>().join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slip_is_told_from_another_word() {
        let known = ["delay", "priority", "max_attempts"];
        assert_eq!(nearest("dealy", known), Some("delay"));
        assert_eq!(nearest("maxAttempts", known), Some("max_attempts"));
        assert_eq!(nearest("payload", known), None);
        assert_eq!(unknown("xyz", known), "unknown; there are delay, priority, max_attempts");
        assert_eq!(unknown("xyz", []), "unknown");
    }
}
