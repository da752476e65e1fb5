//! The files people write, read with positions: `landfall.toml`, `host.toml`, `deploy-state.json`.
//!
//! TOML and JSON become one tree of [`Node`]s with byte spans, and one [`Table`]/[`Value`] reader gives all
//! three files the same rules: unknown keys are errors that name the nearest known one, keys beginning `x-`
//! are free where the keys are fixed, and every problem says file, line, column and key.

mod json;
mod nearest;
mod node;
mod problem;
mod reader;
mod toml;
pub mod units;

pub use json::parse_json;
pub use nearest::nearest;
pub use node::{Entry, Node, Shape};
pub use problem::{Problem, ProblemKind};
pub use reader::{Document, Notation, Table, Value};
pub use toml::parse_toml;
