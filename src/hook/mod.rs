//! The web hook: a git server says that something was pushed, and the agent looks at once.
//!
//! Nothing that is sent is believed but its signature, and that only means "look now": what is there is fetched
//! and judged as on any other day. So a replayed call does no more than a poll does.

mod server;
mod verify;

pub use server::{Hook, HookError};
pub use verify::{Secret, SecretError};
