//! `landfall serve` as a real process: what it gives, what it takes, and what it refuses.

#![allow(clippy::unwrap_used, reason = "helpers of tests fail the test")]

#[path = "../support/mod.rs"]
mod support;

mod client;
mod collects;
mod exported;
mod lifecycle;
mod malformed;
mod pushes;
mod reads;
mod reports;
mod server;
mod uploads;
mod ways;
