//! JSON output.
#![forbid(unsafe_code)]

use std::fmt::{Display, Write as _};

use fence_virt::fence::is_printable;

/// JSON object that is written key by key.
pub(crate) struct JsonObject(String);

impl JsonObject {
    pub(crate) fn new() -> JsonObject {
        JsonObject("{".to_owned())
    }

    /// Adds a string.
    pub(crate) fn string(self, key: &str, value: &str) -> JsonObject {
        self.value(key, quoted(value))
    }

    /// Adds a string, or null.
    pub(crate) fn optional(self, key: &str, value: Option<&str>) -> JsonObject {
        self.value(key, value.map_or("null".to_owned(), quoted))
    }

    /// Adds a value that is already JSON: a number, a boolean, an array or an object.
    pub(crate) fn value(mut self, key: &str, json: impl Display) -> JsonObject {
        let comma = if self.0.len() > 1 { "," } else { "" };
        // Writing to a String cannot fail.
        let _ = write!(self.0, "{comma}{}:{json}", quoted(key));
        self
    }

    pub(crate) fn finish(self) -> String {
        self.0 + "}"
    }
}

/// Returns an array of values that are already JSON.
pub(crate) fn array(items: impl Iterator<Item = String>) -> String {
    format!("[{}]", items.collect::<Vec<_>>().join(","))
}

/// Returns a JSON string, with escapes for what is not printable.
pub(crate) fn quoted(text: &str) -> String {
    let mut out = String::from("\"");
    for c in text.chars() {
        match c {
            '"' | '\\' => out.extend(['\\', c]),
            c if is_printable(c) => out.push(c),
            c => c.encode_utf16(&mut [0; 2]).iter().for_each(|unit| out += &format!("\\u{unit:04x}")),
        }
    }
    out + "\""
}
