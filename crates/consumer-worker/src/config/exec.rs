//! The keys of the handler `exec`.

use queue_core::{Millis, Span};
use serde::{Deserialize, Deserializer, Serialize, de::Error};

use super::{Output, handler::HandlerTimeout};

/// Runs a program on each message, with the data on its standard input.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ExecHandler {
    /// The program and its arguments.
    #[serde(deserialize_with = "words")]
    pub command: CommandLine,
    /// When it must have ended. Defaults to 1 min.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout: Option<HandlerTimeout>,
    /// How long a program that is to stop has from SIGTERM to SIGKILL. Defaults to 5 s.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stop_grace: Option<Span<0, 60_000>>,
    /// What becomes of what it prints. Defaults to the result.
    #[serde(default)]
    pub output: Output,
}

impl ExecHandler {
    /// The default of `timeout`.
    pub const DEFAULT_TIMEOUT: Millis = Millis::from_secs(60);
    /// The default of `stop_grace`.
    pub const DEFAULT_STOP_GRACE: Millis = Millis::from_secs(5);
}

/// A program and its arguments, as they are; no shell reads them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Vec<String>", into = "Vec<String>")]
pub struct CommandLine {
    /// The program: a path, or a name that is looked for in `PATH`.
    pub program: String,
    /// Its arguments.
    pub arguments: Vec<String>,
}

/// As a list, and whoever writes one text is told how.
fn words<'de, D: Deserializer<'de>>(deserializer: D) -> Result<CommandLine, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged, expecting = "expected a list: write command = [\"python3\", \"job.py\"]")]
    enum Written {
        List(Vec<String>),
    }
    let Written::List(words) = Written::deserialize(deserializer)?;
    words.try_into().map_err(D::Error::custom)
}

impl TryFrom<Vec<String>> for CommandLine {
    type Error = &'static str;

    fn try_from(words: Vec<String>) -> Result<Self, &'static str> {
        if words.iter().any(|word| word.contains('\0')) {
            return Err("a program can't be given a NUL character");
        }
        let mut words = words.into_iter();
        match words.next() {
            Some(program) if !program.is_empty() => Ok(Self { program, arguments: words.collect() }),
            _ => Err("names no program; write command = [\"python3\", \"job.py\"]"),
        }
    }
}

impl From<CommandLine> for Vec<String> {
    fn from(command: CommandLine) -> Self {
        [vec![command.program], command.arguments].concat()
    }
}
