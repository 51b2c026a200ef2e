use std::fmt::Display;

/// Returns a number with its noun, in the singular for one: `1 VM`, `2 VMs`. For nouns whose plural ends with s.
pub fn counted<N: Display + PartialEq + From<u8>>(count: N, noun: &str) -> String {
    let ending = if count == N::from(1) { "" } else { "s" };
    format!("{count} {noun}{ending}")
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
}
