//! `sersync-generator`: run by systemd at boot and at each reload. All of it is in [`sersync::generator`].

use std::process::ExitCode;

fn main() -> ExitCode {
    sersync::generator::main()
}
