use std::{
    ffi::OsString,
    fs,
    process::{Command, Stdio},
};

use tempfile::TempDir;

use crate::{Result, service::Service};

/// Counts the instructions of a process: valgrind's callgrind, told by its vgdb when to begin and when to end.
///
/// What the kernel does for the process is not among them.
pub(crate) struct Callgrind {
    /// Where it writes what it counted, and where vgdb finds the process.
    folder: TempDir,
    dumps: u32,
}

impl Callgrind {
    pub(crate) fn new() -> Result<Self> {
        Ok(Self { folder: TempDir::new()?, dumps: 0 })
    }

    /// The command, to be run under it. The process is valgrind's own: it keeps the id, and a signal reaches it.
    pub(crate) fn around(&self, command: &Command) -> Command {
        let mut counted = Command::new("valgrind");
        // Totals are all that is wanted of it, so it need not tell functions and lines apart.
        counted.args(["--tool=callgrind", "--quiet", "--dump-line=no", "--dump-instr=no"]);
        counted.args([self.option("--callgrind-out-file=", "counted"), self.option("--vgdb-prefix=", "vgdb")]);
        counted.arg(command.get_program()).args(command.get_args());
        for (key, value) in command.get_envs() {
            match value {
                Some(value) => counted.env(key, value),
                None => counted.env_remove(key),
            };
        }
        counted
    }

    /// How many instructions the service executes while `load` runs; with what that answers.
    pub(crate) fn count<T>(&mut self, service: &Service, load: impl FnOnce() -> Result<T>) -> Result<(u64, T)> {
        self.since_last_time(service)?;
        let answer = load()?;
        Ok((self.since_last_time(service)?, answer))
    }

    /// What was counted since this was called last, or since the start.
    fn since_last_time(&mut self, service: &Service) -> Result<u64> {
        let mut vgdb = Command::new("vgdb");
        vgdb.args([self.option("--vgdb-prefix=", "vgdb"), format!("--pid={}", service.id()).into(), "dump".into()]);
        let told = vgdb.stdin(Stdio::null()).output()?;
        if !told.status.success() {
            return Err(format!("vgdb: {}", String::from_utf8_lossy(&told.stderr)).into());
        }
        self.dumps += 1;
        let dump = fs::read_to_string(self.folder.path().join(format!("counted.{}", self.dumps)))?;
        let total = dump.lines().find_map(|line| line.strip_prefix("totals: ")).ok_or("callgrind tells no total")?;
        Ok(total.trim().parse()?)
    }

    fn option(&self, name: &str, file: &str) -> OsString {
        let mut option = OsString::from(name);
        option.push(self.folder.path().join(file));
        option
    }
}
