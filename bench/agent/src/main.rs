//! What an agent costs on a host: a real `landfall watch`, real packs, real processes, in a directory of its own.
//!
//! `bench/agent.sh` builds the program and runs this. It drives the release program as an operator would, by
//! commands and the state file, and reads what that costs from `/proc` and the file system.

#![allow(clippy::print_stdout, reason = "a benchmark's output is its result")]
#![allow(clippy::unwrap_used, reason = "a benchmark that cannot go on must stop")]

mod fleet;
mod footprint;
mod host;
mod idle;
mod proc;
mod sample;
mod soak;
mod switches;
mod table;
mod tree;
mod wait;

use std::path::PathBuf;

use clap::{Parser, ValueEnum};

use fleet::Fleet;
use table::Table;

/// Measures an agent.
#[derive(Debug, Parser)]
struct Options {
    /// The program that is measured.
    #[arg(long)]
    program: PathBuf,
    /// Where inputs and hosts are made; on a file system as a server has it.
    #[arg(long)]
    dir: PathBuf,
    /// Parts to run.
    #[arg(long, value_delimiter = ',', default_values_t = [Part::Idle, Part::Drift, Part::Switches, Part::Soak])]
    only: Vec<Part>,
    /// Apps of the idle host.
    #[arg(long, default_value_t = 10)]
    apps: usize,
    /// Files of each release.
    #[arg(long, default_value_t = 30_000)]
    files: usize,
    /// Edits of the state file from one release to another.
    #[arg(long, default_value_t = 1_000)]
    switches: usize,
    /// Deploys of the soak.
    #[arg(long, default_value_t = 500)]
    deploys: usize,
    /// Of the soak's choices.
    #[arg(long, default_value_t = 7)]
    seed: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Part {
    Idle,
    Drift,
    Switches,
    Soak,
}

impl std::fmt::Display for Part {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.to_possible_value().expect("no part is hidden").get_name())
    }
}

fn main() {
    let options = Options::parse();
    std::fs::create_dir_all(&options.dir).unwrap();
    let dir = options.dir.canonicalize().unwrap();
    let program = options.program.canonicalize().unwrap();
    let chosen = |part| options.only.contains(&part);
    let mut table = Table::default();
    if chosen(Part::Idle) || chosen(Part::Drift) {
        let mut fleet = Fleet::deployed(&program, &dir, options.apps, options.files, &mut table);
        if chosen(Part::Idle) {
            idle::at_rest(&fleet.host, "all deployed", &mut table);
        }
        if chosen(Part::Drift) {
            fleet.watch_rounds(&mut table);
        }
        fleet.host.end();
    }
    if chosen(Part::Switches) {
        switches::measure(&program, &dir, "1 file", 1, options.switches, &mut table);
        let files = options.files;
        switches::measure(&program, &dir, &format!("{files} files"), files, options.switches, &mut table);
    }
    if chosen(Part::Soak) {
        soak::measure(&program, &dir, options.deploys, options.seed, &mut table);
    }
    println!("\n{table}");
}
