//! The future type of the effect traits, so that they stay usable as trait objects.

use std::future::Future;
use std::pin::Pin;

/// A boxed future on the agent's one thread.
pub type Pending<'a, T> = Pin<Box<dyn Future<Output = T> + 'a>>;
