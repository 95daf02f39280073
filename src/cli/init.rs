//! `sidegate init`: prints a commented file to start from.

use std::io::Write;
use std::process::ExitCode;

use crate::config::STARTER;

/// Prints the starter file to standard output.
pub fn init() -> ExitCode {
    match std::io::stdout().write_all(STARTER.as_bytes()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("cannot write: {error}");
            ExitCode::FAILURE
        }
    }
}
