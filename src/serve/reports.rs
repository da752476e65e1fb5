//! How much a host may leave.

use hyper::StatusCode;
use landfall_store::backend::{Backend, Listed};
use landfall_store::layout;
use landfall_store::reports::Document;

use super::answer::Refusal;
use super::limits::{REPORT_BYTES_OF_HOST, REPORTS_OF_ALL, REPORTS_OF_HOST};

/// Whether there is a place for `bytes` of this document. Asked while no other report is written.
pub fn admit(store: &dyn Backend, document: &Document, bytes: u64) -> Result<(), Refusal> {
    let there = store.list(&layout::reports_of(document.host()))?;
    let all = if there.is_empty() { store.list(&layout::reports())?.len() } else { 0 };
    fits(&there, all, document, bytes)
}

/// The same, with what the host has left, and how many documents there are of all hosts. Pure.
fn fits(there: &[Listed], all: usize, document: &Document, bytes: u64) -> Result<(), Refusal> {
    let key = document.key();
    let others = there.iter().filter(|item| item.key != key);
    let taken: u64 = others.clone().map(|item| item.size).sum();
    if taken.saturating_add(bytes) > REPORT_BYTES_OF_HOST || others.count() >= REPORTS_OF_HOST {
        let what = format!("{} has left as much as a host may", document.host());
        return Err(full(what).hint("remove what is not needed below `status/` on the server's own machine"));
    }
    if all >= REPORTS_OF_ALL {
        return Err(full("hosts have left as much as all of them may".to_owned())
            .hint("remove hosts that are gone below `status/` on the server's own machine"));
    }
    Ok(())
}

fn full(what: String) -> Refusal {
    Refusal::new(StatusCode::INSUFFICIENT_STORAGE, "ReportsFull", what)
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use super::*;

    fn document(number: u32) -> Document {
        let name = |text: &str| text.parse().unwrap();
        Document::History { host: name("web-1"), environment: name("prod"), app: name("web"), number }
    }

    fn listed(number: u32, size: u64) -> Listed {
        Listed { key: document(number).key(), size, modified: SystemTime::UNIX_EPOCH }
    }

    #[test]
    fn a_host_leaves_no_more_than_its_share_and_may_always_replace_what_is_there() {
        let fits = |there: &[Listed], number, bytes| fits(there, 0, &document(number), bytes).is_ok();
        let large = [listed(0, REPORT_BYTES_OF_HOST - 10)];
        assert!(fits(&large, 1, 10) && !fits(&large, 1, 11));
        assert!(fits(&large, 0, REPORT_BYTES_OF_HOST), "in place of what is there");
        let many: Vec<Listed> = (0..u32::try_from(REPORTS_OF_HOST).unwrap()).map(|n| listed(n, 1)).collect();
        assert!(fits(&many, 7, 1) && !fits(&many, 1 << 20, 1));
        assert!(fits(&many[1..], 1 << 20, 1));
    }

    #[test]
    fn new_hosts_end_somewhere() {
        assert!(fits(&[], REPORTS_OF_ALL - 1, &document(0), 1).is_ok());
        assert_eq!(fits(&[], REPORTS_OF_ALL, &document(0), 1).unwrap_err().reason(), "ReportsFull");
    }
}
