//! The store: reachable, a store, and readable.

use landfall_store::{Store, refs};

use super::examine::Finding;
use crate::config::StoreLocation;
use crate::host::Host;

const STORE: &str = "store";

/// Opens the store, and says how that went.
pub fn store(host: &Host) -> (Option<Store>, Vec<Finding>) {
    let dir = match &host.store {
        StoreLocation::Dir(dir) => dir,
        StoreLocation::Http(_) | StoreLocation::S3 { .. } => {
            let what = "this landfall works with stores in directories only";
            let fix =
                "mount it, or copy with `landfall push --all --to DIR`; then `store = \"DIR\"` in host.toml";
            return (None, vec![Finding::problem(STORE, what, fix)]);
        }
    };
    match Store::open(dir).and_then(|store| refs::ids(&store).map(|ids| (store, ids.len()))) {
        Ok((store, 0)) => {
            let what = format!("the store in {} is empty", dir.display());
            (Some(store), vec![Finding::warning(STORE, what, "landfall pack . on the build machine")])
        }
        Ok((store, count)) => {
            let artifacts = if count == 1 { "artifact" } else { "artifacts" };
            (Some(store), vec![Finding::good(STORE, format!("{} has {count} {artifacts}", dir.display()))])
        }
        Err(error) => {
            let fix = format!(
                "mount it, correct `store` in host.toml, or make one: landfall pack . --store {}",
                dir.display()
            );
            (None, vec![Finding::problem(STORE, error.to_string(), fix)])
        }
    }
}
