//! `sersyncctl`: see and steer sersync instances. All of it is in [`sersync::ctl`].

use clap::Parser;
use std::process::ExitCode;

fn main() -> ExitCode {
    let cli = sersync::ctl::Cli::parse();
    match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime.block_on(sersync::ctl::run(cli)),
        Err(error) => {
            eprintln!("sersyncctl: the system does not let it start: {error}");
            ExitCode::FAILURE
        }
    }
}
