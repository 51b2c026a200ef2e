//! Removes from a token stream what is compiled for tests only.

use crate::scanner::{Kind, Token};

/// Tokens of one source, parted.
#[derive(Debug, Default)]
pub(crate) struct Parted {
    /// Code of the program.
    pub(crate) code: Vec<Token>,
    /// Items under `#[cfg(test)]` or `#[test]`, with their attributes.
    pub(crate) tests: Vec<Vec<Token>>,
}

/// Parts the tokens of a source.
pub(crate) fn part(tokens: &[Token]) -> Parted {
    let mut parted = Parted::default();
    let mut at = 0;
    while at < tokens.len() {
        let item = skip_attributes(tokens, at);
        if item == at {
            parted.code.push(tokens[at].clone());
            at += 1;
        } else if is_for_tests(&tokens[at..item]) {
            let end = item_end(tokens, item);
            parted.tests.push(tokens[at..end].to_vec());
            at = end;
        } else {
            parted.code.extend_from_slice(&tokens[at..item]);
            at = item;
        }
    }
    parted
}

/// Returns the index behind the delimiter that closes the one at `open`.
pub(crate) fn closing(tokens: &[Token], open: usize) -> usize {
    let mut depth = 0;
    for (at, token) in tokens.iter().enumerate().skip(open) {
        if ["(", "[", "{"].iter().any(|mark| token.is(mark)) {
            depth += 1;
        } else if [")", "]", "}"].iter().any(|mark| token.is(mark)) {
            depth -= 1;
            if depth == 0 {
                return at + 1;
            }
        }
    }
    tokens.len()
}

fn is_at(tokens: &[Token], at: usize, text: &str) -> bool {
    tokens.get(at).is_some_and(|token| token.is(text))
}

/// Skips outer attributes and doc comments of an item.
fn skip_attributes(tokens: &[Token], mut at: usize) -> usize {
    loop {
        if is_at(tokens, at, "#") && is_at(tokens, at + 1, "[") {
            at = closing(tokens, at + 1);
        } else if tokens.get(at).is_some_and(|token| token.kind == Kind::Doc) {
            at += 1;
        } else {
            return at;
        }
    }
}

/// Returns true if one of the attributes is `#[test]` or a `#[cfg(..)]` that needs `test`.
fn is_for_tests(attributes: &[Token]) -> bool {
    let starts = attributes.windows(2).enumerate().filter(|(_, pair)| pair[0].is("#") && pair[1].is("["));
    starts.map(|(at, _)| &attributes[at + 2..closing(attributes, at + 1) - 1]).any(|attribute| {
        let is_test = attribute.len() == 1 && attribute[0].is("test");
        is_test
            || is_at(attribute, 0, "cfg")
                && attribute.len() > 3
                && needs_test(&attribute[2..attribute.len() - 1])
    })
}

/// Returns true if a predicate of `cfg` is false in every build without `test`.
pub(crate) fn needs_test(predicate: &[Token]) -> bool {
    let Some(head) = predicate.first() else { return false };
    if predicate.len() == 1 {
        return head.is("test");
    }
    if !is_at(predicate, 1, "(") {
        return false;
    }
    let inner = &predicate[2..predicate.len() - 1];
    let mut parts = parts(inner).into_iter().filter(|part| !part.is_empty());
    match head.text.as_str() {
        "all" => parts.any(needs_test),
        "any" => parts.all(needs_test),
        _ => false,
    }
}

/// Splits at the commas outside of parentheses.
fn parts(tokens: &[Token]) -> Vec<&[Token]> {
    let mut parts = Vec::new();
    let mut start = 0;
    let mut at = 0;
    while at < tokens.len() {
        if tokens[at].is("(") {
            at = closing(tokens, at);
        } else {
            if tokens[at].is(",") {
                parts.push(&tokens[start..at]);
                start = at + 1;
            }
            at += 1;
        }
    }
    parts.push(&tokens[start..]);
    parts
}

/// How an item, statement, field, variant or match arm ends.
#[derive(PartialEq, Eq)]
enum Ending {
    /// By `;` alone.
    Semicolon,
    /// By `;` or the end of its body.
    Body,
    /// By a comma too.
    Comma,
}

fn ending(tokens: &[Token], mut at: usize) -> Ending {
    if is_at(tokens, at, "pub") {
        at += 1;
        if is_at(tokens, at, "(") {
            at = closing(tokens, at);
        }
    }
    let is_function = |at| ["fn", "unsafe", "async", "extern"].iter().any(|word| is_at(tokens, at, word));
    match tokens.get(at).map_or("", |token| token.text.as_str()) {
        "use" | "let" | "static" | "type" => Ending::Semicolon,
        "const" if !is_function(at + 1) => Ending::Semicolon,
        "fn" | "struct" | "enum" | "union" | "trait" | "impl" | "mod" | "const" | "unsafe" | "async"
        | "extern" => Ending::Body,
        _ => Ending::Comma,
    }
}

/// Returns the index behind the item that begins at `at`.
fn item_end(tokens: &[Token], mut at: usize) -> usize {
    let ending = ending(tokens, at);
    let mut angles = 0;
    while at < tokens.len() {
        let token = &tokens[at];
        if token.is("{") && ending != Ending::Semicolon {
            at = closing(tokens, at);
            let is_comma = ending == Ending::Comma && is_at(tokens, at, ",");
            return at + usize::from(is_comma);
        }
        if ["(", "[", "{"].iter().any(|mark| token.is(mark)) {
            at = closing(tokens, at);
            continue;
        }
        if [")", "]", "}"].iter().any(|mark| token.is(mark)) {
            return at;
        }
        let is_arrow = at > 0 && (is_at(tokens, at - 1, "-") || is_at(tokens, at - 1, "="));
        match token.text.as_str() {
            "<" if token.kind == Kind::Mark => angles += 1,
            ">" if token.kind == Kind::Mark && !is_arrow => angles -= 1,
            _ => {}
        }
        at += 1;
        if token.is(";") || ending == Ending::Comma && token.is(",") && angles <= 0 {
            return at;
        }
    }
    at
}
