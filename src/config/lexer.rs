/// A piece of the file and where it starts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Spot<'a> {
    pub(super) text: &'a str,
    /// Byte offset in the file.
    pub(super) at: usize,
}

/// The kinds of tokens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// A key or the name of a section.
    Name,
    /// What stands between two double quotes.
    Value,
    /// A quote and all behind it, for want of a second quote.
    Unclosed,
    /// `{`
    Open,
    /// `}`
    Close,
    /// `=`
    Equals,
    /// `;`
    End,
    /// A control character.
    Stray,
}

/// One token. A value's text is without its quotes, its place that of the
/// first quote.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Token<'a> {
    pub(super) kind: Kind,
    pub(super) text: &'a str,
    pub(super) at: usize,
}

impl<'a> Token<'a> {
    /// The text and its place, for a value without the quotes.
    pub(super) fn spot(&self) -> Spot<'a> {
        let quote = usize::from(matches!(self.kind, Kind::Value | Kind::Unclosed));
        Spot { text: self.text, at: self.at + quote }
    }

    /// Where the first line of this token ends, if it has several.
    pub(super) fn first_line_end(&self) -> Option<usize> {
        Some(self.spot().at + self.text.find('\n')?)
    }
}

/// Cuts the file into tokens: comments and white space are gone, and nothing
/// has a meaning yet. There are no escapes: a value ends at the next quote.
#[derive(Debug)]
pub(super) struct Lexer<'a> {
    text: &'a str,
    at: usize,
}

impl<'a> Lexer<'a> {
    pub(super) fn new(text: &'a str) -> Lexer<'a> {
        let at = if text.starts_with('\u{feff}') { '\u{feff}'.len_utf8() } else { 0 };
        Lexer { text, at }
    }

    /// Goes on at this place, which is the start or end of a line or token.
    pub(super) fn seek(&mut self, at: usize) {
        self.at = at;
    }

    fn skip_blanks(&mut self) {
        let mut in_comment = false;
        let rest = &self.text[self.at..];
        let token = rest.find(|c| {
            in_comment = (in_comment || c == '#') && c != '\n';
            !in_comment && !is_blank(c)
        });
        self.at += token.unwrap_or(rest.len());
    }
}

impl<'a> Iterator for Lexer<'a> {
    type Item = Token<'a>;

    fn next(&mut self) -> Option<Token<'a>> {
        self.skip_blanks();
        let at = self.at;
        let rest = &self.text[at..];
        let first = rest.chars().next()?;
        let (kind, text, length) = match first {
            '{' => (Kind::Open, &rest[..1], 1),
            '}' => (Kind::Close, &rest[..1], 1),
            '=' => (Kind::Equals, &rest[..1], 1),
            ';' => (Kind::End, &rest[..1], 1),
            '"' => match rest[1..].split_once('"') {
                Some((value, _)) => (Kind::Value, value, value.len() + 2),
                None => (Kind::Unclosed, &rest[1..], rest.len()),
            },
            c if c.is_control() => (Kind::Stray, &rest[..c.len_utf8()], c.len_utf8()),
            _ => {
                let end = rest.find(ends_name).unwrap_or(rest.len());
                (Kind::Name, &rest[..end], end)
            }
        };
        self.at += length;
        Some(Token { kind, text, at })
    }
}

fn is_blank(c: char) -> bool {
    matches!(c, ' ' | '\t' | '\r' | '\n')
}

fn ends_name(c: char) -> bool {
    is_blank(c) || c.is_control() || matches!(c, '{' | '}' | '=' | ';' | '"' | '#')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kinds(text: &str) -> Vec<(Kind, &str, usize)> {
        Lexer::new(text).map(|token| (token.kind, token.text, token.at)).collect()
    }

    #[test]
    fn every_token() {
        let expected = [
            (Kind::Name, "a-b/c.1", 0),
            (Kind::Open, "{", 7),
            (Kind::Name, "k", 9),
            (Kind::Equals, "=", 10),
            (Kind::Value, "x #\ny\\", 11),
            (Kind::End, ";", 19),
            (Kind::Close, "}", 20),
        ];
        assert_eq!(kinds("a-b/c.1{\tk=\"x #\ny\\\";}"), expected);
    }

    #[test]
    fn comments_and_blanks_are_gone() {
        assert_eq!(kinds("\u{feff}# \"x\" {\r\n a# b\n#c"), [(Kind::Name, "a", 13)]);
        assert_eq!(kinds(" \r\n\t"), []);
    }

    #[test]
    fn what_does_not_belong() {
        assert_eq!(
            kinds("a\0\u{b}"),
            [(Kind::Name, "a", 0), (Kind::Stray, "\0", 1), (Kind::Stray, "\u{b}", 2)]
        );
        assert_eq!(kinds("\"ab\nc"), [(Kind::Unclosed, "ab\nc", 0)]);
        assert_eq!(Lexer::new("\"ab\nc").next().and_then(|token| token.first_line_end()), Some(3));
        assert_eq!(kinds("é ü"), [(Kind::Name, "é", 0), (Kind::Name, "ü", 3)]);
    }
}
