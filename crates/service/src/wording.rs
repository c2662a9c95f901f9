//! Error texts about invalid input, in plain words. The texts of serde name Rust types and parser rules. The module `wording`
//! translates the texts of serde, and replaces an unknown text by a general text.

use crate::foreign_names;

/// The number of characters after which errors cut a text of the input.
const MAX_REPEATED_CHARS: usize = 200;

/// Describes the mistake in a whole document, with its line and column.
pub fn document_mistake(error: &serde_json::Error) -> String {
    format!("{}, at line {}, column {}", value_mistake(error), error.line(), error.column())
}

/// Describes the mistake in one value, without line and column, because the value is only a part of the input.
pub fn value_mistake(error: &serde_json::Error) -> String {
    let error_text = error.to_string();
    let problem = without_position(&error_text);
    if error.is_data() { data_mistake(problem) } else { syntax_mistake(problem).to_owned() }
}

/// Describes the mistake in one value that is valid JSON. The parser reports some values of a wrong kind as invalid JSON;
/// `json_mistake` reports that these values are of another kind.
pub fn json_mistake(error: &serde_json::Error) -> String {
    match without_position(&error.to_string()) {
        "expected value" => "it is of another kind".to_owned(),
        "trailing characters" => "the list is longer than it may be".to_owned(),
        _ => value_mistake(error),
    }
}

fn without_position(text: &str) -> &str {
    text.rsplit_once(" at line ").map_or(text, |(problem, _)| problem)
}

fn syntax_mistake(problem: &str) -> &'static str {
    const KNOWN_WORDINGS: [(&str, &str); 12] = [
        ("EOF while parsing", "it ends too early"),
        ("expected `:`", "a colon is missing after the name of a field"),
        ("expected `,`", "a comma, or the end of a list or an object, is missing"),
        ("key must be", "the name of a field must be a text in quotes"),
        ("trailing comma", "there is a comma before the end of a list or an object"),
        ("trailing characters", "there is something after its end"),
        ("invalid escape", "a backslash is before a character that can't be escaped"),
        ("lone leading surrogate", LONE_SURROGATE),
        ("unexpected end of hex", LONE_SURROGATE),
        ("control character", "a text has a control character: escape it, as in \\n"),
        ("invalid unicode", "it is not UTF-8"),
        ("recursion limit", "it is nested deeper than 128 levels"),
    ];
    const LONE_SURROGATE: &str = "a \\u escape is half of a character: send both halves, or the character itself";
    let known_wording = KNOWN_WORDINGS.iter().find(|(beginning, _)| problem.starts_with(beginning));
    match known_wording {
        Some((_, words)) => words,
        None if problem.contains("number") => "a number is not written as JSON has it, or is too large",
        None => "it is not JSON",
    }
}

/// Describes the mistake in one value. For a missing or duplicate field, the function also returns the name of the field, which
/// the path of the error lacks.
pub fn member_mistake(error: &serde_json::Error) -> (Option<String>, String) {
    let error_text = error.to_string();
    if let Some((word, known)) = unknown_field(&error_text) {
        return (None, unknown_with_suggestions(&shortened(word), known.iter().copied()));
    }
    let name = || error_text.split('`').nth(1).map(str::to_owned);
    if error_text.starts_with("missing field") {
        return (name(), "required".into());
    }
    if error_text.starts_with("duplicate field") {
        return (name(), "it is given twice".into());
    }
    (None, value_mistake(error))
}

/// Returns the unknown field and the known fields, if the text of a parser's error is about an unknown field.
pub fn unknown_field(text: &str) -> Option<(&str, Vec<&str>)> {
    split_unknown_word(text.strip_prefix("unknown field `")?)
}

/// Splits the rest of an error text, which begins with the unknown word, into the unknown word and the known words.
fn split_unknown_word(rest: &str) -> Option<(&str, Vec<&str>)> {
    // The unknown word may contain any text; known words contain no back-tick.
    let end = ["`, expected ", "`, there are no "].iter().find_map(|end| rest.rfind(end))?;
    let (word, known) = rest.split_at(end);
    Some((word, known.split('`').skip(2).step_by(2).collect()))
}

/// Translates the parser's text about valid JSON with a wrong value.
pub fn data_mistake(problem: &str) -> String {
    for beginning in ["invalid type: ", "invalid value: ", "invalid length "] {
        // The wrong value itself may contain ", expected ", so the last occurrence is used.
        if let Some((found, expected)) =
            problem.strip_prefix(beginning).and_then(|rest| rest.rsplit_once(", expected "))
        {
            let expected = expected_value_in_plain_words(expected);
            return match found_value(found) {
                Some(found) => format!("it is {}, and must be {expected}", shortened(&found)),
                None => format!("it must be {expected}"),
            };
        }
    }
    if problem.starts_with("data did not match any variant") || problem.starts_with("no variant of enum") {
        return "it has none of the forms that it may have".to_owned();
    }
    if let Some((word, known)) = unknown_field(problem) {
        return format!(
            "the field \"{}\" is {}",
            shortened(word),
            unknown_with_suggestions(word, known.iter().copied())
        );
    }
    if let Some((word, known)) = problem.strip_prefix("unknown variant `").and_then(split_unknown_word) {
        return format!("\"{}\" is {}", shortened(word), unknown_with_suggestions(word, known.iter().copied()));
    }
    match problem.split('`').nth(1) {
        Some(word) if problem.starts_with("missing field") => format!("the field \"{}\" is required", shortened(word)),
        Some(word) if problem.starts_with("duplicate field") => {
            format!("the field \"{}\" is given twice", shortened(word))
        }
        // An error text that no case above recognizes comes from a type of Drover or of a handler.
        _ => shortened(problem),
    }
}

/// Returns the value that the parser found, in JSON notation.
fn found_value(found: &str) -> Option<String> {
    let (kind, rest) = found.split_once(' ').unwrap_or((found, ""));
    match kind {
        "string" => Some(rest.to_owned()),
        "integer" | "floating" | "boolean" => rest.split('`').nth(1).map(str::to_owned),
        "null" | "unit" if rest.is_empty() || rest == "value" => Some("null".into()),
        "map" => Some("an object".into()),
        "sequence" => Some("a list".into()),
        _ => None,
    }
}

/// Returns the expected value in plain words. The error texts of Drover's own types already name the expected value in plain
/// words; for other types, serde uses the name of the Rust type.
fn expected_value_in_plain_words(expected: &str) -> String {
    let kind = expected.split(' ').next().unwrap_or_default();
    let list_length = ["a tuple of size ", "an array of length "].iter().find_map(|start| expected.strip_prefix(start));
    if let Some(length) = list_length {
        return format!("a list of {length}");
    }
    let words = match (expected, kind) {
        ("a string" | "string or map" | "a borrowed string" | "a byte array" | "variant identifier", _)
        | (_, "enum" | "variant" | "unit" | "newtype") => "a text",
        ("a boolean", _) => "true or false",
        ("a map", _) | (_, "struct" | "internally" | "adjacently") => "an object",
        ("a sequence", _) | (_, "tuple") => "a list",
        (_, "f32" | "f64") => "a number",
        (
            _,
            "u8" | "u16" | "u32" | "u64" | "u128" | "usize" | "i8" | "i16" | "i32" | "i64" | "i128" | "isize"
            | "nonzero",
        ) => "a whole number",
        _ if expected.starts_with("a nonzero ") => "a whole number",
        _ => expected,
    };
    words.to_owned()
}

/// Cuts a text of the input, so that an error can repeat it.
pub fn shortened(text: &str) -> String {
    match text.char_indices().nth(MAX_REPEATED_CHARS) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

/// Returns the known word that is most similar to an unknown word, if a known word is similar enough.
pub fn nearest_word<'k>(word: &str, known: impl IntoIterator<Item = &'k str>) -> Option<&'k str> {
    known
        .into_iter()
        .map(|candidate| (strsim::jaro_winkler(word, candidate), candidate))
        .filter(|(similarity, _)| *similarity > 0.75)
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .map(|(_, candidate)| candidate)
}

/// Returns a text about an unknown word, which has a hint about a foreign name, suggests a similar known word, or lists the known
/// words.
pub fn unknown_with_suggestions<'k>(word: &str, known: impl IntoIterator<Item = &'k str>) -> String {
    let known_words: Vec<&str> = known.into_iter().collect();
    if let Some(hint) = foreign_names::hint(word, &known_words) {
        return format!("unknown: {hint}");
    }
    if let Some(meant) = nearest_word(word, known_words.iter().copied()) {
        return format!("unknown: did you mean \"{meant}\"?");
    }
    if known_words.is_empty() {
        "unknown".to_owned()
    } else {
        format!("unknown; expected one of {}", known_words.join(", "))
    }
}

/// Returns a text that reports an unknown word and suggests a known word. The error text repeats the unknown word only if one
/// of the allowed words is similar, because an unknown word without a similar one may be a misplaced secret.
pub(crate) fn unknown_word<'k>(word: &str, known: impl IntoIterator<Item = &'k str> + Clone) -> String {
    match nearest_word(word, known.clone()) {
        Some(meant) => format!("\"{word}\" is unknown: did you mean \"{meant}\"?"),
        None => format!("expected one of {}", known.into_iter().collect::<Vec<_>>().join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;

    use super::*;

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    #[expect(dead_code, reason = "it is there to be read")]
    struct Sample {
        word: Option<Word>,
        text: Option<String>,
        whole: Option<u64>,
        number: Option<f64>,
        flag: Option<bool>,
        list: Option<Vec<u8>>,
        inner: Option<Box<Sample>>,
    }

    #[derive(Debug, Deserialize)]
    #[serde(rename_all = "snake_case")]
    enum Word {
        Fixed,
        Exponential,
    }

    #[test]
    fn nearest_known_word_is_suggested_for_a_misspelt_word() {
        let known_words = ["delay", "priority", "max_attempts"];
        assert_eq!(nearest_word("dealy", known_words), Some("delay"));
        assert_eq!(nearest_word("maxAttempts", known_words), Some("max_attempts"));
        assert_eq!(nearest_word("payload", known_words), None);
        assert_eq!(
            unknown_with_suggestions("xyz", known_words),
            "unknown; expected one of delay, priority, max_attempts"
        );
        assert_eq!(unknown_with_suggestions("xyz", []), "unknown");
        assert_eq!(unknown_with_suggestions("attempts", known_words), "unknown: did you mean \"max_attempts\"?");
    }

    fn report_mistake(json: &[u8]) -> String {
        value_mistake(&serde_json::from_slice::<Sample>(json).unwrap_err())
    }

    #[test]
    fn value_of_another_kind_is_reported_with_the_expectation() {
        for (json, expected) in [
            (r#"{"text":5}"#, "it is 5, and must be a text"),
            (r#"{"text":1.5}"#, "it is 1.5, and must be a text"),
            (r#"{"text":["a"]}"#, "it is a list, and must be a text"),
            (r#"{"whole":"a, expected b"}"#, "it is \"a, expected b\", and must be a whole number"),
            (r#"{"whole":-1}"#, "it is -1, and must be a whole number"),
            (r#"{"number":{}}"#, "it is an object, and must be a number"),
            (r#"{"flag":"yes"}"#, "it is \"yes\", and must be true or false"),
            (r#"{"list":true}"#, "it is true, and must be a list"),
            (r#"{"inner":5}"#, "it is 5, and must be an object"),
            (r#"{"word":"fixd"}"#, "\"fixd\" is unknown: did you mean \"fixed\"?"),
            (r#"{"word":"none"}"#, "\"none\" is unknown; expected one of fixed, exponential"),
            (r#"{"word":"a`b"}"#, "\"a`b\" is unknown; expected one of fixed, exponential"),
            (r#"{"word":"a`, expected `b"}"#, "\"a`, expected `b\" is unknown; expected one of fixed, exponential"),
            (r#"{"t`xt":1}"#, "the field \"t`xt\" is unknown: did you mean \"text\"?"),
            (r#"{"word":{"fixed":1}}"#, "it is 1, and must be a text"),
            (r#"{"txt":1}"#, "the field \"txt\" is unknown: did you mean \"text\"?"),
            (r#"{"text":"a","text":"b"}"#, "the field \"text\" is given twice"),
        ] {
            assert_eq!(report_mistake(json.as_bytes()), expected, "{json}");
        }
        let long_text = report_mistake(format!(r#"{{"whole":"{}"}}"#, "x".repeat(1_000)).as_bytes());
        assert!(long_text.len() < 300, "{long_text}");
    }

    #[test]
    fn mistake_in_a_member_is_reported_with_the_name_of_the_member() {
        let reported_mistake = |json: &str| member_mistake(&serde_json::from_str::<Sample>(json).unwrap_err());
        assert_eq!(reported_mistake(r#"{"txt":1}"#), (None, "unknown: did you mean \"text\"?".into()));
        assert_eq!(
            reported_mistake(r#"{"a`, expected `b":1}"#).1,
            "unknown; expected one of word, text, whole, number, flag, list, inner"
        );
        assert_eq!(reported_mistake(r#"{"text":"a","text":"b"}"#), (Some("text".into()), "it is given twice".into()));
        assert_eq!(reported_mistake(r#"{"whole":-1}"#), (None, "it is -1, and must be a whole number".into()));
        assert_eq!(unknown_field("unknown field `x`, there are no fields"), Some(("x", Vec::new())));
    }

    #[test]
    fn text_that_is_no_json_is_reported_without_the_words_of_the_parser() {
        for (json, expected) in [
            (&b""[..], "it ends too early"),
            (b"{", "it ends too early"),
            (b"{\"text\":\"a", "it ends too early"),
            (b"nul", "it ends too early"),
            (b"not json", "it is not JSON"),
            (b"{\"text\" 1}", "a colon is missing after the name of a field"),
            (b"{\"text\":\"a\" 1}", "a comma, or the end of a list or an object, is missing"),
            (b"{text:1}", "the name of a field must be a text in quotes"),
            (b"{\"whole\":1,}", "there is a comma before the end of a list or an object"),
            (b"{} {}", "there is something after its end"),
            (b"{\"text\":\"\\x\"}", "a backslash is before a character that can't be escaped"),
            (
                b"{\"text\":\"\\ud83d\"}",
                "a \\u escape is half of a character: send both halves, or the character itself",
            ),
            (
                b"{\"text\":\"\\ude00\"}",
                "a \\u escape is half of a character: send both halves, or the character itself",
            ),
            (b"{\"text\":\"\x01\"}", "a text has a control character: escape it, as in \\n"),
            (b"{\"text\":\"\xff\"}", "it is not UTF-8"),
            (b"{\"number\":1e999}", "a number is not written as JSON has it, or is too large"),
            (b"{\"whole\":01}", "a number is not written as JSON has it, or is too large"),
        ] {
            assert_eq!(report_mistake(json), expected, "{}", String::from_utf8_lossy(json));
        }
        let nested_json = r#"{"inner":"#.repeat(200);
        assert_eq!(report_mistake(nested_json.as_bytes()), "it is nested deeper than 128 levels");
        let error = serde_json::from_str::<Sample>("{\n  oops}").unwrap_err();
        assert_eq!(document_mistake(&error), "the name of a field must be a text in quotes, at line 2, column 3");
    }
}
