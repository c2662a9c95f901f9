//! The checkpoint of a watcher: a file with the place up to which the watcher has read the chain.

use std::{
    fs::{self, File},
    io::{self, ErrorKind, Write},
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};

/// The place up to which a watcher has read a chain. Drover has stored the payments of all earlier blocks.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Checkpoint {
    pub(crate) chain: u64,
    pub(crate) contract: String,
    /// The number of the first block that was not read.
    pub(crate) next_block: u64,
    /// The hash of the block before `next_block`, if the watcher has read that block.
    pub(crate) last_hash: Option<String>,
}

/// The file of a checkpoint.
pub(crate) struct CheckpointFile(PathBuf);

impl CheckpointFile {
    /// Returns the checkpoint file at this path; the file need not exist yet.
    pub(crate) fn new(path: PathBuf) -> Self {
        Self(path)
    }

    /// Reads the file; `None` if it does not exist.
    pub(crate) fn load(&self) -> io::Result<Option<Checkpoint>> {
        match fs::read(&self.0) {
            Ok(text) => Ok(Some(serde_json::from_slice(&text)?)),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Replaces the file atomically: after a crash at any instant, the file has the old or the new checkpoint.
    pub(crate) fn save(&self, checkpoint: &Checkpoint) -> io::Result<()> {
        let mut new = self.0.clone().into_os_string();
        new.push(".new");
        let mut file = File::create(&new)?;
        file.write_all(&serde_json::to_vec(checkpoint)?)?;
        file.sync_all()?;
        fs::rename(&new, &self.0)?;
        // The rename is durable only when the folder has been synced to disk.
        let folder = self.0.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
        File::open(folder)?.sync_all()
    }
}
