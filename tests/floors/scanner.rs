//! Tokens of a Rust source file. Comments are dropped, doc comments kept; a
//! literal is one token, so that nothing inside it looks like code.

/// Kind of a token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Identifier or keyword; a raw identifier without its `r#`.
    Word,
    /// String, character or number; the text of a string is its contents.
    Literal,
    /// Lifetime or label.
    Lifetime,
    /// `::` or a single character.
    Mark,
    /// Doc comment of an item; adjacent lines are one token.
    Doc,
    /// Doc comment of the enclosing module.
    InnerDoc,
}

/// A token and the line where it begins, counted from 1.
#[derive(Debug, Clone)]
pub(crate) struct Token {
    pub(crate) kind: Kind,
    pub(crate) text: String,
    pub(crate) line: usize,
}

impl Token {
    pub(crate) fn is(&self, text: &str) -> bool {
        matches!(self.kind, Kind::Word | Kind::Mark) && self.text == text
    }

    pub(crate) fn is_doc(&self) -> bool {
        matches!(self.kind, Kind::Doc | Kind::InnerDoc)
    }
}

struct Scanner {
    text: Vec<char>,
    at: usize,
    line: usize,
    tokens: Vec<Token>,
    /// Last line of the doc comment that was read last.
    doc_end: usize,
}

/// Splits a source text into tokens.
pub(crate) fn scan(text: &str) -> Vec<Token> {
    let mut scanner =
        Scanner { text: text.chars().collect(), at: 0, line: 1, tokens: Vec::new(), doc_end: 0 };
    while scanner.at < scanner.text.len() {
        scanner.step();
    }
    scanner.tokens
}

fn is_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

impl Scanner {
    fn peek(&self, ahead: usize) -> char {
        self.text.get(self.at + ahead).copied().unwrap_or('\0')
    }

    fn follows(&self, text: &str) -> bool {
        text.chars().enumerate().all(|(at, c)| self.peek(at) == c)
    }

    fn take(&mut self, count: usize) -> String {
        let end = (self.at + count).min(self.text.len());
        let taken: String = self.text[self.at..end].iter().collect();
        self.line += taken.matches('\n').count();
        self.at = end;
        taken
    }

    fn take_while(&mut self, test: impl Fn(char) -> bool) -> String {
        let count = self.text[self.at..].iter().take_while(|c| test(**c)).count();
        self.take(count)
    }

    fn push(&mut self, kind: Kind, text: impl Into<String>, line: usize) {
        self.tokens.push(Token { kind, text: text.into(), line });
    }

    fn step(&mut self) {
        let line = self.line;
        let c = self.peek(0);
        if c.is_whitespace() {
            self.take_while(char::is_whitespace);
        } else if self.follows("//") {
            self.line_comment();
        } else if self.follows("/*") {
            self.block_comment();
        } else if let Some(hashes) = self.raw_string() {
            self.take_while(|c| c != '"');
            let text = self.take_raw(hashes);
            self.push(Kind::Literal, text, line);
        } else if c == '"' || ["b\"", "c\""].iter().any(|open| self.follows(open)) {
            self.take_while(|c| c != '"');
            let text = self.quoted('"');
            self.push(Kind::Literal, text, line);
        } else if self.follows("b'") {
            self.take(1);
            let text = self.quoted('\'');
            self.push(Kind::Literal, text, line);
        } else if c == '\'' {
            self.lifetime_or_char(line);
        } else if c.is_ascii_digit() {
            let mut text = self.take_while(is_word);
            if self.peek(0) == '.' && self.peek(1).is_ascii_digit() {
                text += &self.take(1);
                text += &self.take_while(is_word);
            }
            self.push(Kind::Literal, text, line);
        } else if is_word(c) {
            let count = if self.follows("r#") { 2 } else { 0 };
            self.take(count);
            let text = self.take_while(is_word);
            self.push(Kind::Word, text, line);
        } else {
            let count = if self.follows("::") { 2 } else { 1 };
            let text = self.take(count);
            self.push(Kind::Mark, text, line);
        }
    }

    fn doc(&mut self, kind: Kind, text: &str, line: usize) {
        let continued = self.doc_end + 1 == line;
        self.doc_end = self.line;
        match self.tokens.last_mut() {
            Some(last) if last.kind == kind && continued => {
                last.text.push('\n');
                last.text.push_str(text);
            }
            _ => self.push(kind, text, line),
        }
    }

    fn line_comment(&mut self) {
        let line = self.line;
        let text = self.take_while(|c| c != '\n');
        if let Some(doc) = text.strip_prefix("//!") {
            self.doc(Kind::InnerDoc, doc, line);
        } else if let Some(doc) = text.strip_prefix("///").filter(|doc| !doc.starts_with('/')) {
            self.doc(Kind::Doc, doc, line);
        }
    }

    fn block_comment(&mut self) {
        let line = self.line;
        let start = self.at;
        let mut depth = 0;
        while self.at < self.text.len() {
            if self.follows("/*") {
                depth += 1;
                self.take(2);
            } else if self.follows("*/") {
                depth -= 1;
                self.take(2);
                if depth == 0 {
                    break;
                }
            } else {
                self.take(1);
            }
        }
        let text: String = self.text[start..self.at].iter().collect();
        let body = text.get(3..text.len().saturating_sub(2)).unwrap_or("");
        if text.starts_with("/*!") {
            self.doc(Kind::InnerDoc, body, line);
        } else if text.starts_with("/**") && !body.is_empty() && !body.starts_with('*') {
            self.doc(Kind::Doc, body, line);
        }
    }

    /// Returns the number of `#` if a raw string begins here.
    fn raw_string(&self) -> Option<usize> {
        let prefix = ["r", "br", "cr"]
            .into_iter()
            .find(|prefix| self.follows(prefix) && matches!(self.peek(prefix.len()), '"' | '#'))?;
        let rest = &self.text[self.at + prefix.len()..];
        let hashes = rest.iter().take_while(|c| **c == '#').count();
        (rest.get(hashes) == Some(&'"')).then_some(hashes)
    }

    fn take_raw(&mut self, hashes: usize) -> String {
        let end = format!("\"{}", "#".repeat(hashes));
        self.take(1);
        let mut text = String::new();
        while self.at < self.text.len() && !self.follows(&end) {
            text += &self.take(1);
        }
        self.take(end.len());
        text
    }

    fn quoted(&mut self, quote: char) -> String {
        self.take(1);
        let mut text = String::new();
        while self.at < self.text.len() && self.peek(0) != quote {
            let count = if self.peek(0) == '\\' { 2 } else { 1 };
            text += &self.take(count);
        }
        self.take(1);
        text
    }

    fn lifetime_or_char(&mut self, line: usize) {
        if self.peek(1) == '\\' || self.peek(2) == '\'' {
            let text = self.quoted('\'');
            self.push(Kind::Literal, text, line);
        } else {
            self.take(1);
            let text = self.take_while(is_word);
            self.push(Kind::Lifetime, text, line);
        }
    }
}
