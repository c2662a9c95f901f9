//! The configuration of the handler `exec`, and the keys that the handlers `exec` and `http` share.

use std::{fmt, iter};

use queue_core::{DurationIn, Millis};
use serde::{Deserialize, Deserializer, Serialize, de::Error};

/// The time limit of a handler: 100 ms to 7 days. The `timeout` setting of a message has a wider range than the time
/// limit of a handler: 1 ms to 7 days.
pub type HandlerTimeout = DurationIn<100, 604_800_000>;

/// How a handler uses the body of the HTTP response, or the output of the program.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Output {
    /// The body or output becomes the message's result.
    #[default]
    Result,
    /// The handler ignores the body or output, and the message's result is null.
    Ignore,
}

/// Runs a program on each message. The program gets the data on its standard input.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ExecHandler {
    /// The program and its arguments.
    #[serde(deserialize_with = "command_line")]
    pub command: CommandLine,
    /// The time limit of one run of the program (default: 1 min).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout: Option<HandlerTimeout>,
    /// The time between SIGTERM and SIGKILL when the worker stops the program (default: 5 s).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stop_grace: Option<DurationIn<0, 60_000>>,
    /// The use of the program's standard output (default: `result`).
    #[serde(default)]
    pub output: Output,
}

impl ExecHandler {
    /// The default of `timeout`.
    pub const DEFAULT_TIMEOUT: Millis = Millis::from_secs(60);
    /// The default of `stop_grace`.
    pub const DEFAULT_STOP_GRACE: Millis = Millis::from_secs(5);
}

/// A program and its arguments, which are not passed through a shell. Logs and errors mask the value of an argument that sets
/// a variable (such as `TOKEN=…` after the program `env`), because the value may be a secret.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Vec<String>", into = "Vec<String>")]
pub struct CommandLine {
    /// The program: a path, or a name that is searched in `PATH`.
    pub program: String,
    /// The arguments of the program.
    pub arguments: Vec<String>,
}

impl fmt::Debug for CommandLine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(Vec::from(self.clone())).finish()
    }
}

/// Reads a command line from a list of texts. If the value is not a list, the error text shows how to write a list.
fn command_line<'de, D: Deserializer<'de>>(deserializer: D) -> Result<CommandLine, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged, expecting = "expected a list: write command = [\"python3\", \"job.py\"]")]
    enum WordList {
        List(Vec<String>),
    }
    let WordList::List(words) = WordList::deserialize(deserializer)?;
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

/// Converts a command line to its words, with the values of variables masked.
impl From<CommandLine> for Vec<String> {
    fn from(command: CommandLine) -> Self {
        iter::once(command.program).chain(command.arguments).map(mask_secret).collect()
    }
}

fn mask_secret(word: String) -> String {
    let is_variable_name = |name: &str| {
        name.starts_with(|c: char| c.is_ascii_uppercase() || c == '_')
            && name.bytes().all(|b| b.is_ascii_uppercase() || b.is_ascii_digit() || b == b'_')
    };
    match word.split_once('=') {
        Some((name, value)) if is_variable_name(name) && !value.is_empty() => format!("{name}=***"),
        _ => word,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn value_of_an_environment_variable_in_a_command_line_is_masked() {
        let words = ["env", "OTEL_HEADERS=a=hunter2", "_1=hunter2", "A=", "--a=b", "a=b", "job.py"].map(String::from);
        let command = CommandLine::try_from(words.to_vec()).unwrap();
        assert_eq!(command.arguments[0], "OTEL_HEADERS=a=hunter2");
        let masked_words = ["env", "OTEL_HEADERS=***", "_1=***", "A=", "--a=b", "a=b", "job.py"];
        assert_eq!(serde_json::to_value(&command).unwrap(), serde_json::json!(masked_words));
        assert_eq!(format!("{command:?}"), format!("{masked_words:?}"));
    }
}
