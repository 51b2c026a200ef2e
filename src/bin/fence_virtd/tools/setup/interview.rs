//! Order of the questions, and the changes that follow from the answers.

use super::dialog::Dialog;
use super::draft::{DAEMON, Draft, keys, numbered};
use super::questions::{self, BACKEND_HELP, C_AGENTS_HELP, LISTENER_HELP};
use fence_virt::config::{self, Count, Editable, KEYS, KeySpec, Part};
use fence_virt::fence::{ListenerName, SignatureKind};

/// Listener and backend of a file without them.
const DEFAULT_LISTENER: &str = "multicast";
const DEFAULT_BACKEND: &str = "libvirt";

/// Key of the weakest signature that a listener accepts.
const HASH: &str = "hash";

/// End of the dialog.
const OTHER_SETTINGS: &str = "\nThis dialog does not change groups (who may fence whom) or the daemon's other settings.\n\
                              fence_virt.conf.example explains them.\n";

/// Keys of listeners and backends that are asked for only if they are in the file: they are
/// temporary, while keys are being replaced.
const IF_SET: [&str; 1] = ["old_key_file"];

/// File that the answers change.
#[derive(Debug)]
pub(super) struct Interview {
    text: Editable,
    listeners: Vec<ListenerName>,
    backend: String,
}

/// Answer for a key's value.
#[derive(Debug, Clone, PartialEq, Eq)]
enum KeyAnswer {
    Keep,
    Default,
    Value(String),
}

/// Value to ask for.
#[derive(Default)]
struct Prompt<'a> {
    name: &'a str,
    help: &'a str,
    choices: Option<&'a str>,
    /// Value in the file.
    present: Option<&'a str>,
    default: String,
    /// True if the default is no value.
    is_absent: bool,
}

impl Interview {
    pub(super) fn new(text: Editable) -> Interview {
        Interview { text, listeners: Vec::new(), backend: DEFAULT_BACKEND.to_string() }
    }

    pub(super) fn into_text(self) -> String {
        self.text.text().to_string()
    }

    /// Asks for everything.
    /// Errors: those of [`Dialog::ask`].
    pub(super) fn ask(&mut self, dialog: &mut Dialog<'_>) -> Result<(), String> {
        dialog.say("\nWhere requests come from\n")?;
        self.ask_listeners(dialog)?;
        self.ask_c_agents(dialog)?;
        for at in 0..self.listeners.len() {
            self.ask_listener(at, dialog)?;
        }
        dialog.say("\nWhere the virtual machines are\n")?;
        if self.has_agents() {
            dialog.say("  The backend in this file has fence agents: change it with an editor (backends/agent.md).\n")?;
            return dialog.say(OTHER_SETTINGS);
        }
        self.ask_backend(dialog)?;
        self.ask_section(&backend_part(&self.backend), dialog)?;
        // A backend without URIs uses those of the libvirt section.
        let has_uris = !self.text.numbers(&backend_part(&self.backend), "uri").is_empty();
        if self.backend != DEFAULT_BACKEND && !has_uris {
            self.ask_section(&backend_part(DEFAULT_BACKEND), dialog)?;
        }
        dialog.say(OTHER_SETTINGS)
    }

    /// True if the backend in the file names a fence agent.
    fn has_agents(&self) -> bool {
        self.text.value(&DAEMON, "backend").is_some_and(names_agent)
    }

    fn ask_listeners(&mut self, dialog: &mut Dialog<'_>) -> Result<(), String> {
        let choices = kinds("listeners/");
        let asked =
            Prompt { name: "listeners", help: LISTENER_HELP, choices: Some(&choices), ..Prompt::default() };
        self.listeners =
            self.ask_daemon("listener", asked, DEFAULT_LISTENER, dialog, config::listener_names)?;
        for listener in self.listeners.iter().filter(|listener| listener.label().is_some()) {
            self.text.add_section(&Part::Listener(listener.clone()));
        }
        Ok(())
    }

    /// Asks whether agents of the C suite come, and proposes version 2 of the protocol where none do. A `hash` in the
    /// file stays as it is.
    fn ask_c_agents(&mut self, dialog: &mut Dialog<'_>) -> Result<(), String> {
        let parts = self.listeners.iter().map(|listener| Part::Listener(listener.clone()));
        let has_hash = |part: &Part| keys(part.section()).any(|spec| spec.name == HASH);
        let open: Vec<Part> =
            parts.filter(|part| has_hash(part) && self.text.value(part, HASH).is_none()).collect();
        if open.is_empty() {
            return Ok(());
        }
        let asked = Prompt {
            name: "agents of the C suite (fence-virt 4.x) among the guests",
            help: C_AGENTS_HELP,
            choices: Some("yes, no"),
            default: "yes".to_owned(),
            ..Prompt::default()
        };
        let check = |answer: &str| match answer {
            "yes" | "no" => Ok(()),
            _ => Err(vec![format!("{answer:?} is neither yes nor no")]),
        };
        if ask(&asked, dialog, check)?.or(None, "yes") == "no" {
            for part in &open {
                self.text.set(part, HASH, SignatureKind::HmacSha256.name())?;
            }
        }
        Ok(())
    }

    /// Asks for the settings of a listener, again if it listens where a previous one does.
    fn ask_listener(&mut self, at: usize, dialog: &mut Dialog<'_>) -> Result<(), String> {
        loop {
            let Some(listener) = self.listeners.get(at) else { return Ok(()) };
            let part = Part::Listener(listener.clone());
            self.ask_section(&part, dialog)?;
            let so_far = &self.listeners[..=at];
            let mut draft = Draft::new(so_far, DEFAULT_BACKEND)?;
            for listener in so_far {
                draft.copy(&self.text, &Part::Listener(listener.clone()), None)?;
            }
            match draft.config() {
                Ok(_) => return Ok(()),
                Err(reasons) => dialog.refuse(&title(&part), &reasons)?,
            }
        }
    }

    fn ask_backend(&mut self, dialog: &mut Dialog<'_>) -> Result<(), String> {
        let choices = kinds("backends/").replace(", agent", "");
        let asked =
            Prompt { name: "backend", help: BACKEND_HELP, choices: Some(&choices), ..Prompt::default() };
        self.backend = self.ask_daemon("backend", asked, DEFAULT_BACKEND, dialog, backend_named)?;
        Ok(())
    }

    /// Asks for a mandatory key of the daemon. Returns its parsed value.
    fn ask_daemon<T>(
        &mut self,
        key: &str,
        asked: Prompt<'_>,
        default: &str,
        dialog: &mut Dialog<'_>,
        parse: impl Fn(&str) -> Result<T, Vec<String>>,
    ) -> Result<T, String> {
        let present = self.text.value(&DAEMON, key);
        let asked = Prompt { present, default: default.to_string(), ..asked };
        let value = ask(&asked, dialog, |answer| parse(answer).map(drop))?.or(present, default);
        let parsed = parse(&value).map_err(|errors| errors.join("; "))?;
        self.text.set(&DAEMON, key, &value)?;
        Ok(parsed)
    }

    /// Asks for all keys of a listener or backend.
    fn ask_section(&mut self, part: &Part, dialog: &mut Dialog<'_>) -> Result<(), String> {
        dialog.say(&format!("\n{}\n", title(part)))?;
        for spec in keys(part.section()) {
            // Version 2 of the protocol has no choice of challenges.
            let is_version_2 = self.text.value(part, HASH) == Some(SignatureKind::HmacSha256.name());
            let is_rare = IF_SET.contains(&spec.name) || (spec.name == "auth" && is_version_2);
            if is_rare && self.text.value(part, spec.name).is_none() {
                continue;
            }
            match spec.count {
                Count::Numbered => self.ask_numbered(part, spec, dialog)?,
                Count::Once | Count::Adds => self.ask_key(part, spec, spec.name, dialog)?,
            }
        }
        Ok(())
    }

    /// Asks for all values in the file, then for more until Enter.
    fn ask_numbered(
        &mut self,
        part: &Part,
        spec: &'static KeySpec,
        dialog: &mut Dialog<'_>,
    ) -> Result<(), String> {
        let mut present = self.text.numbers(part, spec.name);
        if present.is_empty() {
            present.push(0);
        }
        for number in present {
            self.ask_key(part, spec, &numbered(spec.name, number), dialog)?;
        }
        while let Some(last) = self.text.numbers(part, spec.name).last() {
            let key = numbered(spec.name, last.saturating_add(1));
            self.ask_key(part, spec, &key, dialog)?;
            if self.text.value(part, &key).is_none() {
                break;
            }
        }
        Ok(())
    }

    fn ask_key(
        &mut self,
        part: &Part,
        spec: &'static KeySpec,
        key: &str,
        dialog: &mut Dialog<'_>,
    ) -> Result<(), String> {
        let draft = self.draft(part, spec)?;
        let is_first = key == spec.name;
        let effective = draft.config().ok().filter(|_| is_first).and_then(|config| match part {
            Part::Listener(_) => questions::of_listener(&config.listeners.first()?.config, key),
            Part::Plain(_) => questions::of_backend(&config, key),
        });
        let words = if is_first { questions::absent(spec).unwrap_or("none") } else { "none" };
        let is_absent = effective.is_none() || spec.name == "family";
        let asked = Prompt {
            name: key,
            help: questions::help(spec).unwrap_or("No help for this key."),
            choices: questions::choices(spec.kind),
            present: self.text.value(part, key),
            default: effective.filter(|_| !is_absent).unwrap_or(words.to_string()),
            is_absent,
        };
        let answer = ask(&asked, dialog, |answer| {
            let mut draft = draft.clone();
            draft.set(part, key, answer).map_err(|error| vec![error])?;
            draft.config().map(drop)
        })?;
        match answer {
            KeyAnswer::Keep => {}
            KeyAnswer::Default => self.text.unset(part, key),
            KeyAnswer::Value(value) => self.text.set(part, key, &value)?,
        }
        Ok(())
    }

    /// Returns a draft with the keys of a part up to this one.
    fn draft(&self, part: &Part, spec: &KeySpec) -> Result<Draft, String> {
        let (listener, backend) = match part {
            Part::Listener(name) => (name.clone(), DEFAULT_BACKEND),
            Part::Plain(section) => (ListenerName::new(DEFAULT_LISTENER, None), name_of(section)),
        };
        let mut draft = Draft::new(&[listener], backend)?;
        draft.copy(&self.text, part, Some(spec.name))?;
        // The place of the key in fence_virtd 4.x, which still counts.
        if let Some(value) = self.text.value(&DAEMON, "name_mode") {
            let mut with = draft.clone();
            let is_sound = with.set(&DAEMON, "name_mode", value).is_ok() && with.config().is_ok();
            draft = if is_sound { with } else { draft };
        }
        Ok(draft)
    }
}

impl KeyAnswer {
    /// Returns the value of a mandatory key.
    fn or(self, present: Option<&str>, default: &str) -> String {
        match (self, present) {
            (KeyAnswer::Value(value), _) => value,
            (KeyAnswer::Keep, Some(present)) => present.to_string(),
            (KeyAnswer::Keep | KeyAnswer::Default, _) => default.to_string(),
        }
    }
}

/// Asks for one value. A wrong value in the file cannot be kept.
fn ask(
    asked: &Prompt,
    dialog: &mut Dialog<'_>,
    check: impl Fn(&str) -> Result<(), Vec<String>>,
) -> Result<KeyAnswer, String> {
    let mut present = asked.present;
    if let Some(Err(reasons)) = present.map(&check) {
        dialog.say(&format!("  {} in the file is invalid: {}\n", asked.name, reasons.join("; ")))?;
        present = None;
    }
    let choices = asked.choices.map_or(String::new(), |choices| format!(" ({choices})"));
    let bracket = match present {
        Some(value) => value.escape_debug().to_string(),
        None => format!("default: {}", asked.default),
    };
    let prompt = format!("  {}{choices} [{bracket}]: ", asked.name);
    let help = format!("{}\nThe default is: {}.", asked.help, asked.default);
    dialog.ask(&prompt, &help, |answer| {
        let is_none = asked.is_absent && answer.eq_ignore_ascii_case("none");
        match (answer, present) {
            ("", Some(_)) => Ok(KeyAnswer::Keep),
            ("" | "-", _) => Ok(KeyAnswer::Default),
            _ if is_none => Ok(KeyAnswer::Default),
            (answer, Some(present)) if answer == present => Ok(KeyAnswer::Keep),
            (answer, _) => check(answer).map(|()| KeyAnswer::Value(answer.to_string())),
        }
    })
}

fn title(part: &Part) -> String {
    match part {
        Part::Listener(name) => format!("Listener {name}"),
        Part::Plain(section) => format!("Backend {}", name_of(section)),
    }
}

/// Returns the last part of a section's path.
fn name_of(section: &'static str) -> &'static str {
    section.rsplit_once('/').map_or(section, |(_, name)| name)
}

/// Returns the names of all listeners or backends.
fn kinds(outer: &str) -> String {
    let mut names: Vec<&str> = KEYS.iter().filter_map(|spec| spec.section.strip_prefix(outer)).collect();
    names.dedup();
    names.join(", ")
}

/// True if a value of `backend` names a fence agent.
fn names_agent(value: &str) -> bool {
    let mut words = value.split(|c: char| c == ',' || c.is_whitespace());
    words.any(|word| word.split(':').next().is_some_and(|kind| kind.eq_ignore_ascii_case("agent")))
}

/// Returns the name of a backend as spelled in the table.
fn backend_named(text: &str) -> Result<String, Vec<String>> {
    if names_agent(text) {
        return Err(vec!["fence agents are set up with an editor: see backends/agent.md".to_owned()]);
    }
    let listener = ListenerName::new(DEFAULT_LISTENER, None);
    let draft = Draft::new(&[listener], text).map_err(|error| vec![error])?;
    Ok(draft.config()?.backend.kind().to_string())
}

fn backend_part(name: &str) -> Part {
    let sections = KEYS.iter().map(|spec| spec.section);
    let mut own = sections.filter(|section| section.strip_prefix("backends/") == Some(name));
    Part::Plain(own.next().unwrap_or("backends/libvirt"))
}

#[cfg(test)]
#[path = "interview_tests.rs"]
mod tests;
