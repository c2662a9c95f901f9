//! Compares JSON texts by their meaning: white space, the order of the members of an object, and the escapes in strings do not
//! matter. Numbers are compared by their digits, so 1 and 1.0 differ.

use std::collections::BTreeMap;

use serde_json::value::RawValue;

/// The number of outer nesting levels that are compared by their meaning; values that are nested more deeply are compared byte by byte.
/// The parser reads each nested text again at each level, so the limit of the depth bounds the time of a comparison.
const MAX_DEPTH: usize = 32;

/// Whether two valid JSON texts have the same meaning. If an object has a member twice, the last value of the member counts.
pub(crate) fn is_equal(one: &str, other: &str) -> bool {
    is_equal_to_depth(one.trim_ascii(), other.trim_ascii(), MAX_DEPTH)
}

/// Compares the outer `depth` nesting levels of two JSON texts by their meaning, and values that are nested more deeply byte by byte.
/// The texts have no white space around them.
fn is_equal_to_depth(one: &str, other: &str, depth: usize) -> bool {
    if one == other || depth == 0 {
        return one == other;
    }
    let is_value_equal = |one: &RawValue, other: &RawValue| is_equal_to_depth(one.get(), other.get(), depth - 1);
    match one.as_bytes().first() {
        Some(b'{') => {
            let members =
                (from_text::<BTreeMap<String, &RawValue>>(one), from_text::<BTreeMap<String, &RawValue>>(other));
            let (Some(one), Some(other)) = members else { return false };
            one.len() == other.len()
                && one.iter().zip(&other).all(|((name, value), (other_name, other_value))| {
                    name == other_name && is_value_equal(value, other_value)
                })
        }
        Some(b'[') => {
            let (Some(one), Some(other)) = (from_text::<Vec<&RawValue>>(one), from_text::<Vec<&RawValue>>(other))
            else {
                return false;
            };
            one.len() == other.len() && one.iter().zip(&other).all(|(one, other)| is_value_equal(one, other))
        }
        Some(b'"') => {
            // A string with half of a surrogate pair can't be decoded, and is equal only to the same text.
            from_text::<String>(one).is_some_and(|one| from_text::<String>(other).is_some_and(|other| one == other))
        }
        _ => false,
    }
}

fn from_text<'a, T: serde::Deserialize<'a>>(text: &'a str) -> Option<T> {
    serde_json::from_str(text).ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::Value;

    use super::*;

    #[test]
    fn json_texts_with_the_same_meaning_are_equal_and_other_texts_are_not() {
        for (one, other) in [
            (r#"{"a":1,"b":[1,2]}"#, " { \"b\" : [ 1 ,\n2 ] , \"a\" : 1 }\t"),
            (r#"{"a":{"x":{},"y":[]},"b":null}"#, r#"{"b":null,"a":{"y":[ ],"x":{ }}}"#),
            (r#""aA\u00e9\n\/""#, "\"a\\u0041é\\u000a/\""),
            (r#"{"\u0061":"\"","b":true}"#, r#"{"b":true,"a":"\u0022"}"#),
            ("12345678901234567890.5", " 12345678901234567890.5"),
            (r#"{"a":1,"a":2}"#, r#"{ "a":1, "a":2 }"#),
            ("\"\\ud800\"", "\"\\ud800\""),
            ("true", " true "),
        ] {
            assert!(is_equal(one, other), "{one} {other}");
        }
        for (one, other) in [
            (r#"{"a":1,"b":[1,2]}"#, r#"{"a":1,"b":[2,1]}"#),
            (r#"{"a":1}"#, r#"{"a":1.0}"#),
            ("12345678901234567890.5", "12345678901234567890.4"),
            (r#"{"a":1,"a":2}"#, r#"{"a":2,"a":1}"#),
            (r#"["a,b"]"#, r#"["a","b"]"#),
            ("[[1],[2]]", "[[1,2]]"),
            (r#"{"a":{"b":1}}"#, r#"{"a":{},"b":1}"#),
            (r#"" a""#, r#""a""#),
            (r#""1""#, "1"),
            ("[]", "{}"),
            ("null", "false"),
        ] {
            assert!(!is_equal(one, other), "{one} {other}");
        }
    }

    #[test]
    fn deeply_nested_json_is_compared_byte_by_byte() {
        let nested = |depth: usize, inside: &str| format!("{}{inside}{}", "[".repeat(depth), "]".repeat(depth));
        assert!(is_equal(&nested(31, "1"), &nested(31, " 1")));
        assert!(!is_equal(&nested(33, "1"), &nested(33, " 1")));
        let deeply_nested = nested(1_000_000, "");
        assert!(is_equal(&deeply_nested, &deeply_nested.clone()) && !is_equal(&deeply_nested, "[]"));
    }

    fn random_json() -> impl Strategy<Value = Value> {
        let scalar_json = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            any::<f64>().prop_map(Value::from),
            ".*".prop_map(Value::from),
        ];
        scalar_json.prop_recursive(4, 40, 5, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..5).prop_map(Value::from),
                prop::collection::btree_map(".{0,3}", inner, 0..5).prop_map(|map| map.into_iter().collect()),
            ]
        })
    }

    proptest! {
        #[test]
        fn json_texts_that_differ_in_white_space_are_equal_and_texts_of_other_values_are_not(value in random_json(), other in random_json()) {
            let (compact, pretty) = (value.to_string(), serde_json::to_string_pretty(&value).unwrap());
            prop_assert!(is_equal(&compact, &pretty));
            prop_assert_eq!(is_equal(&compact, &other.to_string()), value == other);
        }
    }
}
