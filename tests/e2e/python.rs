//! Runs programs in Python, most of which are in the documents.

use std::process::{Child, Command, Stdio};

/// A running program in Python. Dropping a `PythonProgram` kills the program.
pub(crate) struct PythonProgram(Child);

impl PythonProgram {
    pub(crate) fn start(code: &str, args: &[&str]) -> Self {
        let child = Command::new("python3").args(["-c", code]).args(args).stderr(Stdio::null()).spawn().unwrap();
        Self(child)
    }
}

impl Drop for PythonProgram {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
