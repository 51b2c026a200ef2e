//! Misspelt words.

/// Maximum length of a word to compare, in characters.
const WORD_MAX: usize = 40;

/// Minimum length of a word that is taken for the beginning of another, in characters.
const BEGINNING_MIN: usize = 3;

/// Finds the candidate that a misspelt word most likely means: the only one that begins with it, or else the
/// one with the fewest edits, at most a third of the word's letters (but one edit is always allowed).
pub fn nearest(word: &str, candidates: impl Iterator<Item = &'static str>) -> Option<&'static str> {
    nearest_of(word, &candidates.collect::<Vec<_>>())
}

// One function for all callers, as the agents are to be small.
fn nearest_of(word: &str, candidates: &[&'static str]) -> Option<&'static str> {
    let word: Vec<char> = word.chars().take(WORD_MAX + 1).map(|c| c.to_ascii_lowercase()).collect();
    if word.len() > WORD_MAX {
        return None;
    }
    if word.len() >= BEGINNING_MIN {
        let begins = |candidate: &&&str| word.iter().copied().eq(candidate.chars().take(word.len()));
        let mut longer = candidates.iter().filter(begins);
        if let Some(first) = longer.next() {
            if longer.all(|other| other == first) {
                return Some(first);
            }
        }
    }
    let limit = (word.len() / 3).max(1);
    candidates
        .iter()
        .filter(|candidate| candidate.len().abs_diff(word.len()) <= limit)
        .map(|candidate| (distance(&word, candidate), candidate))
        .filter(|(edits, _)| *edits <= limit)
        .min_by_key(|(edits, _)| *edits)
        .map(|(_, candidate)| *candidate)
}

/// Returns the end of a message that asks for the word most likely meant; empty if none is near.
pub fn did_you_mean(word: &str, candidates: impl Iterator<Item = &'static str>) -> String {
    nearest(word, candidates).map_or(String::new(), |known| format!("; did you mean \"{known}\"?"))
}

/// Edit distance: the number of insertions, deletions, replacements and swaps of adjacent letters. A digit
/// in place of another counts twice: sha3 is not a misspelt sha1.
fn distance(word: &[char], candidate: &str) -> usize {
    let candidate: Vec<char> = candidate.chars().collect();
    let mut rows =
        [vec![0; candidate.len() + 1], (0..=candidate.len()).collect(), vec![0; candidate.len() + 1]];
    for (i, &a) in word.iter().enumerate() {
        let [before, above, row] = &mut rows;
        row[0] = i + 1;
        for (j, &b) in candidate.iter().enumerate() {
            let is_other_number = a.is_ascii_digit() && b.is_ascii_digit();
            let replaced = above[j] + if a == b { 0 } else { 1 + usize::from(is_other_number) };
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
        for (a, b, edits) in [
            ("", "", 0),
            ("", "abc", 3),
            ("abc", "", 3),
            ("prot", "port", 1),
            ("kitten", "sitting", 3),
            ("sha3", "sha1", 2),
            ("sha265", "sha256", 1),
        ] {
            assert_eq!(distance(&chars(a), b), edits, "{a} {b}");
        }
    }

    #[test]
    fn a_message_asks_for_the_word() {
        assert_eq!(did_you_mean("stauts", ["off", "status"].into_iter()), "; did you mean \"status\"?");
        assert_eq!(did_you_mean("destroy", ["off", "status"].into_iter()), "");
    }

    #[test]
    fn a_typo_finds_its_key() {
        assert_eq!(of("prot"), Some("port"));
        assert_eq!(of("KEYFILE"), Some("key_file"));
        assert_eq!(of("interfaces"), Some("interface"));
        assert_eq!(of("colour"), None);
        assert_eq!(of(&"x".repeat(5000)), None);
        assert_eq!(of("inter"), Some("interface"));
        assert_eq!((of("in"), of("")), (None, None), "too short");
        let hashes = |word: &str| nearest(word, ["none", "sha1", "sha256", "sha512"].into_iter());
        assert_eq!([hashes("sha2"), hashes("SHA-256"), hashes("sha265")], [Some("sha256"); 3]);
        assert_eq!([hashes("sha3"), hashes("md5")], [None; 2]);
        assert_eq!(nearest("grou", ["groups", "group"].into_iter()), Some("group"));
    }
}
