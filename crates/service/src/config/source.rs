//! The sources of a configuration, which the crate `config` lays over each other: texts in TOML, and variables of the
//! environment. They are ours, because the crate's own `Environment` puts names in lower case and its `File` takes another
//! file for one that is missing, reads no pipe, and shows the line that it can't read, which may hold a secret.

use std::{error::Error, fs, io, path::Path};

use config::{
    Config, ConfigBuilder, ConfigError, FileFormat, Format, Map, Source, Value, ValueKind, builder::DefaultState,
};
use serde::de::IgnoredAny;

/// The defaults.
pub(super) const DEFAULT: &str = include_str!("../../../../config/default.toml");
/// The name that a whole configuration has for the crate, which takes a dot or bracket in an outermost name for a path, and
/// every name further within as it is written.
pub(super) const ROOT: &str = "drover";
/// The origin of a value that is a variable's text begins so; that of what stands within a text of TOML or JSON begins with "in".
const SET_BY: &str = "set by ";

/// The defaults, over which other sources may be laid.
pub(super) fn defaults() -> ConfigBuilder<DefaultState> {
    Config::builder().add_source(Toml { text: DEFAULT.into(), file: None })
}

/// A text in TOML.
#[derive(Debug, Clone)]
pub(super) struct Toml {
    text: String,
    /// Where it stands, if it is not the defaults.
    file: Option<String>,
}

impl Toml {
    /// Reads a file, which is told as `file`.
    ///
    /// # Errors
    ///
    /// Why it can't be read.
    pub(super) fn of_file(path: &Path, file: &str) -> Result<Self, String> {
        let text = fs::read_to_string(path).map_err(|error| match error.kind() {
            io::ErrorKind::InvalidData => format!("{file}: the file is not UTF-8: write it in UTF-8"),
            _ => format!("can't read {file}: {error}"),
        })?;
        Ok(Self { text, file: Some(file.to_owned()) })
    }

    /// The mistake in the text, without the text itself: a secret may stand there.
    fn tell(&self, error: &(dyn Error + 'static)) -> String {
        let file = self.file.as_deref().unwrap_or("config/default.toml");
        let Some(error) = error.downcast_ref::<toml::de::Error>() else {
            return format!("{file}: a number in it is too large or too small; a whole number takes 64 bits at most");
        };
        let before = error.span().and_then(|span| self.text.get(..span.start)).unwrap_or_default();
        let line = before.matches('\n').count() + 1;
        let column = before.rsplit('\n').next().unwrap_or_default().chars().count() + 1;
        format!("{file}: line {line}, column {column} is not valid TOML: {}", error.message())
    }
}

impl Source for Toml {
    fn clone_into_box(&self) -> Box<dyn Source + Send + Sync> {
        Box::new(self.clone())
    }

    fn collect(&self) -> Result<Map<String, Value>, ConfigError> {
        let origin = self.file.as_ref().map(|file| format!("in {file}"));
        let table = Format::parse(&FileFormat::Toml, origin.as_ref(), &self.text)
            .map_err(|error| ConfigError::Message(self.tell(error.as_ref())))?;
        Ok(Map::from([(ROOT.into(), table.into())]))
    }
}

/// A variable of the environment, and the path of keys that it sets.
#[derive(Debug, Clone)]
pub(super) struct Setting {
    pub(super) variable: String,
    pub(super) path: Vec<String>,
    pub(super) text: String,
}

impl Setting {
    /// A table is read at once, so that it is merged with other tables; any other text becomes what its key expects.
    pub(super) fn value(&self) -> Value {
        let table = structure(&self.text, Some(&format!("in {}", self.variable)));
        table
            .filter(|table| matches!(table.kind, ValueKind::Table(_)))
            .unwrap_or_else(|| Value::new(Some(&format!("{SET_BY}{}", self.variable)), self.text.clone()))
    }
}

impl Source for Setting {
    fn clone_into_box(&self) -> Box<dyn Source + Send + Sync> {
        Box::new(self.clone())
    }

    fn collect(&self) -> Result<Map<String, Value>, ConfigError> {
        let within = |value, key: &String| Map::from([(key.clone(), value)]).into();
        Ok(Map::from([(ROOT.into(), self.path.iter().rev().fold(self.value(), within))]))
    }
}

/// Whether a value is the text of a variable, which becomes what its key expects.
pub(super) fn is_variable(value: &Value) -> bool {
    value.origin().is_some_and(|origin| origin.starts_with(SET_BY))
}

/// The list or table that a text is, as JSON or as TOML.
pub(super) fn structure(text: &str, origin: Option<&String>) -> Option<Value> {
    let text = text.trim();
    if !text.starts_with(['[', '{']) {
        return None;
    }
    let (format, text) = match serde_json::from_str::<IgnoredAny>(text) {
        Ok(_) => (FileFormat::Json, format!("{{\"it\": {text}}}")),
        Err(_) => (FileFormat::Toml, format!("it = {text}")),
    };
    let mut table = Format::parse(&format, origin, &text).ok()?;
    table.remove("it").filter(|_| table.is_empty())
}
