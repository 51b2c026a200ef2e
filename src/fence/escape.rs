//! Text from outside, made fit for a terminal, a line of the log, or a column of a list.

/// True for a blank and for what has a glyph; false for controls, bidirectional and other formats,
/// separators of lines and paragraphs, other blanks, and characters that Unicode leaves unassigned.
pub fn is_printable(c: char) -> bool {
    if c.is_ascii() {
        return matches!(c, ' '..='~');
    }
    // The standard library escapes exactly these, and after a letter no combining characters.
    let mut bytes = *b"a\0\0\0\0";
    let length = 1 + c.encode_utf8(&mut bytes[1..]).len();
    std::str::from_utf8(&bytes[..length]).is_ok_and(|text| text.escape_debug().count() == 2)
}

/// Makes one line of text that changes neither a terminal's state nor the order of what it shows: breaks and
/// tabs become blanks, other characters that are not printable an escape such as `\u{202e}`.
pub fn printable(text: &str) -> String {
    replaced(text, &|c, _| is_printable(c), &|c| matches!(c, '\n' | '\r' | '\t'))
}

/// Makes one word of a name: blanks, `,` and `;`, at which callers split lists, are escaped as well,
/// and backslashes, which pacemaker reads as the beginning of a line break. An escape stays as it is.
pub fn column(name: &str) -> String {
    let is_kept = |c, rest: &str| match c {
        ' ' | ',' | ';' => false,
        '\\' => is_escape(rest),
        c => is_printable(c),
    };
    replaced(name, &is_kept, &|_| false)
}

// One function for both, as the agents are to be small.
fn replaced(text: &str, is_kept: &dyn Fn(char, &str) -> bool, is_blank: &dyn Fn(char) -> bool) -> String {
    let mut out = String::with_capacity(text.len());
    for (at, c) in text.char_indices() {
        match c {
            c if is_kept(c, &text[at..]) => out.push(c),
            c if is_blank(c) => out.push(' '),
            c => out.extend(c.escape_unicode()),
        }
    }
    out
}

/// True if a text begins with an escape of this module.
fn is_escape(text: &str) -> bool {
    let digits = text.strip_prefix("\\u{").and_then(|rest| rest.split_once('}')).map(|(digits, _)| digits);
    digits.is_some_and(|digits| {
        (1..=6).contains(&digits.len()) && digits.bytes().all(|byte| byte.is_ascii_hexdigit())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Controls of ASCII and of Latin-1, formats, separators, blanks, private and unassigned ones.
    const UNPRINTABLE: [char; 20] = [
        '\0',
        '\u{7}',
        '\u{1b}',
        '\u{7f}',
        '\u{85}',
        '\u{9b}',
        '\u{a0}',
        '\u{ad}',
        '\u{61c}',
        '\u{200b}',
        '\u{200e}',
        '\u{202a}',
        '\u{202e}',
        '\u{2028}',
        '\u{2029}',
        '\u{2066}',
        '\u{2069}',
        '\u{3000}',
        '\u{feff}',
        '\u{e0041}',
    ];

    #[test]
    fn what_has_a_glyph_is_printable() {
        for c in UNPRINTABLE {
            assert!(!is_printable(c), "{c:?}");
            let text = format!("a{c}b");
            let expected = format!("a\\u{{{:x}}}b", u32::from(c));
            assert_eq!(printable(&text), expected);
            assert_eq!(column(&text), expected);
        }
        for c in ['\n', '\r', '\t'] {
            assert!(!is_printable(c));
        }
        let ordinary = "node-1.example_é\u{301}中अ\u{93f}\"'$%&()*+/:<=>?@[]^`{|}~";
        assert!(ordinary.chars().all(is_printable));
        assert_eq!((printable(ordinary), column(ordinary)), (ordinary.into(), ordinary.into()));
    }

    #[test]
    fn a_line_has_no_breaks_and_keeps_its_blanks() {
        assert_eq!(printable("a b,c;\\n\n\r\td"), "a b,c;\\n   d");
    }

    #[test]
    fn a_column_is_one_word() {
        assert_eq!(column("a b,c;d"), "a\\u{20}b\\u{2c}c\\u{3b}d");
        assert_eq!(column("a\\nb\n"), "a\\u{5c}nb\\u{a}");
        assert_eq!(column("\\u{}\\u{1234567}\\u{x}\\"), "\\u{5c}u{}\\u{5c}u{1234567}\\u{5c}u{x}\\u{5c}");
    }

    #[test]
    fn what_is_escaped_stays_so() {
        for text in ["a b\\n\u{202e}", "\\u{20}", "x\u{1b}[2J"] {
            let (line, word) = (printable(text), column(text));
            assert_eq!((printable(&line), column(&word)), (line.as_str().into(), word.as_str().into()));
        }
    }
}
