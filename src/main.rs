//! The command `crosstalk`.

use std::io::Write as _;
use std::process::ExitCode;

fn main() -> ExitCode {
    // A panic is a bug in crosstalk, and has an exit code of its own.
    std::panic::catch_unwind(crosstalk::cli::main).unwrap_or_else(|_| {
        // Where even this cannot be written, the exit code says it.
        let _ = writeln!(std::io::stderr(), "this is a bug in crosstalk: please report the lines above");
        ExitCode::from(70)
    })
}
