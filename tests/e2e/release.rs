//! Tests of what a release consists of: the archive of `make dist`, the systemd units, the version of the image, and the packages of the
//! crates.

use std::{
    collections::BTreeSet,
    fs,
    os::unix::fs::PermissionsExt,
    path::Path,
    process::{Command, Output},
};

use drover_tests::without_cargo_variables;
use serde_json::Value;

use crate::markdown::{document, root};

const PROGRAMS: [&str; 2] = ["producer-api", "consumer-worker"];
const CRATES: [&str; 4] = ["queue-core", "drover-service", "producer-api", "consumer-worker"];

/// Returns the version in Cargo.toml.
fn version() -> String {
    let manifest = document("Cargo.toml");
    let (_, package) = manifest.split_once("[workspace.package]\n").unwrap();
    value_of(package, "version").trim_matches('"').to_owned()
}

/// Returns the value of a key in lines of `key = value` or `key=value`.
fn value_of<'a>(text: &'a str, key: &str) -> &'a str {
    let value = |line: &'a str| line.strip_prefix(key)?.trim_start().strip_prefix('=').map(str::trim_start);
    text.lines().find_map(value).unwrap_or_else(|| panic!("there is no {key}"))
}

fn cargo() -> Command {
    let mut cargo = Command::new(std::env::var("CARGO").unwrap_or_else(|_| "cargo".into()));
    without_cargo_variables(&mut cargo).current_dir(root());
    cargo
}

/// Writes programs that only print this version to a folder.
fn write_programs(folder: &Path, version: &str) {
    for program in PROGRAMS {
        let file = folder.join(program);
        fs::write(&file, format!("#!/bin/sh\necho {program} {version}\n")).unwrap();
        fs::set_permissions(&file, fs::Permissions::from_mode(0o755)).unwrap();
    }
}

/// Makes an archive with the programs in a folder.
fn make_archive(programs: &Path, dist: &Path) -> Output {
    let mut script = Command::new("bash");
    without_cargo_variables(&mut script).arg(root().join("scripts/dist.sh"));
    script.env("BINARIES", programs).env("DIST", dist).env("DOCKER", "none").output().unwrap()
}

fn output_text(program: &str, args: &[&str], folder: &Path) -> String {
    let output = Command::new(program).args(args).current_dir(folder).output().unwrap();
    assert!(output.status.success(), "{program} {args:?}: {output:?}");
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn release_archive_has_the_programs_the_units_the_documents_the_licences_and_a_checksum() {
    let version = version();
    let (programs, dist) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    write_programs(programs.path(), "0.0.7");
    let refused = make_archive(programs.path(), dist.path());
    assert!(!refused.status.success());
    assert!(String::from_utf8_lossy(&refused.stderr).contains(&format!("producer-api {version}")), "{refused:?}");

    write_programs(programs.path(), &version);
    let output = make_archive(programs.path(), dist.path());
    assert!(output.status.success(), "{output:?}");
    let name = format!("drover-{version}-{}-linux", std::env::consts::ARCH);
    let archive = format!("{name}.tar.gz");
    assert_eq!(output_text("sha256sum", &["--check", "SHA256SUMS"], dist.path()), format!("{archive}: OK\n"));
    let list = output_text("tar", &["--list", "--file", &archive], dist.path());
    let files: BTreeSet<&str> = list.lines().filter(|line| !line.ends_with('/')).collect();
    let expected_files = [
        "bin/consumer-worker",
        "bin/producer-api",
        "systemd/drover-api.service",
        "systemd/drover-worker.service",
        "default.toml",
        "README.md",
        "CHANGELOG.md",
        "SECURITY.md",
        "LICENSE",
        "LICENSE-APACHE",
        "LICENSE-MIT",
        "LICENSES-OF-DEPENDENCIES",
    ];
    let documents =
        fs::read_dir(root().join("docs")).unwrap().map(Result::unwrap).filter(|entry| entry.path().is_file());
    let documents = documents.map(|entry| format!("{name}/docs/{}", entry.file_name().into_string().unwrap()));
    let expected_files: Vec<_> = expected_files.iter().map(|file| format!("{name}/{file}")).chain(documents).collect();
    assert_eq!(files, expected_files.iter().map(String::as_str).collect());

    output_text("tar", &["--extract", "--file", &archive], dist.path());
    let folder = dist.path().join(&name);
    for program in PROGRAMS {
        assert_eq!(output_text(&format!("./bin/{program}"), &["--version"], &folder), format!("{program} {version}\n"));
    }
    assert_eq!(fs::read_to_string(folder.join("default.toml")).unwrap(), document("config/default.toml"));
    let licences = fs::read_to_string(folder.join("LICENSES-OF-DEPENDENCIES")).unwrap();
    for name in ["redis", "axum", "ring", "libmimalloc-sys"] {
        let (_, licence) = licences.split_once(&format!("\n==== {name} ")).unwrap_or_else(|| panic!("no {name}"));
        let (licence, _) = licence.split_once("\n==== ").unwrap();
        assert!(licence.contains("\n---- ") || licence.contains("\nThe file "), "{name} has no text: {licence}");
    }

    let first_bytes = fs::read(dist.path().join(&archive)).unwrap();
    assert!(make_archive(programs.path(), dist.path()).status.success());
    let second_bytes = fs::read(dist.path().join(&archive)).unwrap();
    assert!(first_bytes == second_bytes, "equal contents make equal archives");
}

/// Returns the seconds of a duration such as `25s` in the configuration or in a systemd unit.
fn parse_seconds(duration: &str) -> u64 {
    duration.trim_matches('"').strip_suffix('s').unwrap().parse().unwrap()
}

#[test]
fn systemd_units_are_valid_and_give_the_services_more_time_than_their_grace_period() {
    let defaults = document("config/default.toml");
    let folder = tempfile::tempdir().unwrap();
    for (unit, program, section) in
        [("drover-api.service", "producer-api", "[api]"), ("drover-worker.service", "consumer-worker", "[worker]")]
    {
        let text = document(&format!("deploy/systemd/{unit}"));
        let (_, defaults) = defaults.split_once(&format!("\n{section}\n")).unwrap();
        let grace = parse_seconds(value_of(defaults, "shutdown_grace"));
        assert!(
            parse_seconds(value_of(&text, "TimeoutStopSec")) > grace + 5,
            "{unit}: 5 s are the stop_grace of programs"
        );
        let start = value_of(&text, "ExecStart").strip_prefix("/usr/local/bin/").unwrap();
        assert_eq!(start, format!("{program} --config %d/drover.toml"));

        // For `systemd-analyze`, the program that the systemd unit starts must exist.
        let file = folder.path().join(unit);
        fs::write(&file, text.replace(&format!("/usr/local/bin/{program}"), "/bin/true")).unwrap();
        let output = Command::new("systemd-analyze").args(["verify", "--man=no"]).arg(&file).output().unwrap();
        let complaints = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success() && !complaints.contains(unit), "{complaints}");
    }
}

#[test]
fn compose_file_has_the_image_of_this_version_and_builds_it_once() {
    let compose = document("docker-compose.yml");
    let image = format!("\n  image: ${{DROVER_IMAGE:-drover:{}}}\n", version());
    assert!(compose.contains(&image), "docker-compose.yml has another version than Cargo.toml");
    assert_eq!(compose.matches("\n    build: .\n").count(), 1, "one service builds the image");
}

#[test]
fn packages_for_node_have_the_version_of_the_release() {
    let package = |name| -> Value {
        serde_json::from_str(&document(&format!("clients/typescript/packages/{name}/package.json"))).unwrap()
    };
    assert_eq!(package("drover-client")["version"], version());
    assert_eq!(package("drover-nestjs")["version"], version());
    assert_eq!(package("drover-nestjs")["dependencies"]["drover-client"], version());
}

#[test]
fn package_of_each_crate_has_its_sources_its_readme_and_the_licences_only() {
    for name in CRATES {
        let output = cargo().args(["package", "--list", "--allow-dirty", "--package", name]).output().unwrap();
        assert!(output.status.success(), "{output:?}");
        let list = String::from_utf8(output.stdout).unwrap();
        let files: BTreeSet<&str> = list.lines().collect();
        for file in ["Cargo.toml", "README.md", "LICENSE-APACHE", "LICENSE-MIT", "src/lib.rs"] {
            assert!(files.contains(file), "the package of {name} has no {file}");
        }
        let is_expected = |file: &&str| {
            ["src/", "examples/", "Cargo.", "LICENSE-"].iter().any(|start| file.starts_with(start))
                || ["README.md", "default.toml", ".cargo_vcs_info.json"].contains(file)
        };
        let others: Vec<&str> = files.into_iter().filter(|file| !is_expected(file)).collect();
        assert!(others.is_empty(), "{name}: {others:?}");
    }
}
