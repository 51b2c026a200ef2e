use super::diagnostic_sink::{Report, quoted};
use super::lexer::{Kind, Lexer, Spot, Token};

/// Sections lie at most so deep in each other.
const DEPTH_MAX: usize = 16;

/// A section, or the whole file, without any meaning yet.
#[derive(Debug, Default)]
pub(super) struct Section<'a> {
    pub(super) name: Option<Spot<'a>>,
    /// The value before the brace: `group = "label" {`.
    pub(super) label: Option<Spot<'a>>,
    pub(super) entries: Vec<Entry<'a>>,
    pub(super) sections: Vec<Section<'a>>,
}

impl Section<'_> {
    /// Where it starts; 0 for the whole file.
    pub(super) fn at(&self) -> usize {
        self.name.map_or(0, |name| name.at)
    }
}

/// A key and its value.
#[derive(Debug, Clone, Copy)]
pub(super) struct Entry<'a> {
    pub(super) key: Spot<'a>,
    pub(super) value: Spot<'a>,
}

/// Reads the whole text; what cannot be read is reported and skipped up to
/// the next `;` or `}`.
pub(super) fn read<'a>(text: &'a str, report: &mut Report) -> Section<'a> {
    let mut root = Section::default();
    Parser { lexer: Lexer::new(text), report }.items(&mut root, 0);
    root
}

struct Parser<'a, 'r> {
    lexer: Lexer<'a>,
    report: &'r mut Report,
}

impl<'a> Parser<'a, '_> {
    /// Keys and sections up to the brace that closes this section.
    fn items(&mut self, section: &mut Section<'a>, depth: usize) {
        while let Some(token) = self.lexer.next() {
            match token.kind {
                Kind::Name => self.item(token, section, depth),
                Kind::Close if depth > 0 => return,
                Kind::Close => {
                    self.report.error(token.at, "this '}' closes nothing: no section is open here")
                }
                Kind::End => self.report.error(token.at, "nothing stands before this ';', take it away"),
                _ => self.derail(token, depth, "a key or the name of a section belongs here"),
            }
        }
        if depth > 0 {
            self.report.error(section.at(), "this section is never closed: its '}' is missing");
        }
    }

    fn item(&mut self, name: Token<'a>, section: &mut Section<'a>, depth: usize) {
        let message = || format!("a '=' or a '{{' is missing after {}", quoted(name.text));
        match self.lexer.next() {
            None => self.report.error(name.at, message()),
            Some(token) if token.kind == Kind::Equals => self.value(name, section, depth),
            Some(token) if token.kind == Kind::Open => self.section(name, None, section, depth),
            Some(token) => self.derail(token, depth, &message()),
        }
    }

    fn value(&mut self, name: Token<'a>, section: &mut Section<'a>, depth: usize) {
        let key = quoted(name.text);
        let Some(value) = self.lexer.next() else {
            return self.report.error(name.at, format!("{key} has no value"));
        };
        if value.kind != Kind::Value {
            let message = format!("the value of {key} must stand between double quotes");
            return self.derail(value, depth, &message);
        }
        match self.lexer.next() {
            Some(token) if token.kind == Kind::Open => self.section(name, Some(value.spot()), section, depth),
            Some(token) if token.kind == Kind::End => {
                section.entries.push(Entry { key: name.spot(), value: value.spot() });
            }
            next => match value.first_line_end() {
                Some(line_end) => {
                    let message = "the closing quote of this value is missing, or the ';' after it";
                    self.report.error(value.at, message);
                    self.lexer.seek(line_end);
                }
                None => {
                    section.entries.push(Entry { key: name.spot(), value: value.spot() });
                    self.unfinished(value, next, depth);
                }
            },
        }
    }

    /// A value without its semicolon. What begins like a new item is one.
    fn unfinished(&mut self, value: Token<'a>, next: Option<Token<'a>>, depth: usize) {
        let end_quote = value.spot().at + value.text.len();
        self.report.error(end_quote, "a ';' is missing after this value");
        match next {
            None => {}
            Some(token) if matches!(token.kind, Kind::Name | Kind::Close) => self.lexer.seek(token.at),
            Some(token) => self.recover(token, depth),
        }
    }

    fn section(&mut self, name: Token<'a>, label: Option<Spot<'a>>, parent: &mut Section<'a>, depth: usize) {
        if depth == DEPTH_MAX {
            let message = format!("sections lie more than {DEPTH_MAX} deep in each other here");
            self.report.error(name.at, message);
            return self.skip_section();
        }
        let mut section = Section { name: Some(name.spot()), label, ..Section::default() };
        self.items(&mut section, depth + 1);
        parent.sections.push(section);
    }

    fn skip_section(&mut self) {
        let mut depth = 1;
        while depth > 0 {
            match self.lexer.next().map(|token| token.kind) {
                Some(Kind::Open) => depth += 1,
                Some(Kind::Close) => depth -= 1,
                Some(_) => {}
                None => return,
            }
        }
    }

    /// Reports that this token does not belong here, and goes on behind.
    fn derail(&mut self, token: Token<'a>, depth: usize, message: &str) {
        let message = match token.kind {
            Kind::Unclosed => "this quote is never closed",
            Kind::Stray => "a control character does not belong here",
            _ => message,
        };
        self.report.error(token.at, message);
        self.recover(token, depth);
    }

    /// Skips, from this token on, all up to the end of the statement. A quoted
    /// text over several lines is taken for a forgotten quote: its first line
    /// is skipped.
    fn recover(&mut self, mut token: Token<'a>, depth: usize) {
        loop {
            match (token.kind, token.first_line_end()) {
                (Kind::End, _) => return,
                (Kind::Close, _) => return self.lexer.seek(token.at),
                (Kind::Open, _) if depth == DEPTH_MAX => return self.skip_section(),
                (Kind::Open, _) => {
                    let mut nameless = Section { name: Some(token.spot()), ..Section::default() };
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

    /// The tree in one line, and line:column of every mistake.
    fn outline(text: &str) -> (String, Vec<String>) {
        let mut report = Report::new(text.as_bytes());
        let root = read(text, &mut report);
        let found = report.finish(Path::new("f"), text);
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
            "1:9 the value of \"b\" must stand between double quotes",
            "1:18 a ';' is missing after this value",
            "1:29 nothing stands before this ';', take it away",
            "1:33 a '=' or a '{' is missing after \"e\"",
            "1:38 a key or the name of a section belongs here",
            "1:51 a ';' is missing after this value",
            "2:1 this '}' closes nothing: no section is open here",
            "3:1 this section is never closed: its '}' is missing",
        ];
        assert_eq!(mistakes, expected);
    }

    #[test]
    fn a_forgotten_quote_costs_one_line() {
        let (tree, mistakes) =
            outline("a {\n b = \"1;\n c = \"2\";\n d = 3\";\n e = \"4\";\n}\nf = \"5;\ng { }");
        assert_eq!(tree, "a(c=2 e=4) g()");
        let expected = [
            "2:6 the closing quote of this value is missing, or the ';' after it",
            "4:6 the value of \"d\" must stand between double quotes",
            "7:5 this quote is never closed",
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
            assert_eq!(mistakes, ["1:49 sections lie more than 16 deep in each other here"]);
        }
        assert_eq!(outline(&"{".repeat(300_000)).1.len(), DEPTH_MAX * 2 + 1);
    }
}
