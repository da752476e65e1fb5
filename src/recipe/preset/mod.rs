//! First recipes: what `landfall init` writes from what it finds in a directory.
//!
//! A preset is a text template that people go on editing, so it carries its reasons as comments. Every
//! rendered preset parses; nothing in the directory is run, not even its pm2 configuration.

mod ecosystem;
mod facts;
mod render;

use std::path::{Path, PathBuf};
use std::str::FromStr;

pub use ecosystem::Pm2Hints;
pub use facts::{EnvFile, Facts, PackageManager};
pub use render::render;

/// The kinds of app that `init` knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Preset {
    /// Next.js, standalone output, pm2 cluster.
    Next,
    /// NestJS with Prisma: a light artifact, dependencies installed on the host.
    NestPrisma,
    /// Koa: a full artifact, server and client parts in layers of their own.
    Koa,
    /// Any other Node server.
    Node,
    /// Files only.
    StaticSite,
    /// One executable.
    Binary,
}

/// Every preset with the name `--preset` takes.
pub const PRESETS: [(&str, Preset); 6] = [
    ("next", Preset::Next),
    ("nest-prisma", Preset::NestPrisma),
    ("koa", Preset::Koa),
    ("node", Preset::Node),
    ("static", Preset::StaticSite),
    ("binary", Preset::Binary),
];

/// Why no preset could be chosen or filled.
#[derive(Debug, thiserror::Error)]
pub enum PresetError {
    /// Not one of the names.
    #[error("`{0}` is not a preset: next, nest-prisma, koa, node, static or binary")]
    Unknown(String),
    /// A file of the directory cannot be read.
    #[error("{path}: {source}")]
    Unreadable {
        /// Which file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// A manifest of the directory cannot be understood.
    #[error("{path}: {why}")]
    Malformed {
        /// Which file.
        path: PathBuf,
        /// What its parser said.
        why: String,
    },
}

impl FromStr for Preset {
    type Err = PresetError;

    fn from_str(name: &str) -> Result<Self, PresetError> {
        let found = PRESETS.iter().find(|(known, _)| *known == name);
        found.map(|(_, preset)| *preset).ok_or_else(|| PresetError::Unknown(name.to_owned()))
    }
}

/// Looks at a directory: the preset that fits it, and the facts to fill it with.
pub fn detect(dir: &Path) -> Result<(Preset, Facts), PresetError> {
    let facts = Facts::of(dir)?;
    Ok((choose(&facts), facts))
}

fn choose(facts: &Facts) -> Preset {
    let depends = |name: &str| facts.dependencies.contains(name);
    if depends("next") {
        Preset::Next
    } else if depends("@nestjs/core") && (depends("prisma") || depends("@prisma/client")) {
        Preset::NestPrisma
    } else if depends("koa") {
        Preset::Koa
    } else if facts.entry.is_some() || facts.scripts.contains_key("start") {
        Preset::Node
    } else if facts.has("Cargo.toml") || facts.has("go.mod") {
        Preset::Binary
    } else if facts.first(facts::STATIC_DIRS).is_some() || facts.has("index.html") {
        Preset::StaticSite
    } else {
        Preset::Binary
    }
}

#[cfg(test)]
mod tests;
