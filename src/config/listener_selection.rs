//! Selection of the listeners to run, and their sections.

use crate::fence::ListenerName;

use super::diagnostic_sink::{DiagnosticSink, quoted};
use super::fields::SectionFields;
use super::lexer::Span;
use super::listener::{self, LISTENERS};
use super::model::{ListenerConfig, NamedListener, SerialConfig};
use super::tree::Section;

/// A listener named in a value.
#[derive(Debug, Clone)]
pub(super) struct SelectedListener {
    pub(super) name: ListenerName,
    /// Byte offset of the name.
    pub(super) at: usize,
}

/// Parses a list of listeners such as `"multicast, tcp:cluster-b"`, if there is one.
pub(super) fn parse_names(value: Option<Span>, sink: &mut DiagnosticSink) -> Vec<SelectedListener> {
    let mut found: Vec<SelectedListener> = Vec::new();
    let Some(value) = value else { return found };
    let names = words(value);
    if names.is_empty() {
        sink.error(value.at, format!("empty list; expected one or more of: {}", LISTENERS.join(", ")));
    }
    for word in names {
        match name(word.text) {
            Ok(name) if found.iter().any(|known| known.name == name) => {
                sink.error(word.at, format!("duplicate listener {name}"));
            }
            Ok(name) => found.push(SelectedListener { name, at: word.at }),
            Err(message) => sink.error(word.at, message),
        }
    }
    found
}

fn name(text: &str) -> Result<ListenerName, String> {
    let (kind, label) = text.split_once(':').map_or((text, None), |(kind, label)| (kind, Some(label)));
    let Some(kind) = LISTENERS.into_iter().find(|known| known.eq_ignore_ascii_case(kind)) else {
        return Err(format!("unknown listener {}; expected one of: {}", quoted(text), LISTENERS.join(", ")));
    };
    match label {
        Some(label) if !ListenerName::is_label(label) => Err(bad_label(label)),
        label => Ok(ListenerName::new(kind, label)),
    }
}

fn bad_label(label: &str) -> String {
    let most = ListenerName::LABEL_MAX;
    format!("invalid label {}: use letters, digits, '-', '_' and '.', at most {most}", quoted(label))
}

/// Words of a list, which are separated by commas or blanks.
pub(super) fn words(value: Span) -> Vec<Span> {
    let mut at = value.at;
    let mut words = Vec::new();
    for piece in value.text.split_inclusive(|c: char| c == ',' || c.is_whitespace()) {
        let text = piece.trim_end_matches(|c: char| c == ',' || c.is_whitespace());
        if !text.is_empty() {
            words.push(Span { text, at });
        }
        at += piece.len();
    }
    words
}

/// Label of a section; `None` if empty.
fn label<'a>(section: &Section<'a>) -> Option<Span<'a>> {
    section.label.filter(|label| !label.text.is_empty())
}

/// Sections that may belong to a listener: those with its label. A listener without a label may also use a
/// labelled section if no label of its kind is selected, since fence_virtd 4.x ignored labels.
fn candidates<'a, 't>(
    name: &ListenerName,
    selected: &[SelectedListener],
    fields: &SectionFields<'a, 't>,
) -> Vec<&'t Section<'a>> {
    let of_kind = |other: &ListenerName| other.kind() == name.kind() && other.label().is_some();
    let knows_labels = selected.iter().any(|listener| of_kind(&listener.name));
    let may_belong = |section: &&Section| match (label(section), name.label()) {
        (Some(label), Some(wanted)) => label.text == wanted,
        (Some(_), None) => !knows_labels,
        (None, wanted) => wanted.is_none(),
    };
    fields.sections(name.kind()).filter(may_belong).collect()
}

/// Finds the section of a listener; of several candidates the last one counts.
pub(super) fn section<'a, 't>(
    name: &ListenerName,
    selected: &[SelectedListener],
    fields: &SectionFields<'a, 't>,
) -> Option<&'t Section<'a>> {
    candidates(name, selected, fields).pop()
}

/// Reads the sections of all listeners and returns the selected ones. `uris` are the URIs of the backend.
pub(super) fn read(
    selected: &[SelectedListener],
    fields: &SectionFields,
    uris: &[String],
    sink: &mut DiagnosticSink,
) -> Vec<NamedListener> {
    let mut listeners: Vec<NamedListener> = Vec::new();
    for SelectedListener { name, at } in selected {
        let kind = name.kind();
        let sections = candidates(name, selected, fields);
        let section = sections.last().copied();
        if let [.., before, last] = sections.as_slice() {
            let message = format!(
                "ambiguous section for listener {kind}: this one or the one on line {}; select one by its label, as \
                 in listener = \"{kind}:label\", or remove one (fence_virtd 4.x uses the last)",
                sink.line(before.at())
            );
            sink.error(last.at(), message);
        }
        if let (None, Some(label)) = (section, name.label()) {
            sink.error(*at, format!("listeners has no section {kind} = \"{label}\" {{ ... }}"));
        }
        let config = read_section(kind, section, true, sink);
        if matches!(&config, ListenerConfig::Serial(serial) if serial.uri.is_none() && uris.is_empty()) {
            let message = format!(
                "listener {name} finds the lines of VMs by libvirt, which backend does not name: add uri = \"qemu:///system\"; \
                 to its section"
            );
            sink.error(section.map_or(*at, Section::at), message);
        }
        let conflicting = listeners.iter().find(|other| conflict(&other.config, &config, uris));
        if let Some(NamedListener { name: other, .. }) = conflicting {
            let message =
                format!("listeners {other} and {name} conflict: give each its own address, port or path");
            sink.error(section.map_or(*at, Section::at), message);
        }
        listeners.push(NamedListener { name: name.clone(), config });
    }
    check_unused(selected, fields, sink);
    listeners
}

/// Reports the errors of unused sections as warnings.
fn check_unused(selected: &[SelectedListener], fields: &SectionFields, sink: &mut DiagnosticSink) {
    let sections = selected.iter().filter_map(|listener| section(&listener.name, selected, fields));
    let used: Vec<usize> = sections.map(Section::at).collect();
    for kind in LISTENERS {
        for section in fields.sections(kind).filter(|section| !used.contains(&section.at())) {
            sink.for_section(false, |sink| {
                if let Some(label) = label(section).filter(|label| !ListenerName::is_label(label.text)) {
                    sink.error(label.at, bad_label(label.text));
                }
                read_section(kind, Some(section), false, sink);
            });
        }
    }
}

fn read_section(
    kind: &'static str,
    section: Option<&Section>,
    in_use: bool,
    sink: &mut DiagnosticSink,
) -> ListenerConfig {
    let path = format!("listeners/{kind}");
    listener::read(kind, &SectionFields::of(section, &path, sink), in_use, sink)
}

/// True if two listeners would listen on the same address, port or sockets.
fn conflict(one: &ListenerConfig, other: &ListenerConfig, uris: &[String]) -> bool {
    fn meet<T: PartialEq>(one: &Option<T>, other: &Option<T>) -> bool {
        one.is_none() || other.is_none() || one == other
    }
    use ListenerConfig::{Multicast, Serial, Tcp, Vsock};
    match (one, other) {
        (Tcp(a), Tcp(b)) => a.port == b.port && a.address == b.address,
        (Vsock(a), Vsock(b)) => a.port == b.port,
        (Multicast(a), Multicast(b)) => {
            a.port == b.port && a.address == b.address && meet(&a.interface, &b.interface)
        }
        (Serial(a), Serial(b)) => {
            let of = |config: &SerialConfig| config.uri.clone().map_or(uris.to_vec(), |uri| vec![uri]);
            let same_uri = of(a).iter().any(|uri| of(b).contains(uri));
            a.mode == b.mode && same_uri && meet(&a.path, &b.path)
        }
        _ => false,
    }
}
