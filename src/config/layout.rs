//! Byte ranges of keys and sections in the text of a file, and the places for
//! new ones, formatted like their neighbours.

use std::ops::Range;

use super::lexer::{Lexer, Token, TokenKind};
use super::tree::{KeyEntry, Section};

/// Range of an entry's value, without its quotes.
pub(super) fn value(entry: &KeyEntry) -> Range<usize> {
    entry.value.at..entry.value.at + entry.value.text.len()
}

/// Range of an entry with its semicolon; the whole line if nothing else is on it.
pub(super) fn statement(text: &str, entry: &KeyEntry) -> Range<usize> {
    let start = entry.key.at;
    let end = end_of(text, entry);
    let line_start = start_of_line(text, start);
    let line_end = end_of_line(text, end);
    let is_alone = text[line_start..start].trim().is_empty() && text[end..line_end].trim().is_empty();
    match text[line_end..].find('\n') {
        Some(feed) if is_alone => line_start..line_end + feed + 1,
        // Leaves one of two blanks.
        _ if text[..start].ends_with(' ') && text[end..].starts_with(' ') => start - 1..end,
        _ => start..end,
    }
}

/// Range to replace, and its new text, to add a key to the section.
pub(super) fn new_entry(text: &str, section: &Section, key: &str, value: &str) -> (Range<usize>, String) {
    let statement = format!("{key} = \"{value}\";");
    let (open, close) = braces(text, section);
    let last = section.entries.iter().max_by_key(|entry| entry.key.at);
    let after = commented_out(text, section, key)
        .or_else(|| last.map(|entry| (entry.key.at, end_of(text, entry))))
        .map(|(start, end)| (indentation(text, start), end));
    let (indent, at) = after.unwrap_or_else(|| (format!("{}\t", indentation(text, section.at())), open + 1));
    let line_end = end_of_line(text, at);
    let rest = text[at..line_end].trim();
    if line_end < close && (rest.is_empty() || rest.starts_with('#')) {
        return (line_end..line_end, format!("{}{indent}{statement}", line_feed(text)));
    }
    let blank = if text[at..].starts_with('}') { " " } else { "" };
    (at..at, format!(" {statement}{blank}"))
}

/// Offset and text to insert, to add an empty inner section.
pub(super) fn new_section(text: &str, outer: &Section, name: &str, label: Option<&str>) -> (usize, String) {
    let (_, close) = braces(text, outer);
    let line_start = start_of_line(text, close);
    let indent = indentation(text, close);
    let head = head(name, label);
    match text[line_start..close].trim().is_empty() {
        true => {
            let feed = line_feed(text);
            (line_start, format!("{indent}\t{head} {{{feed}{indent}\t}}{feed}"))
        }
        false => {
            let blank = if text[..close].ends_with(' ') { "" } else { " " };
            (close, format!("{blank}{head} {{ }} "))
        }
    }
}

/// Text to append, to add an empty section at the end.
pub(super) fn appended(text: &str, name: &str, label: Option<&str>) -> String {
    let feed = line_feed(text);
    let before = match text {
        "" => String::new(),
        _ if !text.ends_with('\n') => feed.repeat(2),
        _ => feed.to_string(),
    };
    format!("{before}{} {{{feed}}}{feed}", head(name, label))
}

fn head(name: &str, label: Option<&str>) -> String {
    label.map_or(name.to_string(), |label| format!("{name} = \"{label}\""))
}

/// Line ending of the file.
fn line_feed(text: &str) -> &'static str {
    match text.split_once('\n') {
        Some((first, _)) if first.ends_with('\r') => "\r\n",
        _ => "\n",
    }
}

fn start_of_line(text: &str, at: usize) -> usize {
    text[..at].rfind('\n').map_or(0, |feed| feed + 1)
}

/// Offset of the carriage return or line feed that ends this line.
fn end_of_line(text: &str, at: usize) -> usize {
    let end = text[at..].find('\n').map_or(text.len(), |feed| at + feed);
    if end > at && text[..end].ends_with('\r') { end - 1 } else { end }
}

/// Blanks at the start of this line.
fn indentation(text: &str, at: usize) -> String {
    text[start_of_line(text, at)..].chars().take_while(|c| matches!(c, ' ' | '\t')).collect()
}

/// Offset after the semicolon of an entry.
fn end_of(text: &str, entry: &KeyEntry) -> usize {
    // Starts after the closing quote, which the lexer would take for an opening one.
    let quote = value(entry).end;
    let mut tokens = tokens(text, quote + 1);
    tokens.next().filter(|token| token.kind == TokenKind::End).map_or(quote + 1, |token| token.at + 1)
}

fn tokens(text: &str, from: usize) -> Lexer<'_> {
    let mut lexer = Lexer::new(text);
    lexer.seek(from);
    lexer
}

/// Offsets of a section's braces.
fn braces(text: &str, section: &Section) -> (usize, usize) {
    let mut open = None;
    let mut depth = 0;
    for token in tokens(text, section.at()) {
        match token.kind {
            TokenKind::Open => {
                open = open.or(Some(token.at));
                depth += 1;
            }
            TokenKind::Close => depth -= 1,
            _ => {}
        }
        if let (Some(open), TokenKind::Close, 0) = (open, token.kind, depth) {
            return (open, token.at);
        }
    }
    // Not reached without syntax errors: every section is closed.
    (open.unwrap_or(section.at()), text.len())
}

/// Last comment of a section with this key, such as `#port = "1229";`: the
/// offsets of its `#` and of the end of its line.
fn commented_out(text: &str, section: &Section, key: &str) -> Option<(usize, usize)> {
    let (open, close) = braces(text, section);
    let mut found = None;
    let mut depth = 0;
    let mut from = open;
    for token in tokens(text, open).take_while(|token| token.at <= close) {
        // Only blanks and comments separate tokens.
        if depth == 1 {
            found = lines_between(text, from..token.at)
                .rfind(|(start, _)| is_key(&text[*start..], key))
                .or(found);
        }
        depth = match token.kind {
            TokenKind::Open => depth + 1,
            TokenKind::Close => depth - 1,
            _ => depth,
        };
        from = end_of_token(&token);
    }
    found
}

fn end_of_token(token: &Token) -> usize {
    let quote = usize::from(token.kind == TokenKind::Value);
    token.span().at + token.text.len() + quote
}

/// Comments that begin a line, each as the offsets of its start and end.
fn lines_between(text: &str, range: Range<usize>) -> impl DoubleEndedIterator<Item = (usize, usize)> + '_ {
    let feeds = text[range.clone()].match_indices('\n').map(move |(feed, _)| range.start + feed + 1);
    feeds.filter_map(|line| {
        let start = line + indentation(text, line).len();
        text[start..].starts_with('#').then(|| (start, end_of_line(text, start)))
    })
}

/// True if a comment is a commented-out entry of this key.
fn is_key(comment: &str, key: &str) -> bool {
    let bare = comment[1..].trim_start_matches([' ', '\t', '#']);
    let name = bare.get(..key.len()).is_some_and(|name| name.eq_ignore_ascii_case(key));
    name && bare[key.len()..].trim_start_matches([' ', '\t']).starts_with('=')
}
