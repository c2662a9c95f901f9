//! Counts the instructions of a process with valgrind's callgrind.

use std::{
    ffi::OsString,
    fs,
    process::{Command, Stdio},
};

use tempfile::TempDir;

use crate::Result;

/// Counts the instructions of a process under callgrind. `vgdb` requests a dump of the count before and after a load.
///
/// The count excludes the kernel's work for the process.
pub(crate) struct Callgrind {
    /// The folder for callgrind's dumps and for the pipes that vgdb uses to reach the process.
    folder: TempDir,
    dumps: u32,
}

impl Callgrind {
    pub(crate) fn new() -> Result<Self> {
        Ok(Self { folder: TempDir::new()?, dumps: 0 })
    }

    /// Wraps the command so that it runs under callgrind. The process keeps the id that valgrind has, so signals reach it.
    pub(crate) fn wrap(&self, command: &Command) -> Command {
        let mut valgrind_command = Command::new("valgrind");
        // Only totals are needed, so the dumps omit lines and instructions.
        valgrind_command.args(["--tool=callgrind", "--quiet", "--dump-line=no", "--dump-instr=no"]);
        valgrind_command.args([self.option("--callgrind-out-file=", "counted"), self.option("--vgdb-prefix=", "vgdb")]);
        valgrind_command.arg(command.get_program()).args(command.get_args());
        for (key, value) in command.get_envs() {
            match value {
                Some(value) => valgrind_command.env(key, value),
                None => valgrind_command.env_remove(key),
            };
        }
        valgrind_command
    }

    /// The number of instructions that the process with the id `pid` executes while `load` runs, and the result of `load`.
    pub(crate) fn count<T>(&mut self, pid: u32, load: impl FnOnce() -> Result<T>) -> Result<(u64, T)> {
        self.instructions_since_last_dump(pid)?;
        let result = load()?;
        Ok((self.instructions_since_last_dump(pid)?, result))
    }

    /// The instructions since the previous dump, or since the start of the process.
    fn instructions_since_last_dump(&mut self, pid: u32) -> Result<u64> {
        let mut vgdb = Command::new("vgdb");
        vgdb.args([self.option("--vgdb-prefix=", "vgdb"), format!("--pid={pid}").into(), "dump".into()]);
        let output = vgdb.stdin(Stdio::null()).output()?;
        if !output.status.success() {
            return Err(format!("vgdb: {}", String::from_utf8_lossy(&output.stderr)).into());
        }
        self.dumps += 1;
        let dump = fs::read_to_string(self.folder.path().join(format!("counted.{}", self.dumps)))?;
        let total =
            dump.lines().find_map(|line| line.strip_prefix("totals: ")).ok_or("callgrind's dump has no total")?;
        Ok(total.trim().parse()?)
    }

    fn option(&self, name: &str, file: &str) -> OsString {
        let mut option = OsString::from(name);
        option.push(self.folder.path().join(file));
        option
    }
}
