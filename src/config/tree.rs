use super::diagnostic_sink::{DiagnosticSink, quoted};
use super::lexer::{Lexer, Span, Token, TokenKind};

/// Maximum nesting of sections.
const DEPTH_MAX: usize = 16;

/// Untyped section, or the whole file.
#[derive(Debug, Default)]
pub(super) struct Section<'a> {
    pub(super) name: Option<Span<'a>>,
    /// Value before the brace: `group = "label" {`.
    pub(super) label: Option<Span<'a>>,
    pub(super) entries: Vec<KeyEntry<'a>>,
    pub(super) sections: Vec<Section<'a>>,
}

impl Section<'_> {
    /// Byte offset of its name; 0 for the whole file.
    pub(super) fn at(&self) -> usize {
        self.name.map_or(0, |name| name.at)
    }
}

/// Key with its value.
#[derive(Debug, Clone, Copy)]
pub(super) struct KeyEntry<'a> {
    pub(super) key: Span<'a>,
    pub(super) value: Span<'a>,
}

/// Parses the whole text. Reports syntax errors and skips to the next `;` or `}`.
pub(super) fn read<'a>(text: &'a str, sink: &mut DiagnosticSink) -> Section<'a> {
    let mut root = Section::default();
    Parser { lexer: Lexer::new(text), sink }.items(&mut root, 0);
    root
}

struct Parser<'a, 'r> {
    lexer: Lexer<'a>,
    sink: &'r mut DiagnosticSink,
}

impl<'a> Parser<'a, '_> {
    /// Parses keys and sections up to the brace that closes this section.
    fn items(&mut self, section: &mut Section<'a>, depth: usize) {
        while let Some(token) = self.lexer.next() {
            match token.kind {
                TokenKind::Name => self.item(token, section, depth),
                TokenKind::Close if depth > 0 => return,
                TokenKind::Close => self.sink.error(token.at, "unmatched '}': no section is open here"),
                TokenKind::End => self.sink.error(token.at, "stray ';': remove it"),
                _ => self.unexpected(token, depth, "expected a key or the name of a section"),
            }
        }
        if depth > 0 {
            self.sink.error(section.at(), "unclosed section: its '}' is missing");
        }
    }

    fn item(&mut self, name: Token<'a>, section: &mut Section<'a>, depth: usize) {
        let message = || format!("expected '=' or '{{' after {}", quoted(name.text));
        match self.lexer.next() {
            None => self.sink.error(name.at, message()),
            Some(token) if token.kind == TokenKind::Equals => self.value(name, section, depth),
            Some(token) if token.kind == TokenKind::Open => self.section(name, None, section, depth),
            Some(token) => self.unexpected(token, depth, &message()),
        }
    }

    fn value(&mut self, name: Token<'a>, section: &mut Section<'a>, depth: usize) {
        let key = quoted(name.text);
        let Some(value) = self.lexer.next() else {
            return self.sink.error(name.at, format!("{key} has no value"));
        };
        if value.kind != TokenKind::Value {
            let message = format!("the value of {key} must be in double quotes");
            return self.unexpected(value, depth, &message);
        }
        match self.lexer.next() {
            Some(token) if token.kind == TokenKind::Open => {
                self.section(name, Some(value.span()), section, depth)
            }
            Some(token) if token.kind == TokenKind::End => {
                section.entries.push(KeyEntry { key: name.span(), value: value.span() });
            }
            next => match value.first_line_end() {
                Some(line_end) => {
                    self.sink.error(value.at, "missing closing quote of this value, or missing ';' after it");
                    self.lexer.seek(line_end);
                }
                None => {
                    section.entries.push(KeyEntry { key: name.span(), value: value.span() });
                    self.unfinished(value, next, depth);
                }
            },
        }
    }

    /// Recovers from a value without its semicolon: a name or `}` starts the next item.
    fn unfinished(&mut self, value: Token<'a>, next: Option<Token<'a>>, depth: usize) {
        let end_quote = value.span().at + value.text.len();
        self.sink.error(end_quote, "missing ';' after this value");
        match next {
            None => {}
            Some(token) if matches!(token.kind, TokenKind::Name | TokenKind::Close) => {
                self.lexer.seek(token.at)
            }
            Some(token) => self.recover(token, depth),
        }
    }

    fn section(&mut self, name: Token<'a>, label: Option<Span<'a>>, parent: &mut Section<'a>, depth: usize) {
        if depth == DEPTH_MAX {
            self.sink.error(name.at, format!("sections are nested more than {DEPTH_MAX} deep here"));
            return self.skip_section();
        }
        let mut section = Section { name: Some(name.span()), label, ..Section::default() };
        self.items(&mut section, depth + 1);
        parent.sections.push(section);
    }

    fn skip_section(&mut self) {
        let mut depth = 1;
        while depth > 0 {
            match self.lexer.next().map(|token| token.kind) {
                Some(TokenKind::Open) => depth += 1,
                Some(TokenKind::Close) => depth -= 1,
                Some(_) => {}
                None => return,
            }
        }
    }

    /// Reports an unexpected token and skips the statement.
    fn unexpected(&mut self, token: Token<'a>, depth: usize, message: &str) {
        let message = match token.kind {
            TokenKind::Unclosed => "unclosed quote",
            TokenKind::Stray => "unexpected control character",
            _ => message,
        };
        self.sink.error(token.at, message);
        self.recover(token, depth);
    }

    /// Skips from this token to the end of the statement. A quoted text over
    /// several lines most likely lacks a quote: only its first line is skipped.
    fn recover(&mut self, mut token: Token<'a>, depth: usize) {
        loop {
            match (token.kind, token.first_line_end()) {
                (TokenKind::End, _) => return,
                (TokenKind::Close, _) => return self.lexer.seek(token.at),
                (TokenKind::Open, _) if depth == DEPTH_MAX => return self.skip_section(),
                (TokenKind::Open, _) => {
                    let mut nameless = Section { name: Some(token.span()), ..Section::default() };
                    return self.items(&mut nameless, depth + 1);
                }
                (_, Some(line_end)) => return self.lexer.seek(line_end),
                _ => {}
            }
            match self.lexer.next() {
                Some(next) => token = next,
                None => return,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    /// Formats the tree in one line, and line:column of every mistake.
    fn outline(text: &str) -> (String, Vec<String>) {
        let mut sink = DiagnosticSink::new(text.as_bytes());
        let root = read(text, &mut sink);
        let found = sink.finish(Path::new("f"), text);
        (show(&root), found.iter().map(|d| format!("{}:{} {}", d.line, d.column, d.message)).collect())
    }

    fn show(section: &Section) -> String {
        let entries = section.entries.iter().map(|entry| format!("{}={}", entry.key.text, entry.value.text));
        let sections = section.sections.iter().map(|inner| {
            let label = inner.label.map_or(String::new(), |label| format!(":{}", label.text));
            format!("{}{label}({})", inner.name.map_or("", |name| name.text), show(inner))
        });
        entries.chain(sections).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn keys_sections_and_labels() {
        let (tree, mistakes) = outline("a = \"1\";\r\nb { c = \"x\n y\"; d = \"l\" { e = \"2\"; } f { } }");
        assert_eq!(tree, "a=1 b(c=x\n y d:l(e=2) f())");
        assert_eq!(mistakes, [""; 0]);
    }

    #[test]
    fn all_mistakes_are_found_in_one_run() {
        let text = "a { b = 1; c = \"2\" d = \"3\"; ; e \"4\"; = \"5\"; f = \"6\" }\n}\ng { h { x = \"1\"; }";
        let (tree, mistakes) = outline(text);
        assert_eq!(tree, "a(c=2 d=3 f=6) g(h(x=1))");
        let expected = [
            "1:9 the value of \"b\" must be in double quotes",
            "1:18 missing ';' after this value",
            "1:29 stray ';': remove it",
            "1:33 expected '=' or '{' after \"e\"",
            "1:38 expected a key or the name of a section",
            "1:51 missing ';' after this value",
            "2:1 unmatched '}': no section is open here",
            "3:1 unclosed section: its '}' is missing",
        ];
        assert_eq!(mistakes, expected);
    }

    #[test]
    fn a_forgotten_quote_costs_one_line() {
        let (tree, mistakes) =
            outline("a {\n b = \"1;\n c = \"2\";\n d = 3\";\n e = \"4\";\n}\nf = \"5;\ng { }");
        assert_eq!(tree, "a(c=2 e=4) g()");
        let expected = [
            "2:6 missing closing quote of this value, or missing ';' after it",
            "4:6 the value of \"d\" must be in double quotes",
            "7:5 unclosed quote",
        ];
        assert_eq!(mistakes, expected);
    }

    #[test]
    fn a_section_with_a_wrong_head_is_still_read() {
        let (tree, mistakes) = outline("a { b c { d = 1; } e = \"2\"; }");
        assert_eq!(tree, "a(e=2)");
        assert_eq!(mistakes.len(), 2);
    }

    #[test]
    fn nesting_is_bounded() {
        let nest = |depth| format!("{}b = \"1\";{} c = \"2\";", "a {".repeat(depth), "}".repeat(depth));
        assert_eq!(outline(&nest(DEPTH_MAX)).1, [""; 0]);
        for depth in [DEPTH_MAX + 1, 300_000] {
            let (tree, mistakes) = outline(&nest(depth));
            assert!(tree.starts_with("c=2 a("));
            assert_eq!(mistakes, ["1:49 sections are nested more than 16 deep here"]);
        }
        assert_eq!(outline(&"{".repeat(300_000)).1.len(), DEPTH_MAX * 2 + 1);
    }
}
