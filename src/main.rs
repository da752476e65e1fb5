//! The program: its own helper processes first, then the command line.

use std::process::ExitCode;

use landfall::quickstart::hello;
use landfall::release::worker;
use landfall::source::git::{credential, guard};
use landfall::start::shim;

fn main() -> ExitCode {
    let mut arguments = std::env::args_os().skip(1);
    match arguments.next() {
        Some(first) if first == shim::SUBCOMMAND => shim::main(arguments),
        Some(first) if first == worker::SUBCOMMAND => worker::main(),
        Some(first) if first == credential::SUBCOMMAND => credential::main(arguments),
        Some(first) if first == guard::SUBCOMMAND => guard::main(arguments),
        Some(first) if first == hello::SUBCOMMAND => hello::main(arguments),
        _ => landfall::cli::main().into(),
    }
}
