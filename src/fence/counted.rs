use std::fmt::Display;

/// Returns a number with its noun, in the singular for one: `1 VM`, `2 VMs`. For nouns whose plural ends with s.
pub fn counted<N: Display + PartialEq + From<u8>>(count: N, noun: &str) -> String {
    let ending = if count == N::from(1) { "" } else { "s" };
    format!("{count} {noun}{ending}")
}

/// Returns items with commas between them, at most ten.
pub fn listed<T: Display>(items: impl IntoIterator<Item = T>) -> String {
    let mut items = items.into_iter();
    let shown: Vec<String> = items.by_ref().take(10).map(|item| item.to_string()).collect();
    match items.count() {
        0 => shown.join(", "),
        more => format!("{} and {more} more", shown.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_one_is_singular() {
        assert_eq!(counted(0_usize, "VM"), "0 VMs");
        assert_eq!(counted(1_u64, "key file"), "1 key file");
        assert_eq!(counted(21_u64, "request"), "21 requests");
    }

    #[test]
    fn long_lists_are_cut() {
        assert_eq!(listed(["a", "b"]), "a, b");
        assert!(listed([7; 12]).ends_with("7 and 2 more"));
    }
}
