/// Maximum length of a word to compare, in characters.
const WORD_MAX: usize = 40;

/// Finds the candidate that a misspelt word most likely means: the one with the fewest edits, at most a third
/// of the word's letters (but one edit is always allowed).
pub(super) fn nearest(word: &str, candidates: impl Iterator<Item = &'static str>) -> Option<&'static str> {
    let word: Vec<char> = word.chars().take(WORD_MAX + 1).map(|c| c.to_ascii_lowercase()).collect();
    if word.len() > WORD_MAX {
        return None;
    }
    let limit = (word.len() / 3).max(1);
    candidates
        .filter(|candidate| candidate.len().abs_diff(word.len()) <= limit)
        .map(|candidate| (distance(&word, candidate), candidate))
        .filter(|(edits, _)| *edits <= limit)
        .min_by_key(|(edits, _)| *edits)
        .map(|(_, candidate)| candidate)
}

/// Edit distance: the number of insertions, deletions, replacements and swaps of adjacent letters.
fn distance(word: &[char], candidate: &str) -> usize {
    let candidate: Vec<char> = candidate.chars().collect();
    let mut rows =
        [vec![0; candidate.len() + 1], (0..=candidate.len()).collect(), vec![0; candidate.len() + 1]];
    for (i, &a) in word.iter().enumerate() {
        let [before, above, row] = &mut rows;
        row[0] = i + 1;
        for (j, &b) in candidate.iter().enumerate() {
            let replaced = above[j] + usize::from(a != b);
            row[j + 1] = replaced.min(above[j + 1] + 1).min(row[j] + 1);
            if i > 0 && j > 0 && a == candidate[j - 1] && b == word[i - 1] {
                row[j + 1] = row[j + 1].min(before[j - 1] + 1);
            }
        }
        rows.rotate_left(1);
    }
    rows[1][candidate.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(word: &str) -> Option<&'static str> {
        nearest(word, ["key_file", "hash", "auth", "port", "interface"].into_iter())
    }

    #[test]
    fn distances() {
        let chars = |word: &str| word.chars().collect::<Vec<_>>();
        for (a, b, edits) in
            [("", "", 0), ("", "abc", 3), ("abc", "", 3), ("prot", "port", 1), ("kitten", "sitting", 3)]
        {
            assert_eq!(distance(&chars(a), b), edits, "{a} {b}");
        }
    }

    #[test]
    fn a_typo_finds_its_key() {
        assert_eq!(of("prot"), Some("port"));
        assert_eq!(of("KEYFILE"), Some("key_file"));
        assert_eq!(of("interfaces"), Some("interface"));
        assert_eq!(of("colour"), None);
        assert_eq!(of(&"x".repeat(5000)), None);
    }
}
