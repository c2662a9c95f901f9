//! Tests of upgrades: data, running processes and configurations survive the change from the previous version to the tested version, and
//! the change back, as docs/UPGRADING.md promises. The tests use the binaries of the previous version and of the tested version.

#![allow(clippy::unwrap_used)] // An `unwrap` that panics fails its test.

mod deployment;
mod load;
mod receiver;
mod rolls;
mod stored_data;
mod versions;

use std::process::Command;

use drover_tests::without_drover_variables;

use versions::{Version, source_of_version_before};

#[test]
fn configuration_of_the_version_before_is_accepted() {
    let file = source_of_version_before("config/default.toml");
    for name in ["producer-api", "consumer-worker"] {
        let mut command = Command::new(Version::This.binary(name));
        let output = without_drover_variables(&mut command).arg("--print-config").arg("--config").arg(&file).output();
        let output = output.unwrap();
        assert!(output.status.success(), "{name}: {}", String::from_utf8_lossy(&output.stderr));
    }
}
