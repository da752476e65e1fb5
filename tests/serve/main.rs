//! `landfall serve` as a real process: what it gives, what it takes, and what it refuses.

#[path = "../support/mod.rs"]
mod support;

mod client;
mod exported;
mod lifecycle;
mod malformed;
mod pushes;
mod reads;
mod server;
mod uploads;
