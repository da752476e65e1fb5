//! Whole operations on a real `node_modules` of about 30,000 files, each beside the command that people would use
//! instead, in the same minute, in the same file system, in turns.
//!
//! `bench/store.sh` makes the file system and the input and runs this. Without `LANDFALL_BENCH_DIR` nothing happens.

#![allow(clippy::print_stdout, reason = "a benchmark's output is its result")]
#![allow(clippy::unwrap_used, reason = "a benchmark that cannot go on must stop")]

mod deploy;
mod host;
mod input;
mod pack;
mod sample;
mod table;

#[path = "../../tests/support/mod.rs"]
mod support;

use std::path::PathBuf;

use table::Table;

/// Odd, so that a median is a run that happened.
const ROUNDS: usize = 7;

fn main() {
    let Some(dir) = std::env::var_os("LANDFALL_BENCH_DIR").map(PathBuf::from) else {
        println!(
            "bench/store.sh runs this: it needs a file system of its own and the input of bench/inputs.sh"
        );
        return;
    };
    let chosen = |part: &str| match std::env::var("LANDFALL_BENCH_ONLY") {
        Ok(only) => only.split(',').any(|name| name == part),
        Err(_) => true,
    };
    let input = input::Input::find(&dir);
    let mut table = Table::default();
    if chosen("pack") {
        pack::measure(&input, ROUNDS, &mut table);
    }
    if chosen("host") {
        host::measure(&input, ROUNDS, &mut table);
    }
    if chosen("deploy") {
        deploy::measure(&input, &mut table);
    }
    println!("\n{} files, {:.1} MB\n\n{table}", input.files, input.bytes as f64 / 1e6);
}
