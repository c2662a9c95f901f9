//! The two versions of Drover in a test of upgrades. `scripts/build-before.sh` builds the previous version.

use std::{
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::OnceLock,
};

use drover_tests::{binary, without_cargo_variables};

/// A version of Drover.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Version {
    /// The previous version: the last release before the tested version, or, without a release, the commit before it.
    Before,
    /// The version that is tested.
    This,
}

impl Version {
    /// Returns the file of a binary of this version.
    pub(crate) fn binary(self, name: &str) -> PathBuf {
        match self {
            Self::Before => version_before().binaries.join(name),
            Self::This => binary(name),
        }
    }
}

/// Builds the binaries of the previous version and of the tested version. A test that starts processes begins with `build_both_versions`,
/// because a build takes minutes.
pub(crate) fn build_both_versions() {
    for version in [Version::Before, Version::This] {
        version.binary("producer-api");
    }
}

/// Returns a file in the sources of the previous version.
pub(crate) fn source_of_version_before(path: &str) -> PathBuf {
    version_before().sources.join(path)
}

/// The folders with the sources and the binaries of the previous version of Drover.
struct VersionBefore {
    sources: PathBuf,
    binaries: PathBuf,
}

/// Returns the folders of the previous version. The first call of `version_before` builds the previous version.
fn version_before() -> &'static VersionBefore {
    static VERSION: OnceLock<VersionBefore> = OnceLock::new();
    VERSION.get_or_init(|| {
        // target/debug/deps/<test> → target
        let test = std::env::current_exe().unwrap();
        let target = test.ancestors().nth(3).unwrap();
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
        let mut script = Command::new(root.join("scripts/build-before.sh"));
        without_cargo_variables(&mut script)
            .env("CARGO_TARGET_DIR", target)
            .stdin(Stdio::null())
            .stderr(Stdio::inherit());
        let output = script.output().unwrap();
        assert!(output.status.success(), "the previous version does not build: the reason is above");
        let folders = String::from_utf8(output.stdout).unwrap();
        let [sources, binaries] = folders.lines().map(PathBuf::from).collect::<Vec<_>>().try_into().unwrap();
        VersionBefore { sources, binaries }
    })
}
