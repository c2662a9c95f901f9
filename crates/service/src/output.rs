//! Prints what a program says outside its log, to standard output and standard error, where either may be closed or full.

use std::{
    io::{self, Write, stderr, stdout},
    process::ExitCode,
};

use clap::Parser;

/// Reads the arguments of the program.
///
/// # Errors
///
/// The exit code when the program is over: help or the version was printed, an argument is wrong, or what was to be printed
/// could not be.
pub fn parse<P: Parser>() -> Result<P, ExitCode> {
    P::try_parse().map_err(|told| {
        let printed = told.print().and_then(|()| stdout().flush());
        match u8::try_from(told.exit_code()) {
            Ok(code) if printed.is_ok() => code.into(),
            _ => {
                complain("standard output can't be written to");
                ExitCode::FAILURE
            }
        }
    })
}

/// Prints what the user asked to see.
///
/// # Errors
///
/// When not all of it is written.
pub fn print(text: &str) -> io::Result<()> {
    let mut output = stdout().lock();
    output.write_all(text.as_bytes())?;
    output.flush()
}

/// Says what is wrong, on a line of standard error. Nothing is left to be done if that can't be written to.
pub fn complain(text: &str) {
    let _ = writeln!(stderr(), "{text}");
}
