//! The known word that a mistyped one was probably meant to be.

/// The word of `known` nearest to `word`, if it is near enough to be a typing mistake or a change of style
/// (`kebab-case`, `camelCase`) of it.
pub fn nearest<'a>(word: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let folded = fold(word);
    known
        .into_iter()
        .map(|candidate| (distance(&folded, &fold(candidate)), candidate))
        .filter(|(distance, candidate)| *distance <= allowed(candidate))
        .min()
        .map(|(_, candidate)| candidate)
}

/// One mistake in three characters, at least one.
fn allowed(candidate: &str) -> usize {
    (candidate.chars().count() / 3).max(1)
}

fn fold(word: &str) -> Vec<char> {
    word.chars().filter(|c| c.is_alphanumeric()).flat_map(char::to_lowercase).collect()
}

/// Levenshtein's distance with the swap of two neighbours counted once.
fn distance(a: &[char], b: &[char]) -> usize {
    let mut rows = vec![(0..=b.len()).collect::<Vec<_>>()];
    for (i, from) in a.iter().enumerate() {
        let mut row = vec![i + 1];
        for (j, to) in b.iter().enumerate() {
            let replaced = rows[i][j] + usize::from(from != to);
            let mut best = replaced.min(rows[i][j + 1] + 1).min(row[j] + 1);
            if i > 0 && j > 0 && *from == b[j - 1] && a[i - 1] == *to {
                best = best.min(rows[i - 1][j - 1] + 1);
            }
            row.push(best);
        }
        rows.push(row);
    }
    rows[a.len()][b.len()]
}

#[cfg(test)]
mod tests {
    use super::nearest;

    #[test]
    fn a_typing_mistake_is_traced_to_the_key_that_was_meant() {
        let known = ["artifact", "version", "reason", "by", "reconcileRequestedAt"];
        for (typed, meant) in [
            ("artefact", Some("artifact")),
            ("verison", Some("version")),
            ("reconcile_requested_at", Some("reconcileRequestedAt")),
            ("Reason", Some("reason")),
            ("command", None),
        ] {
            assert_eq!(nearest(typed, known), meant, "{typed}");
        }
    }
}
