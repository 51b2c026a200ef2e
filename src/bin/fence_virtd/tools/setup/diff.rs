//! Differences of two texts, in the format of diff -u.

use std::ops::Range;

use fence_virt::fence::is_printable;

/// Number of unchanged lines around each change.
const CONTEXT: usize = 3;

/// Maximum size of the table of common lines. Without the table, everything between
/// the first and the last change counts as replaced.
const TABLE_MAX: usize = 4_000_000;

/// Range of old lines, and of the new ones that replace it.
#[derive(Debug, Clone, PartialEq, Eq)]
struct LineChange {
    old: Range<usize>,
    new: Range<usize>,
}

/// Returns the difference of two texts; empty if there is none. Control characters are replaced.
pub(super) fn unified(name: &str, old: &str, new: &str) -> String {
    let old = lines(old);
    let new = lines(new);
    let changes = changes(&old, &new);
    if changes.is_empty() {
        return String::new();
    }
    let mut out = format!("--- {name}\n+++ {name} (new)\n");
    let mut rest = &changes[..];
    while let Some(first) = rest.first() {
        // Changes with adjacent contexts form one hunk.
        let apart = rest.windows(2).position(|pair| pair[1].old.start - pair[0].old.end > 2 * CONTEXT);
        let (hunk, later) = rest.split_at(apart.map_or(rest.len(), |at| at + 1));
        push_hunk(first.old.start.min(CONTEXT), hunk, &old, &new, &mut out);
        rest = later;
    }
    out
}

fn lines(text: &str) -> Vec<&str> {
    text.split_inclusive('\n').collect()
}

/// Appends a hunk with `before` lines of context above the first change.
fn push_hunk(before: usize, hunk: &[LineChange], old: &[&str], new: &[&str], out: &mut String) {
    let (Some(first), Some(last)) = (hunk.first(), hunk.last()) else { return };
    let after = (old.len() - last.old.end).min(CONTEXT);
    let old_range = first.old.start - before..last.old.end + after;
    let new_range = first.new.start - before..last.new.end + after;
    out.push_str(&format!("@@ -{} +{} @@\n", place(&old_range), place(&new_range)));
    let mut at = old_range.start;
    for change in hunk {
        push_lines(' ', &old[at..change.old.start], out);
        push_lines('-', &old[change.old.clone()], out);
        push_lines('+', &new[change.new.clone()], out);
        at = change.old.end;
    }
    push_lines(' ', &old[at..old_range.end], out);
}

/// Returns the first line and the count; for an empty range, the line before it.
fn place(range: &Range<usize>) -> String {
    let start = if range.is_empty() { range.start } else { range.start + 1 };
    format!("{start},{}", range.len())
}

fn push_lines(mark: char, lines: &[&str], out: &mut String) {
    for line in lines {
        let text = line.trim_end_matches(['\n', '\r']);
        out.push(mark);
        out.extend(text.chars().map(|c| if is_printable(c) || c == '\t' { c } else { '\u{fffd}' }));
        out.push('\n');
        if !line.ends_with('\n') {
            out.push_str("\\ No newline at end of file\n");
        }
    }
}

/// Returns all changes in order, no two of them adjacent.
fn changes(old: &[&str], new: &[&str]) -> Vec<LineChange> {
    let head = old.iter().zip(new).take_while(|(a, b)| a == b).count();
    let old_rest = &old[head..];
    let new_rest = &new[head..];
    let tail = old_rest.iter().rev().zip(new_rest.iter().rev()).take_while(|(a, b)| a == b).count();
    let old_rest = &old_rest[..old_rest.len() - tail];
    let new_rest = &new_rest[..new_rest.len() - tail];
    let mut changes: Vec<LineChange> = Vec::new();
    let mut from = 0;
    let mut to = 0;
    for (a, b) in common(old_rest, new_rest).into_iter().chain([(old_rest.len(), new_rest.len())]) {
        if a > from || b > to {
            changes.push(LineChange { old: head + from..head + a, new: head + to..head + b });
        }
        (from, to) = (a + 1, b + 1);
    }
    changes
}

/// Returns the longest common subsequence, as pairs of indices.
fn common(old: &[&str], new: &[&str]) -> Vec<(usize, usize)> {
    let width = new.len() + 1;
    if (old.len() + 1).saturating_mul(width) > TABLE_MAX {
        return Vec::new();
    }
    // longest[a * width + b]: number of common lines of old[a..] and new[b..].
    let mut longest = vec![0_u32; (old.len() + 1) * width];
    for a in (0..old.len()).rev() {
        for b in (0..new.len()).rev() {
            longest[a * width + b] = match old[a] == new[b] {
                true => longest[(a + 1) * width + b + 1] + 1,
                false => longest[(a + 1) * width + b].max(longest[a * width + b + 1]),
            };
        }
    }
    let mut pairs = Vec::new();
    let mut a = 0;
    let mut b = 0;
    while a < old.len() && b < new.len() {
        if old[a] == new[b] {
            pairs.push((a, b));
            (a, b) = (a + 1, b + 1);
        } else if longest[(a + 1) * width + b] >= longest[a * width + b + 1] {
            a += 1;
        } else {
            b += 1;
        }
    }
    pairs
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_has_three_lines_around_it() {
        let old = "1\n2\n3\n4\n5\n6\n7\n8\n9\n";
        let new = old.replace("5\n", "five\nand\n");
        let expected = "--- f\n+++ f (new)\n@@ -2,7 +2,8 @@\n 2\n 3\n 4\n-5\n+five\n+and\n 6\n 7\n 8\n";
        assert_eq!(unified("f", old, &new), expected);
        assert_eq!(unified("f", old, old), "");
    }

    #[test]
    fn added_and_removed_lines() {
        assert_eq!(unified("f", "", "a\nb\n"), "--- f\n+++ f (new)\n@@ -0,0 +1,2 @@\n+a\n+b\n");
        assert_eq!(unified("f", "a\n", ""), "--- f\n+++ f (new)\n@@ -1,1 +0,0 @@\n-a\n");
        let no_end = "--- f\n+++ f (new)\n@@ -1,1 +1,1 @@\n-a\n\\ No newline at end of file\n+a\n";
        assert_eq!(unified("f", "a", "a\n"), no_end);
        assert!(unified("f", "", "\u{1b}[2J\tx\r\n").ends_with("+\u{fffd}[2J\tx\n"));
    }

    #[test]
    fn changes_far_apart_are_two_hunks() {
        let old: String = (0..20).map(|line| format!("{line}\n")).collect();
        let far = old.replace("\n3\n", "\nx\n").replace("\n12\n", "\n");
        assert_eq!(unified("f", &old, &far).matches("@@ -").count(), 2);
        let near = old.replace("\n3\n", "\nx\n").replace("\n10\n", "\n");
        assert_eq!(unified("f", &old, &near).matches("@@ -").count(), 1);
    }

    /// Applies the changes to the old lines, which must give the new ones.
    fn patched<'a>(old: &[&'a str], new: &[&'a str], changes: &[LineChange]) -> Vec<&'a str> {
        let mut out = Vec::new();
        let mut at = 0;
        for change in changes {
            out.extend(&old[at..change.old.start]);
            assert_eq!(change.new.start, out.len(), "{changes:?}");
            out.extend(&new[change.new.clone()]);
            at = change.old.end;
        }
        out.extend(&old[at..]);
        out
    }

    #[test]
    fn changes_of_random_texts_give_the_new_text() {
        let mut seed = 0x9e37_79b9_7f4a_7c15_u64;
        let mut below = |limit: u64| {
            seed ^= seed << 13;
            seed ^= seed >> 7;
            seed ^= seed << 17;
            seed % limit
        };
        for _ in 0..20_000 {
            let mut text = || {
                let lines = below(12);
                (0..lines).map(|_| ["a\n", "b\n", "c\n", "d\n"][below(4) as usize]).collect::<String>()
            };
            let old = text();
            let new = text();
            let old = lines(&old);
            let new = lines(&new);
            let changes = changes(&old, &new);
            assert_eq!(patched(&old, &new, &changes), new);
            for pair in changes.windows(2) {
                assert!(pair[0].old.end < pair[1].old.start && pair[0].new.end < pair[1].new.start);
            }
        }
    }

    #[test]
    fn texts_too_large_for_the_table_are_replaced() {
        let old: Vec<String> = (0..3000).map(|line| format!("{line}\n")).collect();
        let new: Vec<String> = old.iter().rev().cloned().collect();
        let text = unified("f", &old.concat(), &new.concat());
        assert!(text.contains("@@ -1,3000 +1,3000 @@"));
    }
}
