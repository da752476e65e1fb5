//! What tests of whole programs share: a host in a temporary directory, the real tools they run, waiting with a
//! deadline, and `/proc` as a witness that does not depend on landfall's own reading of it.
#![allow(dead_code, unused_imports, reason = "each test file uses a part of it")]

pub mod authority;
pub mod container;
pub mod example;
pub mod git;
pub mod hash;
pub mod host;
pub mod http;
pub mod json;
pub mod load;
pub mod nest_app;
pub mod network;
pub mod next_app;
pub mod nginx;
pub mod port;
pub mod process;
pub mod site;
pub mod socket_app;
pub mod source;
pub mod store_server;
pub mod tar;
pub mod tools;
pub mod wait;

pub use host::Host;
pub use source::Source;
