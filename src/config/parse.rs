use std::path::{Path, PathBuf};

use super::build;
use super::diagnostic::Diagnostics;
use super::diagnostic_sink::Report;
use super::model::Config;
use super::tree;

/// A configuration may have so many bytes.
pub const FILE_MAX: usize = 1 << 20;

/// What came out of a file.
#[derive(Debug)]
pub struct Outcome {
    /// The configuration; none if there is an [`Error`](super::Severity::Error).
    pub config: Option<Config>,
    /// Everything there is to say about the file.
    pub diagnostics: Diagnostics,
}

/// Reads a configuration from the bytes of a file. The path is for the
/// messages only, and the disk is never touched.
pub fn parse(path: &Path, text: &[u8]) -> Outcome {
    let bytes = &text[..text.len().min(FILE_MAX)];
    let mut report = Report::new(bytes);
    let config = if text.len() > FILE_MAX {
        report.error(0, format!("the file has {} bytes; at most {FILE_MAX} are read", text.len()));
        None
    } else {
        decode(bytes, &mut report)
    };
    let config = config.filter(|_| !report.has_errors());
    Outcome { config, diagnostics: report.finish(path, &String::from_utf8_lossy(bytes)) }
}

/// The `status_socket` of a file, or its default: the same as [`parse()`] has it,
/// and with mistakes elsewhere in the file still as far as it can be read.
pub fn status_socket(text: &[u8]) -> PathBuf {
    let bytes = &text[..text.len().min(FILE_MAX)];
    let mut unsaid = Report::new(bytes);
    let text = String::from_utf8_lossy(bytes);
    let root = tree::read(&text, &mut unsaid);
    build::status_socket(&root, &mut unsaid)
}

fn decode(bytes: &[u8], report: &mut Report) -> Option<Config> {
    match std::str::from_utf8(bytes) {
        Ok(text) => {
            let root = tree::read(text, report);
            Some(build::config(&root, report))
        }
        Err(error) => {
            report.error(error.valid_up_to(), "this is not UTF-8; save the file in that encoding");
            None
        }
    }
}

#[cfg(test)]
#[path = "parse_tests.rs"]
mod tests;
