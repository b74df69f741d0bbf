//! `sersync`: the agent. All of it is in the library.

use std::process::ExitCode;

fn main() -> ExitCode {
    sersync::cli::main()
}
