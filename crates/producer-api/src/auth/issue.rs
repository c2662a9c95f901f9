//! The command `producer-api key`, which makes an API key.

use std::error::Error;

use queue_core::{Timestamp, settings::RateLimit};
use serde::Serialize;
use serde_json::Value;
use service::{
    config::{ApiKey, KeyId, QueuePattern, Scope},
    wording,
};

use super::keyring::Secret;

/// Make an API key
///
/// The first line of the output is the key, for its owner; it is stored nowhere and never shown again. The second line of the
/// output is for the configuration, within `auth.keys = […]` or the `keys = […]` of `auth.keys_file`; it has only the key's
/// hash.
#[derive(Debug, clap::Args)]
pub struct MakeKey {
    /// The id of the key's owner: 1 to 64 of A-Z a-z 0-9 _ . - ; several keys may have one id
    #[arg(long)]
    id: KeyId,
    /// The scopes of the key: enqueue, read, consume, manage
    #[arg(long, value_delimiter = ',', required = true)]
    scopes: Vec<Scope>,
    /// The queues on which the key has these scopes, such as mails,user-*
    #[arg(long, value_delimiter = ',', default_value = "*")]
    queues: Vec<QueuePattern>,
    /// The maximum number of requests with all keys of the id in any window of a duration, such as 100/1m
    #[arg(long, value_name = "MAX/DURATION", value_parser = parse_rate_limit)]
    rate_limit: Option<RateLimit>,
    /// The instant at which the key expires, such as 2030-01-31T00:00:00Z
    #[arg(long, value_name = "INSTANT", value_parser = parse_instant)]
    expires_at: Option<Timestamp>,
}

impl MakeKey {
    /// Creates an API key, and returns the text to print: the key, and the line of the configuration for the key.
    ///
    /// # Errors
    ///
    /// Returns an error if the arguments contradict each other, or if the operating system can't generate random bytes.
    pub fn run(self) -> Result<String, Box<dyn Error + Send + Sync>> {
        let Self { id, scopes, queues, rate_limit, expires_at } = self;
        let secret = Secret::generate(&id)?;
        let key = ApiKey { id, hash: secret.hash(), scopes: scopes.try_into()?, queues, rate_limit, expires_at };
        key.validate()?;
        let mut line = String::new();
        key.serialize(toml::ser::ValueSerializer::new(&mut line))?;
        Ok(format!("{}\n{line},\n", secret.expose()))
    }
}

fn parse_rate_limit(text: &str) -> Result<RateLimit, String> {
    let parsed_limit = text.split_once('/').and_then(|(max, duration)| {
        let duration = serde_json::from_value(Value::String(duration.into())).ok()?;
        Some(RateLimit { max: max.parse().ok()?, duration })
    });
    parsed_limit.ok_or_else(|| "expected a number and a duration, such as 100/1m".into())
}

fn parse_instant(text: &str) -> Result<Timestamp, String> {
    serde_json::from_value(Value::String(text.into())).map_err(|error| wording::value_mistake(&error))
}

#[cfg(test)]
mod tests {
    use clap::Parser;
    use serde::Deserialize;

    use super::{super::keyring, *};

    #[derive(Parser)]
    struct Command {
        #[command(flatten)]
        make_key: MakeKey,
    }

    fn run_command(arguments: &str) -> Result<(String, ApiKey), String> {
        #[derive(Deserialize)]
        struct KeysFile {
            keys: Vec<ApiKey>,
        }
        let command = Command::try_parse_from(format!("key {arguments}").split(' ')).map_err(|e| e.to_string())?;
        let printed_text = command.make_key.run().map_err(|error| error.to_string())?;
        let (key, line) = printed_text.split_once('\n').unwrap();
        let mut file: KeysFile = toml::from_str(&format!("keys = [\n{line}]")).unwrap();
        Ok((key.to_owned(), file.keys.remove(0)))
    }

    #[test]
    fn command_key_prints_a_key_and_its_line_for_the_configuration() {
        let (secret, key) = run_command("--id ops --scopes enqueue,read").unwrap();
        assert!(secret.starts_with("drv_ops_"));
        assert_eq!((key.id.as_str(), &key.hash), ("ops", &keyring::hash(&secret)));
        assert!(key.allows(Scope::Read, "any") && !key.allows(Scope::Manage, "any"));
        let (_, key) = run_command(
            "--id a.b --scopes consume --queues mails,user-* --rate-limit 100/1m --expires-at 2030-01-31T00:00:00Z",
        )
        .unwrap();
        assert!(key.allows(Scope::Consume, "user-1") && !key.allows(Scope::Consume, "mail"));
        assert_eq!(*key.rate_limit.unwrap().duration, queue_core::Millis::from_secs(60));
        assert_eq!(key.expires_at.unwrap().to_string(), "2030-01-31T00:00:00.000Z");
    }

    #[test]
    fn command_key_refuses_a_wrong_argument_with_the_expected_form() {
        for (arguments, expected) in [
            ("--id ops", "--scopes"),
            ("--scopes read", "--id"),
            ("--id a/b --scopes read", "a key's id is"),
            ("--id ops --scopes raed", "did you mean \"read\"?"),
            ("--id ops --scopes read --queues a*b", "neither the name of a queue"),
            ("--id ops --scopes read --rate-limit 100", "such as 100/1m"),
            ("--id ops --scopes read --rate-limit 100/100ms", "whole seconds"),
            ("--id ops --scopes read --expires-at soon", "it is \"soon\", and must be "),
        ] {
            let error = run_command(arguments).unwrap_err();
            assert!(error.contains(expected), "{expected:?} is not in {error}");
        }
    }
}
