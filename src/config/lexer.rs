/// Piece of the file with its position.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Span<'a> {
    pub(super) text: &'a str,
    /// Byte offset in the file.
    pub(super) at: usize,
}

/// Kind of a token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum TokenKind {
    /// A key or the name of a section.
    Name,
    /// Text between two double quotes.
    Value,
    /// A quote without a closing one, and the rest of the file.
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

/// One token. The text of a value excludes its quotes, but its offset is that of the first quote.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Token<'a> {
    pub(super) kind: TokenKind,
    pub(super) text: &'a str,
    pub(super) at: usize,
}

impl<'a> Token<'a> {
    /// Span of the text, without the quotes of a value.
    pub(super) fn span(&self) -> Span<'a> {
        let quote = usize::from(matches!(self.kind, TokenKind::Value | TokenKind::Unclosed));
        Span { text: self.text, at: self.at + quote }
    }

    /// Offset of the end of the first line, if the token has several.
    pub(super) fn first_line_end(&self) -> Option<usize> {
        Some(self.span().at + self.text.find('\n')?)
    }
}

/// Splits the file into tokens without comments and white space. There are no
/// escapes: a value ends at the next quote.
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

    /// Continues at this offset, which must be the start or end of a line or token.
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
            '{' => (TokenKind::Open, &rest[..1], 1),
            '}' => (TokenKind::Close, &rest[..1], 1),
            '=' => (TokenKind::Equals, &rest[..1], 1),
            ';' => (TokenKind::End, &rest[..1], 1),
            '"' => match rest[1..].split_once('"') {
                Some((value, _)) => (TokenKind::Value, value, value.len() + 2),
                None => (TokenKind::Unclosed, &rest[1..], rest.len()),
            },
            c if c.is_control() => (TokenKind::Stray, &rest[..c.len_utf8()], c.len_utf8()),
            _ => {
                let end = rest.find(ends_name).unwrap_or(rest.len());
                (TokenKind::Name, &rest[..end], end)
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

    fn kinds(text: &str) -> Vec<(TokenKind, &str, usize)> {
        Lexer::new(text).map(|token| (token.kind, token.text, token.at)).collect()
    }

    #[test]
    fn every_token() {
        let expected = [
            (TokenKind::Name, "a-b/c.1", 0),
            (TokenKind::Open, "{", 7),
            (TokenKind::Name, "k", 9),
            (TokenKind::Equals, "=", 10),
            (TokenKind::Value, "x #\ny\\", 11),
            (TokenKind::End, ";", 19),
            (TokenKind::Close, "}", 20),
        ];
        assert_eq!(kinds("a-b/c.1{\tk=\"x #\ny\\\";}"), expected);
    }

    #[test]
    fn comments_and_blanks_are_skipped() {
        assert_eq!(kinds("\u{feff}# \"x\" {\r\n a# b\n#c"), [(TokenKind::Name, "a", 13)]);
        assert_eq!(kinds(" \r\n\t"), []);
    }

    #[test]
    fn stray_characters_and_unclosed_quotes() {
        assert_eq!(
            kinds("a\0\u{b}"),
            [(TokenKind::Name, "a", 0), (TokenKind::Stray, "\0", 1), (TokenKind::Stray, "\u{b}", 2)]
        );
        assert_eq!(kinds("\"ab\nc"), [(TokenKind::Unclosed, "ab\nc", 0)]);
        assert_eq!(Lexer::new("\"ab\nc").next().and_then(|token| token.first_line_end()), Some(3));
        assert_eq!(kinds("é ü"), [(TokenKind::Name, "é", 0), (TokenKind::Name, "ü", 3)]);
    }
}
