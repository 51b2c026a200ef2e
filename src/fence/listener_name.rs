use std::fmt;
use std::sync::Arc;

/// Name of a listener: its kind, or its kind and the label of its section, as in `tcp:cluster-b`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct ListenerName {
    kind: &'static str,
    text: Arc<str>,
}

impl ListenerName {
    /// Maximum length of a label, in bytes.
    pub const LABEL_MAX: usize = 64;

    /// Makes the name of a listener of this kind, with the label of its section.
    pub fn new(kind: &'static str, label: Option<&str>) -> ListenerName {
        let text = label.map_or(Arc::from(kind), |label| format!("{kind}:{label}").into());
        ListenerName { kind, text }
    }

    /// Kind: multicast, tcp, vsock or serial.
    pub fn kind(&self) -> &'static str {
        self.kind
    }

    /// Label of the section.
    pub fn label(&self) -> Option<&str> {
        self.text.get(self.kind.len() + 1..)
    }

    /// Kind and label, as in a configuration.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Returns true for a valid label: 1 to [`ListenerName::LABEL_MAX`] letters, digits, `-`, `_` and `.`.
    pub fn is_label(text: &str) -> bool {
        let is_allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
        (1..=ListenerName::LABEL_MAX).contains(&text.len()) && text.bytes().all(is_allowed)
    }
}

impl fmt::Display for ListenerName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kind_and_label_are_distinguished() {
        let plain = ListenerName::new("tcp", None);
        let named = ListenerName::new("tcp", Some("cluster-b"));
        assert_eq!((plain.kind(), plain.label(), plain.as_str()), ("tcp", None, "tcp"));
        assert_eq!((named.kind(), named.label()), ("tcp", Some("cluster-b")));
        assert_eq!(named.as_str(), "tcp:cluster-b");
        assert_ne!(plain, named);
    }

    #[test]
    fn a_label_has_no_blanks_and_no_separators() {
        for label in ["a", "cluster-b", "B_2.x", &"x".repeat(64)] {
            assert!(ListenerName::is_label(label), "{label}");
        }
        for label in ["", "a b", "a,b", "a:b", "é", "a\n", &"x".repeat(65)] {
            assert!(!ListenerName::is_label(label), "{label}");
        }
    }
}
