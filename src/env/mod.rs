//! The environment of steps and of the app: two dotenv layers between a clean base and landfall's own keys.
//!
//! [`dotenv::parse`] reads a file as npm's `dotenv` does. [`resolve`] is pure and puts the layers in order;
//! every value knows where it came from. Values are secrets: no `Debug` and no error here shows one.

mod asked;
pub mod dotenv;
pub mod dotenv_expand;
mod error;
pub mod expansion;
mod fingerprint;
pub mod key;
mod layer;
mod resolve;

pub use asked::asked_of;
pub use error::EnvError;
pub use expansion::{expand, expand_check, expand_command};
pub use fingerprint::fingerprint;
pub use layer::{
    Layer, LayerKind, LayerSource, file_name, find_layer, parse_layer, read_layer, read_own_layer,
};
pub use resolve::{Entry, EnvInput, Origin, Place, ResolvedEnv, resolve};

#[cfg(test)]
mod tests;
