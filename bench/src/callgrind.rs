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
/// The instructions that the kernel executes for the process are not counted.
pub(crate) struct Callgrind {
    /// The folder for callgrind's dumps and for the pipes that vgdb uses to reach the process.
    folder: TempDir,
    dumps: u32,
}

impl Callgrind {
    pub(crate) fn new() -> Result<Self> {
        Ok(Self { folder: TempDir::new()?, dumps: 0 })
    }

    /// Wraps the command so that it runs under callgrind. The wrapped command runs in valgrind's own process, so a signal to
    /// the id of the started process reaches the command.
    pub(crate) fn wrap_command(&self, command: &Command) -> Command {
        let mut valgrind_command = Command::new("valgrind");
        // The bench needs only the total number of instructions, so the dumps omit the counts of single source lines and
        // instructions.
        valgrind_command.args(["--tool=callgrind", "--quiet", "--dump-line=no", "--dump-instr=no"]);
        valgrind_command.args([
            self.option_with_path("--callgrind-out-file=", "counted"),
            self.option_with_path("--vgdb-prefix=", "vgdb"),
        ]);
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
    pub(crate) fn count_instructions<T>(&mut self, pid: u32, load: impl FnOnce() -> Result<T>) -> Result<(u64, T)> {
        self.instructions_since_last_dump(pid)?;
        let result = load()?;
        Ok((self.instructions_since_last_dump(pid)?, result))
    }

    /// The number of instructions that the process executed since the previous dump, or since its start.
    fn instructions_since_last_dump(&mut self, pid: u32) -> Result<u64> {
        let mut vgdb = Command::new("vgdb");
        vgdb.args([self.option_with_path("--vgdb-prefix=", "vgdb"), format!("--pid={pid}").into(), "dump".into()]);
        let vgdb_output = vgdb.stdin(Stdio::null()).output()?;
        if !vgdb_output.status.success() {
            return Err(format!("vgdb: {}", String::from_utf8_lossy(&vgdb_output.stderr)).into());
        }
        self.dumps += 1;
        let dump_text = fs::read_to_string(self.folder.path().join(format!("counted.{}", self.dumps)))?;
        let instruction_count =
            dump_text.lines().find_map(|line| line.strip_prefix("totals: ")).ok_or("callgrind's dump has no total")?;
        Ok(instruction_count.trim().parse()?)
    }

    fn option_with_path(&self, name: &str, file: &str) -> OsString {
        let mut argument = OsString::from(name);
        argument.push(self.folder.path().join(file));
        argument
    }
}
