//! The store: reachable, a store, and readable.

use landfall_store::{Store, refs};

use super::examine::Finding;
use crate::host::Host;

const STORE: &str = "store";

/// Opens the store, and says how that went.
pub fn store(host: &Host) -> (Option<Store>, Vec<Finding>) {
    let at = &host.store;
    match at.open().and_then(|store| refs::ids(&store).map(|ids| (store, ids.len()))) {
        Ok((store, 0)) => {
            let what = format!("the store {at} is empty");
            (Some(store), vec![Finding::warning(STORE, what, "landfall pack . on the build machine")])
        }
        Ok((store, count)) => {
            let artifacts = if count == 1 { "artifact" } else { "artifacts" };
            (Some(store), vec![Finding::good(STORE, format!("{at} has {count} {artifacts}"))])
        }
        Err(error) => {
            let fix =
                format!("mount it, correct `store` in host.toml, or make one: landfall pack . --store {at}");
            (None, vec![Finding::problem(STORE, error.to_string(), fix)])
        }
    }
}
