//! The program: its own helper processes first, then the command line.

use std::process::ExitCode;

use landfall::quickstart::hello;
use landfall::start::shim;

/// The agent waits for weeks between deploys. This allocator gives back what a deploy needed; the system's own
/// keeps most of it, spread over the arenas of the threads that worked.
#[cfg(feature = "jemalloc")]
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> ExitCode {
    let mut arguments = std::env::args_os().skip(1);
    match arguments.next() {
        Some(first) if first == shim::SUBCOMMAND => shim::main(arguments),
        Some(first) if first == hello::SUBCOMMAND => hello::main(arguments),
        _ => landfall::cli::main().into(),
    }
}
