/// Keys with fewer bytes of content than this are not examined for text with digits: `head -c` of
/// base64 or hexadecimal digits makes good longer ones.
const LONG: usize = 64;

/// Content that makes a key easy to guess, whatever its length.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeyWeakness {
    /// The key repeats this number of bytes from its start, or is filled up with blanks or zeros after them.
    Repetition(usize),
    /// The key reads as words that a person chose.
    Words,
}

/// Examines the content of a key: the bytes of its file that count.
pub fn examine(key: &[u8]) -> Option<KeyWeakness> {
    let is_filler = |byte: &u8| *byte == 0 || byte.is_ascii_whitespace();
    let filled = key.iter().rev().take_while(|byte| is_filler(byte)).count();
    let content = &key[..key.len() - filled];
    if reads_as_words(content) {
        return Some(KeyWeakness::Words);
    }
    // The last round may be cut short: the file is.
    let repeats = |period: &usize| content.iter().zip(&content[*period..]).all(|(a, b)| a == b);
    let period = (1..LONG).take_while(|period| 2 * period <= content.len()).find(repeats);
    let is_filled = filled > 1 && content.len() < LONG;
    period.or(is_filled.then_some(content.len().max(1))).map(KeyWeakness::Repetition)
}

/// True for printable text that is short, or that has blanks and no digits.
fn reads_as_words(content: &[u8]) -> bool {
    let Ok(text) = std::str::from_utf8(content) else { return false };
    let is_printable = |c: char| !c.is_control() || c.is_ascii_whitespace();
    let is_sentence = || text.contains(' ') && !text.contains(|c: char| c.is_ascii_digit());
    !text.is_empty() && text.chars().all(is_printable) && (text.len() < LONG || is_sentence())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Bytes without a pattern that the examination looks for.
    fn mixed(length: u32) -> Vec<u8> {
        (0..length).map(|at| (at.wrapping_mul(2_654_435_761) >> 24) as u8).collect()
    }

    fn of(key: &[u8]) -> Option<KeyWeakness> {
        examine(key)
    }

    #[test]
    fn keys_without_a_pattern_have_no_weakness() {
        assert_eq!(of(&mixed(4096)), None);
        assert_eq!(of(&mixed(20)), None, "its length is another matter");
        assert_eq!(of(&[]), None);
        let text = |digits: &str| -> String {
            let digit = |byte: &u8| digits.chars().nth(usize::from(*byte) % digits.len());
            mixed(200).iter().filter_map(digit).collect()
        };
        assert_eq!(of(text("0123456789abcdef\n").as_bytes()), None, "openssl rand -hex");
        assert_eq!(of(text("ABCDEFabcdef0123456789+/=\n").as_bytes()), None, "base64");
        let mut with_newline = mixed(4095);
        with_newline.push(b'\n');
        assert_eq!(of(&with_newline), None);
    }

    #[test]
    fn repetitions_are_found() {
        for (key, bytes) in [
            (vec![7; 4096], 1),
            (vec![0; 4096], 1),
            (b"\n\n\n".to_vec(), 1),
            (b"\xff\x00".repeat(2048), 2),
            (mixed(20).repeat(100), 20),
            (b"secret".repeat(600)[..3591].to_vec(), 6),
            ([mixed(20), vec![0; 4076]].concat(), 20),
        ] {
            assert_eq!(of(&key), Some(KeyWeakness::Repetition(bytes)));
        }
    }

    #[test]
    fn words_are_found() {
        let filled = [b"password".as_slice(), &[0; 4088]].concat();
        for key in [
            b"password".as_slice(),
            b"S3cret!\n",
            b"x",
            "gehe\u{ef}m\r\n".as_bytes(),
            b"0123456789abcdef0123456789abcdef",
            b"It was the best of times, it was the worst of times, it was the age of wisdom",
            &filled,
        ] {
            assert_eq!(of(key), Some(KeyWeakness::Words), "{}", String::from_utf8_lossy(key));
        }
    }
}
