//! The agent's door: `<root>/agent.sock`, one line of JSON each way.
//!
//! Whoever holds the lock of the host serves it; only root and the agent's own account may knock. A line is
//! bounded, so is the time it may take and the number of callers; nothing that is sent here ever holds up the
//! agent's loop. Commands that only read need no door: they look at the files.

mod client;
mod protocol;
mod server;

pub use client::{KnockError, ask};
pub use protocol::{Answer, Denied, Knock, Request, VERSION};
pub use server::{Door, DoorError};
