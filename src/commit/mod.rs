//! Changing what should run: one target or one suspension edited in the state file, and the edit committed.
//!
//! The file is replaced whole or not at all, every other byte of it stays, and it is committed only if it
//! held nothing uncommitted before: a commit by landfall never carries somebody else's work. Nothing here
//! prints; `deploy`, `rollback` and `quickstart` are the same call.

mod author;
mod change;
mod choose;
mod file;
mod git;
pub mod history;
mod message;
mod pause;
mod previous;
mod publish;
pub mod revision;
mod standing;

pub use author::author;
pub use change::{Change, ChangeError, Changed, Commit, Policy, Written, change};
pub use choose::{ChooseError, Chosen, choose, spelling};
pub use file::FileError;
pub use git::GitError;
pub use message::Verb;
pub use pause::{Pause, PauseWritten, Paused, pause};
pub use previous::{Previous, PreviousError, Usable, in_history, in_log, last_verdict};
pub use publish::{Edit, PublishError, publish};
pub use standing::{NotCommitted, Standing};

#[cfg(test)]
mod tests;
