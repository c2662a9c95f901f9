//! Tests of the commands in README.md and docs/API.md: `make run` with a configuration, the check of Rust's version, the
//! installation of packages, and the creation of a key.

use std::{
    fs,
    net::TcpListener,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

use drover_tests::{ReservedPort, binary, eventually, without_drover_variables};
use reqwest::StatusCode;
use serde_json::Value;

use crate::{
    http_client,
    markdown::{code, document, root, section},
};

/// A folder with scripts that replace programs of the machine. The commands of a test have only this folder in their `PATH`.
struct FakePrograms(tempfile::TempDir);

impl FakePrograms {
    /// Returns a folder with links to the few programs of the machine that the scripts need.
    fn new() -> Self {
        let programs = Self(tempfile::tempdir().unwrap());
        for tool in ["bash", "cat", "chmod", "dirname", "env", "expand", "grep", "make", "rm", "sed", "sh", "tee"] {
            let paths = ["/usr/bin", "/bin"].map(|folder| Path::new(folder).join(tool));
            let found_file = paths.iter().find(|file| file.exists()).unwrap_or_else(|| panic!("there is no {tool}"));
            std::os::unix::fs::symlink(found_file, programs.0.path().join(tool)).unwrap();
        }
        programs
    }

    fn with_program(self, name: &str, script: &str) -> Self {
        let program_file = self.0.path().join(name);
        fs::write(&program_file, format!("#!/bin/sh\n{script}\n")).unwrap();
        fs::set_permissions(&program_file, fs::Permissions::from_mode(0o755)).unwrap();
        self
    }

    /// Adds a fake program that only writes its name and its arguments into the file `calls`.
    fn with_call_recorder(self, name: &str) -> Self {
        let script = format!("echo {name} \"$@\" >>{}", self.calls_file().display());
        self.with_program(name, &script)
    }

    fn calls_file(&self) -> PathBuf {
        self.0.path().join("calls")
    }

    fn recorded_calls(&self) -> String {
        fs::read_to_string(self.calls_file()).unwrap_or_default()
    }

    fn command(&self, program: &str) -> Command {
        let mut command = Command::new(self.0.path().join(program));
        for name in ["CARGO", "RUSTC", "MAKEFLAGS", "MAKELEVEL", "CONFIG"] {
            command.env_remove(name);
        }
        command.current_dir(root()).env("PATH", self.0.path()).stdin(Stdio::null());
        command
    }
}

#[test]
fn too_old_rust_is_reported_with_instructions_before_anything_is_installed() {
    let needed_version =
        document("Cargo.toml").lines().find_map(|line| line.strip_prefix("rust-version = ")).unwrap().to_owned();
    let needed_version = needed_version.trim_matches('"');
    assert!(document("README.md").contains(&format!("Rust {needed_version} or newer")));
    for (cargo, rustc) in [("1.63.0", "1.63.0"), ("1.85.0", "1.85.0"), ("1.95.0", "1.63.0"), ("0.90.0", "1.95.0")] {
        let programs = FakePrograms::new()
            .with_program("cargo", &format!("echo 'cargo {cargo} (abc 2022-01-01)'"))
            .with_program("rustc", &format!("echo 'rustc {rustc} (abc 2022-01-01)'"))
            .with_program("id", "echo 1000")
            .with_call_recorder("apt-get")
            .with_call_recorder("sudo");
        for target in ["run", "test", "check", "bench", "tests", "fmt", "clients"] {
            let output = programs.command("make").arg(target).output().unwrap();
            let stderr = String::from_utf8(output.stderr).unwrap();
            assert!(!output.status.success(), "{target}: {stderr}");
            assert!(
                stderr.contains(&format!("Drover needs Rust {needed_version} or newer, and ")),
                "{target}: {stderr}"
            );
            assert!(stderr.contains("https://sh.rustup.rs"), "{target}: {stderr}");
        }
        assert_eq!(programs.recorded_calls(), "", "nothing was installed");
    }
    let programs_without_rust = FakePrograms::new();
    let output = programs_without_rust.command("make").arg("run").output().unwrap();
    assert!(String::from_utf8(output.stderr).unwrap().contains("cargo is not installed"));
    for recent in [needed_version, "1.100.0-nightly", "2.0.0"] {
        let programs = FakePrograms::new()
            .with_program("cargo", &format!("echo cargo {recent}"))
            .with_program("rustc", &format!("echo rustc {recent}"));
        let output = programs.command("sh").arg("scripts/rust.sh").output().unwrap();
        assert!(output.status.success(), "{recent}: {output:?}");
    }
}

#[test]
fn installed_package_starts_no_service_and_an_existing_service_is_not_changed() {
    for (was_there, has_policy) in [(false, false), (false, true), (true, false)] {
        let folder = tempfile::tempdir().unwrap();
        let policy_script = folder.path().join("policy-rc.d");
        if has_policy {
            fs::write(&policy_script, "#!/bin/sh\nexit 0\n").unwrap();
        }
        let programs = FakePrograms::new()
            .with_program("id", "echo 0")
            .with_program("dpkg-query", if was_there { "echo installed" } else { "exit 1" })
            .with_call_recorder("systemctl");
        // The script `apt-get` asks the program `policy-rc.d` before it starts a service, as Debian's maintainer scripts do.
        let apt_get = format!(
            "echo apt-get \"$@\" >>{0}\nif [ \"$1\" = install ] && [ -x {1} ]; then\n\
             {1} redis-server start || echo forbidden >>{0}\n{1} other start && echo other allowed >>{0}\nfi\nexit 0",
            programs.calls_file().display(),
            policy_script.display()
        );
        let programs = programs.with_program("apt-get", &apt_get);
        let output = programs
            .command("sh")
            .args(["scripts/install.sh", "redis-server", "redis-server", "redis-cli"])
            .env("POLICY_RC_D", &policy_script)
            .output()
            .unwrap();
        assert!(output.status.success(), "{output:?}");
        let recorded_calls = programs.recorded_calls();
        assert!(
            recorded_calls.contains("apt-get install -y -qq --no-install-recommends redis-server\n"),
            "{recorded_calls}"
        );
        let is_forbidden = !was_there && !has_policy;
        assert_eq!(recorded_calls.contains("forbidden\nother allowed"), is_forbidden, "{recorded_calls}");
        let disables_service = recorded_calls.contains("systemctl disable --quiet --now redis-server.service");
        assert_eq!(disables_service, !was_there, "only a service of a new package is stopped: {recorded_calls}");
        assert_eq!(policy_script.exists(), has_policy, "the policy of the machine is unchanged");
    }
    // The script install.sh installs nothing if all programs that it must install exist already.
    let programs = FakePrograms::new()
        .with_program("redis-server", "")
        .with_program("redis-cli", "")
        .with_call_recorder("apt-get");
    let mut install_script = programs.command("sh");
    install_script.args(["scripts/install.sh", "redis-server", "redis-server", "redis-cli"]);
    assert!(install_script.status().unwrap().success());
    assert_eq!(programs.recorded_calls(), "");
}

/// A running `scripts/run.sh`. Dropping a `RunScript` stops the script with SIGTERM.
struct RunScript(Child);

impl RunScript {
    fn start(config: &Path, redis: &ReservedPort, data: &Path) -> Self {
        let mut command = Command::new(root().join("scripts/run.sh"));
        without_drover_variables(&mut command);
        for port in ["API_PORT", "WORKER_PORT"] {
            command.env_remove(port);
        }
        command
            .env("CONFIG", config)
            .env("REDIS_PORT", redis.number().to_string())
            .env("DATA", data)
            .env("BINARIES", binary("producer-api").parent().unwrap())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        Self(command.spawn().unwrap())
    }

    fn stop(mut self) -> bool {
        self.interrupt();
        let status = eventually("make run ends", || self.0.try_wait().unwrap());
        status.success()
    }

    fn interrupt(&self) {
        let _ = Command::new("kill").args(["-TERM", &self.0.id().to_string()]).status();
    }
}

impl Drop for RunScript {
    fn drop(&mut self) {
        if self.0.try_wait().is_ok_and(|ended| ended.is_none()) {
            // On SIGTERM, the script ends the processes that it has started.
            self.interrupt();
            let _ = self.0.wait();
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn make_run_with_a_file_runs_the_worker_of_the_readme() {
    let readme = document("README.md");
    let worker_section = section(&readme, "Run a worker of your own");
    let post_command = code(worker_section, "console").lines().next().unwrap().strip_prefix("$ ").unwrap();
    assert!(worker_section.contains("\nmake run CONFIG=my.toml\n"));

    let (redis, api, worker) = (ReservedPort::reserve(), ReservedPort::reserve(), ReservedPort::reserve());
    let folder = tempfile::tempdir().unwrap();
    let config = folder.path().join("my.toml");
    let bind_settings = format!("[api]\nbind = \"{}\"\n[worker]\nbind = \"{}\"\n", api.address(), worker.address());
    fs::write(&config, bind_settings + code(worker_section, "toml")).unwrap();
    let data_folder = folder.path().join("data");
    let run = RunScript::start(&config, &redis, &data_folder);
    let readiness = format!("http://{}/readyz", worker.address());
    let http = http_client();
    let started_at = std::time::Instant::now();
    for service in [&readiness, &format!("http://{}/readyz", api.address())] {
        while http.get(service).send().await.map_or(true, |answer| answer.status() != StatusCode::OK) {
            assert!(started_at.elapsed() < drover_tests::TIME_LIMIT, "{service} is not ready");
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
    }
    let command = post_command.replace("localhost:8080", &api.address().to_string());
    let output = tokio::task::block_in_place(|| Command::new("bash").args(["-c", &command]).output().unwrap());
    let message: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(message["state"], "completed", "{message}");
    assert_eq!(message["result"], serde_json::json!({"HELLO": "WORLD"}), "{message}");
    assert!(tokio::task::block_in_place(|| run.stop()), "a stop with SIGTERM is a success");
    assert!(data_folder.join("appendonlydir").exists(), "Redis keeps its data in DATA");
    assert!(http.get(&readiness).send().await.is_err(), "the worker has ended");
}

/// The script prints a command that kills each process.
#[tokio::test(flavor = "multi_thread")]
async fn killed_process_of_an_example_is_started_again() {
    let (redis, api, server) = (ReservedPort::reserve(), ReservedPort::reserve(), ReservedPort::reserve());
    let folder = tempfile::tempdir().unwrap();
    let output = folder.path().join("output");
    let mut command = Command::new(root().join("scripts/run.sh"));
    without_drover_variables(&mut command);
    command
        .env("EXAMPLE", "chat")
        .envs(
            [("REDIS_PORT", &redis), ("API_PORT", &api), ("EXAMPLE_PORT", &server)]
                .map(|(name, port)| (name, port.number().to_string())),
        )
        .env("DATA", folder.path().join("data"))
        .env("BINARIES", binary("producer-api").parent().unwrap())
        .stdin(Stdio::null())
        .stdout(fs::File::create(&output).unwrap())
        .stderr(Stdio::null());
    let mut run = RunScript(command.spawn().unwrap());
    let kill_command = |name: &str| {
        let printed = fs::read_to_string(&output).unwrap();
        printed.lines().find(|line| line.ends_with(&format!("# {name}"))).map(|line| line.trim().to_owned())
    };
    let http = http_client();
    let answers = async |port: &ReservedPort| {
        let start = std::time::Instant::now();
        while http.get(format!("http://{}/", port.address())).send().await.is_err() {
            assert!(start.elapsed() < drover_tests::TIME_LIMIT, "{} does not answer", port.address());
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
    };
    for (name, port) in [("chat", &server), ("producer-api", &api)] {
        let kill = tokio::task::block_in_place(|| eventually("the script prints its processes", || kill_command(name)));
        answers(port).await;
        assert!(Command::new("bash").args(["-c", &kill]).status().unwrap().success(), "{kill}");
        answers(port).await;
        assert!(run.0.try_wait().unwrap().is_none(), "the script goes on");
    }
    assert!(tokio::task::block_in_place(|| run.stop()), "a stop with SIGTERM is a success");
    assert!(http.get(format!("http://{}/", server.address())).send().await.is_err(), "the server has ended");
}

#[test]
fn make_run_reports_a_missing_configuration_file() {
    let output = Command::new(root().join("scripts/run.sh")).env("CONFIG", "/no/such.toml").output().unwrap();
    assert!(!output.status.success());
    assert!(String::from_utf8(output.stderr).unwrap().contains("There is no file /no/such.toml"));
}

/// `make run` checks the ports before it builds, so that a user does not wait minutes for the first build before the error.
#[test]
fn make_run_reports_a_taken_port_before_it_builds() {
    let taken_port = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken_port.local_addr().unwrap().port();
    let free_port = ReservedPort::reserve().number().to_string();
    let programs = FakePrograms::new().with_call_recorder("cargo");
    let output = Command::new(root().join("scripts/run.sh"))
        .env("CARGO", programs.0.path().join("cargo"))
        .envs([("REDIS_PORT", free_port.as_str()), ("API_PORT", &port.to_string())])
        .output()
        .unwrap();
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert!(!output.status.success() && stderr.contains(&format!("Port {port} is in use")), "{stderr}");
    assert_eq!(programs.recorded_calls(), "", "nothing was built");
}

/// scripts/run.sh stops after the build, because the fake `cargo` has made no binaries.
#[test]
fn example_without_a_worker_needs_no_port_for_a_worker() {
    let taken_port = TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = taken_port.local_addr().unwrap().port().to_string();
    let free_ports = [(); 3].map(|()| ReservedPort::reserve().number().to_string());
    for (example, builds) in [("chat", true), ("web3", false)] {
        let programs = FakePrograms::new().with_call_recorder("cargo");
        let output = Command::new(root().join("scripts/run.sh"))
            .env("CARGO", programs.0.path().join("cargo"))
            .env("CARGO_TARGET_DIR", programs.0.path())
            .env("EXAMPLE", example)
            .envs(["REDIS_PORT", "API_PORT", "EXAMPLE_PORT"].into_iter().zip(&free_ports))
            .env("WORKER_PORT", &taken)
            .output()
            .unwrap();
        let stderr = String::from_utf8(output.stderr).unwrap();
        assert_eq!(!programs.recorded_calls().is_empty(), builds, "{example}: {stderr}");
    }
}

/// `cargo run` of one package would compile its dependencies again with other features than `make run`.
#[test]
fn documents_run_the_binaries_that_make_run_builds() {
    for name in ["README.md", "docs/API.md", "docs/WORKERS.md", "docs/OBSERVABILITY.md"] {
        for package in ["producer-api -- ", "consumer-worker -- "] {
            assert!(!document(name).contains(&format!("--package {package}")), "{name}");
        }
    }
}

#[test]
fn documented_command_creates_a_key() {
    let api_document = document("docs/API.md");
    let binary_start = "target/release/producer-api ";
    let compose_start = "docker compose run --rm --no-deps api producer-api ";
    for start in [binary_start, compose_start] {
        let arguments = api_document.lines().find_map(|line| line.strip_prefix(start)).unwrap();
        let program = binary("producer-api");
        let command = format!("{} {arguments}", program.display());
        let output = Command::new("bash").args(["-c", &command]).output().unwrap();
        let printed_text = String::from_utf8(output.stdout).unwrap();
        assert!(
            printed_text.starts_with("drv_shop_") && printed_text.lines().count() == 2,
            "{command}: {printed_text}"
        );
    }
}
