//! Tells what is wrong with a key of the configuration, in words that do not depend on any library and show no value: the value
//! may be a secret.

use std::fmt;

use serde::de::{self, DeserializeOwned, Expected, Unexpected};

use super::tree::Tree;
use crate::nearest::{no_such, unknown};

/// A value can't be what its key expects.
#[derive(Debug, thiserror::Error)]
#[error("{text}")]
pub(super) struct Mistake {
    text: String,
    kind: Kind,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    UnknownKey,
    MissingKey,
    Value,
}

/// A mistake, and the path of keys that it was found at.
#[derive(Debug)]
pub(super) struct Found {
    /// Empty for the whole.
    pub(super) path: String,
    /// Where the value was set.
    origin: Option<String>,
    mistake: Mistake,
}

impl Tree {
    /// Reads a value of a type from the tree.
    pub(super) fn read<T: DeserializeOwned>(self) -> Result<T, Found> {
        serde_path_to_error::deserialize(self.clone()).map_err(|error| {
            let path = error.path().to_string();
            let path = if path == "." { String::new() } else { path };
            let origin = self.origin_of(error.path()).map(str::to_owned);
            Found { path, origin, mistake: error.into_inner() }
        })
    }
}

impl Found {
    pub(super) fn is_unknown_key(&self) -> bool {
        self.mistake.kind == Kind::UnknownKey
    }

    pub(super) fn is_missing_key(&self) -> bool {
        self.mistake.kind == Kind::MissingKey
    }

    /// As a part of a mistake that is found further up, whose path goes before this one's.
    pub(super) fn within<E: de::Error>(&self) -> E {
        E::custom(if self.path.is_empty() { self.mistake.text.clone() } else { format!(".{self}") })
    }
}

impl fmt::Display for Found {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (path, text) = (&self.path, &self.mistake.text);
        match text.strip_prefix('.') {
            _ if path.is_empty() => f.write_str(text)?,
            // The rest of the path stands in the text.
            Some(rest) => write!(f, "{path}.{rest}")?,
            None => write!(f, "{path}: {text}")?,
        }
        self.origin.as_ref().map_or(Ok(()), |origin| write!(f, " ({origin})"))
    }
}

impl Mistake {
    fn new(kind: Kind, text: String) -> Self {
        Self { text, kind }
    }
}

impl de::Error for Mistake {
    fn custom<T: fmt::Display>(text: T) -> Self {
        Self::new(Kind::Value, text.to_string())
    }

    fn invalid_type(found: Unexpected<'_>, expected: &dyn Expected) -> Self {
        Self::custom(format_args!("is {}, expected {}", kind(&found), words(expected)))
    }

    fn invalid_value(_: Unexpected<'_>, expected: &dyn Expected) -> Self {
        Self::custom(format_args!("expected {}", words(expected)))
    }

    fn invalid_length(_: usize, expected: &dyn Expected) -> Self {
        Self::custom(format_args!("expected {}", words(expected)))
    }

    fn unknown_variant(word: &str, known: &'static [&'static str]) -> Self {
        Self::custom(no_such(word, known.iter().copied()))
    }

    fn unknown_field(key: &str, known: &'static [&'static str]) -> Self {
        Self::new(Kind::UnknownKey, format!("\"{key}\" is {}", unknown(key, known.iter().copied())))
    }

    fn missing_field(key: &'static str) -> Self {
        Self::new(Kind::MissingKey, format!("the key {key} is missing; write it too"))
    }

    fn duplicate_field(key: &'static str) -> Self {
        Self::custom(format_args!("the key {key} stands there twice; remove one"))
    }
}

/// The kind of a value, but not its content.
fn kind(found: &Unexpected<'_>) -> &'static str {
    match found {
        Unexpected::Bool(true) => "true",
        Unexpected::Bool(false) => "false",
        Unexpected::Unsigned(_) | Unexpected::Signed(_) => "a whole number",
        // From there on no whole number is one of 64 bits, and is read as this.
        Unexpected::Float(number) if number.abs() >= 1e18 => "a number that is too large",
        Unexpected::Float(_) => "a number with a fraction",
        Unexpected::Seq => "a list",
        Unexpected::Map => "a table",
        Unexpected::Unit | Unexpected::Option => "null",
        _ => "a text",
    }
}

/// The expectation, without the names of types.
fn words(expected: &dyn Expected) -> String {
    let text = expected.to_string();
    let words = match text.as_str() {
        "a string" | "a borrowed string" => "a text",
        "path string" => "a path, as a text",
        "a boolean" => "true or false",
        "a sequence" => "a list",
        "a map" | "an object" => "a table",
        "u8" | "u16" | "u32" | "u64" | "usize" => "a whole number, 0 or more",
        "i8" | "i16" | "i32" | "i64" | "isize" => "a whole number",
        "f32" | "f64" => "a number",
        "a nonzero u32" => "a whole number, 1 or more",
        other if other.starts_with("struct ") => "a table",
        _ => return text,
    };
    words.into()
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use crate::config::load::tests::load;

    type Config = crate::Config;

    #[test]
    fn errors_tell_the_key_and_what_is_expected_in_no_librarys_words() {
        for (file, told) in [
            ("[api]\nbody_limit = \"many\"", "api.body_limit: is a text, expected a whole number, 0 or more"),
            ("[api]\nbody_limit = -1", "api.body_limit: expected a whole number, 0 or more"),
            ("[api]\nbody_limit = 1.5", "api.body_limit: "),
            ("[api]\nbody_limit = []", "api.body_limit: is a list, expected a whole number, 0 or more"),
            ("worker = 5", "worker: is a whole number, expected a table"),
            ("[redis]\ntimeout = \"soon\"", "redis.timeout: expected a duration"),
            ("[redis]\ntimeout = true", "redis.timeout: is true, expected a duration"),
            ("[redis]\nurl = 5", "redis.url: is a whole number, expected a text"),
            ("[api]\nbind = 8080", "api.bind: is a whole number, expected a text"),
            ("[api]\ntls = { key = \"a\" }", "api.tls: the key certificate is missing"),
            ("[api]\ncors_origins = \"https://a\"", "api.cors_origins: is a text, expected a list"),
            ("[traces]\nsample_ratio = \"all\"", "traces.sample_ratio: is a text, expected a number"),
            ("[log]\nformat = 5", "log.format: expected one of pretty, json"),
            ("[queues.q]\nbackoff = { type = \"fixd\" }", "queues.q.backoff.type: \"fixd\" is unknown: did you mean"),
            ("[queues.q]\nbackoff = { type = 5 }", "queues.q.backoff.type: expected one of fixed, exponential"),
            ("[queues.q]\nbackoff = [1]", "queues.q.backoff: is a list, expected a table"),
            ("[queues.q]\nrate_limit = { max = 5 }", "queues.q.rate_limit: the field \"duration\" is required"),
            ("[queues.q]\nexclusive = 5", "queues.q.exclusive: is a whole number, expected true, false, or"),
            ("[queues.q]\nmax_attempts = \"a\"", "queues.q.max_attempts: is a text, expected a whole number"),
            ("[queues.q]\nmax_attempts = 0", "queues.q.max_attempts: must be 1 to 1000"),
            (
                "[queues.\"user-*\"]\nmax_atempts = 1",
                "queues.user-*.max_atempts: \"max_atempts\" is unknown: did you mean",
            ),
            ("[auth]\nkeys = [\"drv_ops_x\"]", "auth.keys[0]: is a text, expected a table"),
            ("[auth]\nkeys = [{ id = \"ops\" }]", "auth.keys[0]: the key hash is missing"),
            ("a = 1\na = 2", "line 2, column 1 is not valid TOML"),
        ] {
            let error = load(file, &[]).unwrap_err();
            assert!(error.contains(told), "{told:?} is not in {error}");
            for word in
                ["invalid type", "invalid value", "missing field", "unit variant", "struct ", "usize", "u64", "serde"]
            {
                assert!(!error.contains(word), "{error}");
            }
        }
        let error = load("", &[("DROVER__API__BODY_LIMIT", "many")]).unwrap_err();
        assert!(error.contains("api.body_limit: is a text") && error.contains("(set by DROVER__API__BODY_LIMIT)"));
        for (name, text, told) in [
            ("DROVER__REDIS", "{ timeout = \"soon\" }", "redis.timeout: expected a duration"),
            ("DROVER__API__TLS", "{ key = \"a\" }", "api.tls: the key certificate is missing"),
            ("DROVER__LOG", "{ \"formatt\": 5 }", "log.formatt: \"formatt\" is unknown"),
            (
                "DROVER__API",
                "{\"body_limit\": 99999999999999999999999999}",
                "api.body_limit: is a number that is too large, expected a whole number",
            ),
            ("DROVER__AUTH__KEYS", "[{ id = 5 }]", "auth.keys[0].id: is a whole number"),
        ] {
            let error = load("[redis]\nurl = \"redis://a\"\n[log]\nfilter = \"warn\"", &[(name, text)]).unwrap_err();
            assert!(error.contains(told) && error.ends_with(&format!("{name})")), "{error}");
        }
        let error = load("", &[("DROVER__AUTH__KEYS", "[hunter2")]).unwrap_err();
        assert!(error.contains("auth.keys: is neither valid JSON") && !error.contains("hunter2"), "{error}");
    }

    #[test]
    fn a_mistake_in_a_file_is_told_with_the_file() {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(b"[queues.\"a.b\"]\nmax_attempts = \"a\"").unwrap();
        let within = format!("(in {})", file.path().display());
        let load = |value: &str| {
            let variable = [("DROVER__QUEUES__a.b__MAX_LAPSES".into(), value.into())];
            Config::load_with(Some(file.path()), variable).unwrap_err().to_string()
        };
        assert!(load("5").contains("queues.a.b.max_attempts: is a text"), "{}", load("5"));
        assert!(load("5").ends_with(&within), "{}", load("5"));
        // Of two mistakes the one whose key comes first is told each time.
        assert!((0..8).all(|_| load("b").ends_with(&within)));
    }

    #[test]
    fn names_with_dots_and_brackets_are_no_paths() {
        for (file, told) in [
            ("\"redis.url\" = \"redis://a\"", "\"redis.url\" is unknown"),
            ("\"api[1000000000]\" = 1", "\"api[1000000000]\" is unknown"),
            ("[redis]\n\"url.a\" = 1", "\"url.a\" is unknown"),
            ("[api]\nbody_limit = 99999999999999999999", "a number in it is too large"),
        ] {
            let error = load(file, &[]).unwrap_err();
            assert!(error.contains(told), "{error}");
        }
        let config = load("[queues.\"a.b\"]\nmax_lapses = 7\n[queues.\"a.*\"]\nmax_attempts = 7", &[]).unwrap();
        let settings = config.queues.of(&"a.b".parse().unwrap());
        assert_eq!(serde_json::to_value(settings).unwrap(), serde_json::json!({"max_lapses": 7, "max_attempts": 7}));
    }
}
