//! Which listeners are to run, and their sections.

use crate::fence::ListenerName;

use super::diagnostic_sink::{Report, quoted};
use super::fields::Fields;
use super::lexer::Spot;
use super::listener::{self, LISTENERS};
use super::model::{ListenerConfig, NamedListener, SerialConfig};
use super::tree::Section;

/// A listener as it is named in a value.
#[derive(Debug, Clone)]
pub(super) struct Named {
    pub(super) name: ListenerName,
    /// Where it is named.
    pub(super) at: usize,
}

/// The listeners of a list like `"multicast, tcp:cluster-b"`.
pub(super) fn named(value: Spot, report: &mut Report) -> Vec<Named> {
    let mut found: Vec<Named> = Vec::new();
    let names = words(value);
    if names.is_empty() {
        report.error(value.at, format!("no listener is named; known are {}", LISTENERS.join(", ")));
    }
    for word in names {
        match name(word.text) {
            Ok(name) if found.iter().any(|known| known.name == name) => {
                report.error(word.at, format!("the listener {name} is named twice"));
            }
            Ok(name) => found.push(Named { name, at: word.at }),
            Err(message) => report.error(word.at, message),
        }
    }
    found
}

fn name(text: &str) -> Result<ListenerName, String> {
    let (kind, label) = match text.split_once(':') {
        None => (text, None),
        Some((kind, label)) => (kind, Some(label)),
    };
    let Some(kind) = LISTENERS.into_iter().find(|known| known.eq_ignore_ascii_case(kind)) else {
        return Err(format!("unknown listener {}; known are {}", quoted(text), LISTENERS.join(", ")));
    };
    match label {
        Some(label) if !ListenerName::is_label(label) => Err(bad_label(label)),
        label => Ok(ListenerName::new(kind, label)),
    }
}

fn bad_label(label: &str) -> String {
    let most = ListenerName::LABEL_MAX;
    format!("{} is no label: that has letters, digits, '-', '_' and '.', at most {most}", quoted(label))
}

fn words(value: Spot) -> Vec<Spot> {
    let mut at = value.at;
    let mut words = Vec::new();
    for piece in value.text.split_inclusive(|c: char| c == ',' || c.is_whitespace()) {
        let text = piece.trim_end_matches(|c: char| c == ',' || c.is_whitespace());
        if !text.is_empty() {
            words.push(Spot { text, at });
        }
        at += piece.len();
    }
    words
}

/// The label of a section; an empty one is none.
fn label<'a>(section: &Section<'a>) -> Option<Spot<'a>> {
    section.label.filter(|label| !label.text.is_empty())
}

/// The sections that a listener may mean: the one with its label. Without a label
/// also those with one, if the file names none of this kind: to fence_virtd 4.x
/// labels meant nothing.
fn candidates<'a, 't>(
    name: &ListenerName,
    chosen: &[Named],
    fields: &Fields<'a, 't>,
) -> Vec<&'t Section<'a>> {
    let of_kind = |named: &Named| named.name.kind() == name.kind() && named.name.label().is_some();
    let knows_labels = chosen.iter().any(of_kind);
    let is_meant = |section: &&Section| match (label(section), name.label()) {
        (Some(label), Some(wanted)) => label.text == wanted,
        (Some(_), None) => !knows_labels,
        (None, wanted) => wanted.is_none(),
    };
    fields.sections(name.kind()).filter(is_meant).collect()
}

/// The section of a listener.
pub(super) fn section<'a, 't>(
    name: &ListenerName,
    chosen: &[Named],
    fields: &Fields<'a, 't>,
) -> Option<&'t Section<'a>> {
    candidates(name, chosen, fields).pop()
}

/// Reads the sections of all listeners and keeps those that are chosen.
/// `uris` are those of the backend.
pub(super) fn read(
    chosen: &[Named],
    fields: &Fields,
    uris: &[String],
    report: &mut Report,
) -> Vec<NamedListener> {
    let mut listeners: Vec<NamedListener> = Vec::new();
    for named in chosen {
        let meant = candidates(&named.name, chosen, fields);
        let section = meant.last().copied();
        if let [.., before, last] = meant.as_slice() {
            let (kind, line) = (named.name.kind(), report.line(before.at()));
            let message = format!(
                "which section is that of the listener {kind}, this one or that on line {line}? Name the label in \
                 listener, as in \"{kind}:label\", or take one away (fence_virtd 4.x takes the last)"
            );
            report.error(last.at(), message);
        }
        if section.is_none() && named.name.label().is_some() {
            let (kind, label) = (named.name.kind(), named.name.label().unwrap_or_default());
            let message = format!("no section {kind} = \"{label}\" {{ ... }} stands in listeners");
            report.error(named.at, message);
        }
        let config = read_section(named.name.kind(), section, true, report);
        let taken = listeners.iter().find(|other| collide(&other.config, &config, uris));
        if let Some(other) = taken {
            let message =
                format!("{} would listen where {} does: give it a place of its own", named.name, other.name);
            report.error(section.map_or(named.at, Section::at), message);
        }
        listeners.push(NamedListener { name: named.name.clone(), config });
    }
    judge_unused(chosen, fields, report);
    listeners
}

/// What is wrong in sections that are not in use may be said, and hinders nothing.
fn judge_unused(chosen: &[Named], fields: &Fields, report: &mut Report) {
    let used: Vec<usize> =
        chosen.iter().filter_map(|named| section(&named.name, chosen, fields)).map(Section::at).collect();
    for kind in LISTENERS {
        for section in fields.sections(kind).filter(|section| !used.contains(&section.at())) {
            report.judged(false, |report| {
                if let Some(label) = label(section).filter(|label| !ListenerName::is_label(label.text)) {
                    report.error(label.at, bad_label(label.text));
                }
                read_section(kind, Some(section), false, report);
            });
        }
    }
}

fn read_section(
    kind: &'static str,
    section: Option<&Section>,
    in_use: bool,
    report: &mut Report,
) -> ListenerConfig {
    let path = format!("listeners/{kind}");
    listener::read(kind, &Fields::of(section, &path, report), in_use, report)
}

/// Whether two listeners cannot both have what they listen on.
fn collide(one: &ListenerConfig, other: &ListenerConfig, uris: &[String]) -> bool {
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
