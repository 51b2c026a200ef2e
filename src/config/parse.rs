use std::path::{Path, PathBuf};

use super::build;
use super::diagnostic::Diagnostics;
use super::diagnostic_sink::DiagnosticSink;
use super::model::Config;
use super::tree;

/// Maximum size of a configuration file, in bytes.
pub const FILE_MAX: usize = 1 << 20;

/// Result of parsing a file.
#[derive(Debug)]
pub struct ParseOutcome {
    /// Configuration; `None` if there is an [`Error`](super::Severity::Error).
    pub config: Option<Config>,
    /// Diagnostics about the file.
    pub diagnostics: Diagnostics,
}

/// Parses a configuration from the bytes of a file. The path is used in messages
/// only; the disk is never accessed.
pub fn parse(path: &Path, text: &[u8]) -> ParseOutcome {
    let bytes = &text[..text.len().min(FILE_MAX)];
    let mut sink = DiagnosticSink::new(bytes);
    let config = if text.len() > FILE_MAX {
        sink.error(0, format!("the file has {} bytes; the limit is {FILE_MAX}", text.len()));
        None
    } else {
        decode(bytes, &mut sink)
    };
    let config = config.filter(|_| !sink.has_errors());
    ParseOutcome { config, diagnostics: sink.finish(path, &String::from_utf8_lossy(bytes)) }
}

/// Reads the `status_socket` of a file, or its default, as [`parse()`] does, but
/// also from a file with errors, as far as it can be read.
pub fn status_socket(text: &[u8]) -> PathBuf {
    let bytes = &text[..text.len().min(FILE_MAX)];
    let mut unsaid = DiagnosticSink::new(bytes);
    let text = String::from_utf8_lossy(bytes);
    let root = tree::read(&text, &mut unsaid);
    build::status_socket(&root, &mut unsaid)
}

fn decode(bytes: &[u8], sink: &mut DiagnosticSink) -> Option<Config> {
    match std::str::from_utf8(bytes) {
        Ok(text) => {
            let root = tree::read(text, sink);
            Some(build::config(&root, sink))
        }
        Err(error) => {
            sink.error(error.valid_up_to(), "invalid UTF-8; save the file as UTF-8");
            None
        }
    }
}
