//! `sersyncctl`: see and steer sersync instances. All of it is in [`sersync::ctl`].

use std::process::ExitCode;

fn main() -> ExitCode {
    sersync::ctl::main()
}
