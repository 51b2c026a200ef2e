//! A small configuration for one question: its errors are errors of the answer.

use std::path::Path;

use fence_virt::config::{self, Config, Editable, KEYS, KeySpec, Part, Severity, ValueKind};
use fence_virt::fence::ListenerName;

/// Section of the daemon itself.
pub(super) const DAEMON: Part = Part::Plain("fence_virtd");

/// Returns the keys of a section that have an effect, in the order of the table.
pub(super) fn keys(section: &str) -> impl Iterator<Item = &'static KeySpec> {
    KEYS.iter().filter(move |spec| spec.section == section && spec.kind != ValueKind::Ignored)
}

/// Returns the name of a numbered key in the file.
pub(super) fn numbered(key: &str, number: u32) -> String {
    if number == 0 { key.to_string() } else { format!("{key}{number}") }
}

/// Small configuration.
#[derive(Debug, Clone)]
pub(super) struct Draft {
    text: Editable,
}

impl Draft {
    /// Returns a draft with listeners and a backend, without settings.
    pub(super) fn new(listeners: &[ListenerName], backend: &str) -> Result<Draft, String> {
        let names: Vec<&str> = listeners.iter().map(ListenerName::as_str).collect();
        let mut text = Editable::default();
        text.set(&DAEMON, "listener", &names.join(", "))?;
        text.set(&DAEMON, "backend", backend)?;
        for listener in listeners {
            text.add_section(&Part::Listener(listener.clone()));
        }
        Ok(Draft { text })
    }

    /// Copies the keys of a part, up to the key `end` if that is given.
    pub(super) fn copy(&mut self, from: &Editable, part: &Part, end: Option<&str>) -> Result<(), String> {
        for spec in keys(part.section()).take_while(|spec| Some(spec.name) != end) {
            for number in from.numbers(part, spec.name) {
                let key = numbered(spec.name, number);
                if let Some(value) = from.value(part, &key) {
                    self.text.set(part, &key, value)?;
                }
            }
        }
        Ok(())
    }

    pub(super) fn set(&mut self, part: &Part, key: &str, value: &str) -> Result<(), String> {
        self.text.set(part, key, value)
    }

    /// Returns the configuration, or all its errors.
    pub(super) fn config(&self) -> Result<Config, Vec<String>> {
        let outcome = config::parse(Path::new(""), self.text.text().as_bytes());
        let errors = outcome.diagnostics.iter().filter(|found| found.severity == Severity::Error);
        let errors: Vec<String> = errors.map(|found| found.message.clone()).collect();
        outcome.config.ok_or(errors)
    }
}
