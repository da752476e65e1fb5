//! `landfall store`: what a store needs now and then.

mod gc;
mod verify;

use clap::Subcommand;

use super::Outcome;
use super::context::Context;

pub use gc::Item as CollectedItem;
pub use verify::Item as VerifiedItem;

/// Collect and check a store.
#[derive(Debug, Subcommand)]
#[allow(missing_docs, reason = "the help of a command stands with its arguments")]
pub enum StoreCommand {
    Gc(gc::Gc),
    Verify(verify::Verify),
}

/// Runs the command.
pub fn run(command: &StoreCommand, context: &Context) -> Outcome {
    match command {
        StoreCommand::Gc(args) => gc::run(args, context),
        StoreCommand::Verify(args) => verify::run(args, context),
    }
}
