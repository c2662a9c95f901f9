//! The path of a file that the configuration names. Where a path belongs a secret may stand by mistake, so what does not look
//! like a path is not shown.

use std::{
    fmt,
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize, Serializer};

/// The path of a file. It is shown if it begins like a path or a file is there; any other text may be a secret.
#[derive(Clone, PartialEq, Eq, Deserialize)]
#[serde(transparent)]
pub struct FilePath(PathBuf);

impl FilePath {
    const HIDDEN: &str = "***";

    /// The path, if it may be shown.
    fn shown(&self) -> Option<&str> {
        let text = self.0.to_str()?;
        let begins_like_a_path = ["/", "./", "../"].iter().any(|beginning| text.starts_with(beginning));
        let may_be_a_path = !text.contains(char::is_control) && (begins_like_a_path || self.0.exists());
        may_be_a_path.then_some(text)
    }
}

impl AsRef<Path> for FilePath {
    fn as_ref(&self) -> &Path {
        &self.0
    }
}

impl fmt::Display for FilePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(
            self.shown().unwrap_or("*** (not shown: there is no such file, and it does not begin with / or ./)"),
        )
    }
}

impl fmt::Debug for FilePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.shown().unwrap_or(Self::HIDDEN))
    }
}

impl Serialize for FilePath {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.shown().unwrap_or(Self::HIDDEN))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_does_not_look_like_a_path_is_not_shown() {
        let shown = |text: &str| {
            let path = FilePath(text.into());
            assert_eq!(format!("{path:?}"), serde_json::to_value(&path).unwrap());
            format!("{path:?} {path}")
        };
        // Tests run in the folder of the crate.
        for path in ["/nowhere/keys.toml", "./keys.toml", "../keys.toml", "Cargo.toml"] {
            assert_eq!(shown(path), format!("{path} {path}"));
        }
        for secret in
            ["hunter2", "drv_ops_hunter2", "whsec_hunter2/a", "-----BEGIN PRIVATE KEY-----\nhunter2", "/\nhunter2"]
        {
            assert!(shown(secret).starts_with("*** ***") && !shown(secret).contains("hunter2"), "{}", shown(secret));
        }
    }
}
