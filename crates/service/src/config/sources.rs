//! The sources of a configuration and their merging: the defaults, a TOML file, and environment variables. Tables are merged
//! key by key; any other value of a later source replaces the value of an earlier source.

use std::{fs, io, path::Path};

use config::{ConfigError, Map};
use serde::{Deserialize, de::DeserializeOwned};
use serde_json::Value;
use serde_path_to_error::Segment;

use super::tree::{self, Mistake, ProblemKind};

/// The defaults of the configuration, as TOML.
pub(super) const DEFAULT_FILE: &str = include_str!("../../default.toml");

/// The key under which the whole tree is nested: the crate `config` interprets top-level keys as paths, but not the keys
/// below them.
const ROOT_KEY: &str = "drover";

/// The sources of a configuration. Each source of a configuration overrides the sources before it.
#[derive(Debug, Clone)]
pub(super) struct Sources(Vec<Source>);

#[derive(Debug, Clone)]
struct Source {
    /// The text with which errors name this source (`in FILE`, `set by VARIABLE`); `None` for the defaults.
    origin: Option<String>,
    values: Value,
    variable: Option<Variable>,
}

/// A variable of the environment, and the path of keys that it sets.
#[derive(Debug, Clone)]
pub(super) struct Variable {
    pub(super) name: String,
    pub(super) path: Vec<String>,
    pub(super) text: String,
}

impl Sources {
    /// Returns the defaults as the only source.
    pub(super) fn defaults() -> Result<Self, String> {
        let values = parse_toml(DEFAULT_FILE, "config/default.toml")?;
        Ok(Self(vec![Source { origin: None, values, variable: None }]))
    }

    /// Returns a file as the only source. Error texts call the file `name`. Returns an error if the file can't be read or
    /// is not TOML.
    pub(super) fn from_file(path: &Path, name: &str) -> Result<Self, String> {
        let file_text = fs::read_to_string(path).map_err(|error| match error.kind() {
            io::ErrorKind::InvalidData => format!("{name}: the file is not UTF-8: write it in UTF-8"),
            _ => format!("can't read {name}: {error}"),
        })?;
        let values = parse_toml(&file_text, name)?;
        Ok(Self(vec![Source { origin: Some(format!("in {name}")), values, variable: None }]))
    }

    /// Adds the sources `over`, which override the sources of `self`.
    pub(super) fn overlaid_with(mut self, over: impl IntoIterator<Item = Self>) -> Self {
        self.0.extend(over.into_iter().flat_map(|Self(sources)| sources));
        self
    }

    /// Adds a variable that overrides the sources of `self`. The text of the variable is parsed as a number, true, false, a list
    /// or a table if possible.
    pub(super) fn overlaid_with_variable(mut self, variable: Variable) -> Self {
        let parsed_value = parse_scalar(&variable.text).or_else(|| parse_structure(&variable.text));
        self.0.push(variable.into_source(parsed_value));
        self
    }

    /// Returns whether a source has this top-level key.
    pub(super) fn has_section(&self, name: &str) -> bool {
        self.0.iter().any(|source| source.values.get(name).is_some())
    }

    /// Deserializes the merged sources. If a key does not accept the parsed value of a variable, the key gets the variable's
    /// text instead.
    pub(super) fn read<T: DeserializeOwned>(&self) -> Result<T, Mistake> {
        tree::read(self.merge_values()).or_else(|mistake| {
            let Some(with_text) = self.with_variable_as_text(&mistake) else { return Err(self.with_origin(mistake)) };
            match with_text.read() {
                // If the key accepts neither the parsed value of the variable nor its text, the mistake about the parsed
                // value is reported.
                Err(other) if is_same_key(&other, &mistake) && other.problem.kind == ProblemKind::Type => {
                    Err(self.with_origin(mistake))
                }
                read => read,
            }
        })
    }

    /// Merges the values of all sources.
    fn merge_values(&self) -> Value {
        let mut config_builder = config::Config::builder();
        for source in &self.0 {
            config_builder = config_builder.add_source(source.clone());
        }
        let merged_value = config_builder.build().and_then(|config_builder| config_builder.get(ROOT_KEY));
        merged_value.expect("values of JSON have a form in the crate config, and each source has the root")
    }

    /// Returns the sources of the configuration, but with the unparsed text of the environment variable that set the wrong
    /// value of `mistake`. Returns `None` if no variable set the whole wrong value, or if the wrong value is the unparsed text
    /// of its variable.
    fn with_variable_as_text(&self, mistake: &Mistake) -> Option<Self> {
        let (index, value) =
            self.0.iter().map(|source| source.value_at(mistake)).enumerate().rfind(|(_, value)| value.is_some())?;
        let variable = self.0[index].variable.as_ref()?;
        let is_whole_value = mistake.path.iter().map(ToString::to_string).eq(variable.path.iter().cloned());
        let mut sources = self.clone();
        sources.0[index] = variable.clone().into_source(None);
        (is_whole_value && !value?.is_string()).then_some(sources)
    }

    /// Adds to a mistake the source of the wrong value: the last source that sets the value. The source of a table is added
    /// only if no other source sets a part of the table.
    fn with_origin(&self, mut mistake: Mistake) -> Mistake {
        let mut setting_sources = self.0.iter().filter(|source| source.value_at(&mistake).is_some());
        if let Some(last) = setting_sources.next_back() {
            let is_table = last.value_at(&mistake).is_some_and(Value::is_object);
            if !is_table || setting_sources.next().is_none() {
                mistake.origin.clone_from(&last.origin);
            }
            if let Some(Value::String(text)) = last.value_at(&mistake)
                && last.variable.is_some()
                && text.trim_start().starts_with(['[', '{'])
            {
                mistake.problem.text = "is neither valid JSON nor a list or table in TOML".into();
            }
        }
        mistake
    }
}

impl config::Source for Source {
    fn clone_into_box(&self) -> Box<dyn config::Source + Send + Sync> {
        Box::new(self.clone())
    }

    fn collect(&self) -> Result<Map<String, config::Value>, ConfigError> {
        let values = config::Value::deserialize(&self.values).map_err(|error| ConfigError::Foreign(Box::new(error)))?;
        Ok(Map::from([(ROOT_KEY.into(), values)]))
    }
}

impl Source {
    /// Returns the value of this source at the path of a mistake in the configuration. If the path leads into a list, returns
    /// the whole list.
    fn value_at(&self, mistake: &Mistake) -> Option<&Value> {
        let keys = mistake.path.iter().map_while(|segment| match segment {
            Segment::Map { key } => Some(key),
            _ => None,
        });
        keys.into_iter().try_fold(&self.values, |value, key| value.get(key))
    }
}

impl Variable {
    fn into_source(self, value: Option<Value>) -> Source {
        let value = value.unwrap_or_else(|| self.text.clone().into());
        let nest_value = |value, key: &String| Value::Object([(key.clone(), value)].into_iter().collect());
        let values = self.path.iter().rev().fold(value, nest_value);
        Source { origin: Some(format!("set by {}", self.name)), values, variable: Some(self) }
    }
}

fn is_same_key(one: &Mistake, other: &Mistake) -> bool {
    one.path.to_string() == other.path.to_string()
}

fn parse_toml(toml_text: &str, name: &str) -> Result<Value, String> {
    let toml_table: toml::Table = toml_text.parse().map_err(|error: toml::de::Error| {
        if error.message().starts_with("invalid type: integer") {
            return format!("{name}: a number in it is too large or too small; a whole number has at most 64 bits");
        }
        // The error does not repeat the invalid line of the file, which may contain a secret.
        let text_before_error = error.span().and_then(|span| toml_text.get(..span.start)).unwrap_or_default();
        let line = text_before_error.matches('\n').count() + 1;
        let column_number = text_before_error.rsplit('\n').next().unwrap_or_default().chars().count() + 1;
        format!("{name}: line {line}, column {column_number} is not valid TOML: {}", error.message())
    })?;
    Ok(as_json(toml_table.into()))
}

/// Converts a TOML value to JSON; an instant becomes a text.
fn as_json(value: toml::Value) -> Value {
    match value {
        toml::Value::String(text) => text.into(),
        toml::Value::Integer(number) => number.into(),
        toml::Value::Float(number) => number.into(),
        toml::Value::Boolean(value) => value.into(),
        toml::Value::Datetime(instant) => instant.to_string().into(),
        toml::Value::Array(list) => list.into_iter().map(as_json).collect(),
        toml::Value::Table(table) => table.into_iter().map(|(key, value)| (key, as_json(value))).collect(),
    }
}

/// Parses a text that is a number, true or false.
fn parse_scalar(text: &str) -> Option<Value> {
    serde_json::from_str::<Value>(text).ok().filter(|value| value.is_number() || value.is_boolean())
}

/// Parses a text that is a list or a table in JSON or TOML.
fn parse_structure(text: &str) -> Option<Value> {
    let text = text.trim();
    if !text.starts_with(['[', '{']) {
        return None;
    }
    serde_json::from_str(text).ok().or_else(|| {
        let mut toml_table = parse_toml(&format!("it = {text}"), "").ok()?;
        toml_table
            .as_object_mut()?
            .remove("it")
            .filter(|_| toml_table.as_object().is_some_and(serde_json::Map::is_empty))
    })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use serde::Deserialize;

    use super::*;

    #[test]
    fn text_of_a_variable_is_converted_to_the_type_of_its_key() {
        #[derive(Deserialize)]
        struct OneKeyConfig<T> {
            key: T,
        }
        fn read_variable_text<T: DeserializeOwned>(text: &str) -> Result<T, String> {
            let variable = Variable { name: "DROVER__KEY".into(), path: vec!["key".into()], text: text.into() };
            let sources = Sources(Vec::new()).overlaid_with_variable(variable);
            sources.read().map(|OneKeyConfig { key }| key).map_err(|mistake| mistake.to_string())
        }
        assert_eq!(read_variable_text::<String>("5").unwrap(), "5");
        assert_eq!(read_variable_text::<String>("[a]").unwrap(), "[a]");
        assert_eq!(read_variable_text::<String>("[1]").unwrap(), "[1]");
        assert_eq!((read_variable_text::<u32>("5").unwrap(), read_variable_text::<bool>("true").unwrap()), (5, true));
        assert_eq!(read_variable_text::<Option<f64>>("0.5").unwrap(), Some(0.5));
        for list in [r#"["a", "b"]"#, "[ 'a', \"b\", ]"] {
            assert_eq!(read_variable_text::<Vec<String>>(list).unwrap(), ["a", "b"]);
        }
        for table in [r#"{"a": 1}"#, "{ a = 1 }"] {
            assert_eq!(read_variable_text::<BTreeMap<String, u32>>(table).unwrap(), BTreeMap::from([("a".into(), 1)]));
        }
        assert!(read_variable_text::<Vec<String>>("[a").unwrap_err().contains("neither valid JSON"));
        assert!(read_variable_text::<u32>("hunter2").unwrap_err().contains("is a text, expected a whole number"));
        assert!(
            read_variable_text::<u32>("-1")
                .unwrap_err()
                .contains("expected a whole number, 0 or more (set by DROVER__KEY)")
        );
        // A variable whose text begins with `[]` but continues after it is not a list.
        assert!(read_variable_text::<Vec<String>>("[]\nb = 1").is_err());
    }
}
