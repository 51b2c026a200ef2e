//! Sections `agent` of `backends`: fence agents of other projects.

use std::time::Duration;

use super::agent_config::{AGENT_PARALLEL_MAX, AgentConfig};
use super::diagnostic_sink::{DiagnosticSink, quoted};
use super::fields::SectionFields;
use super::lexer::Span;
use super::tree::Section;
use super::values;
use crate::fence_agent::{AgentOption, Secrets};

const SECTION: &str = "backends/agent";
const DEFAULT_LIST_INTERVAL: u32 = 60;
const DEFAULT_TIMEOUT: u32 = 60;
/// No answer to a client takes longer.
const TIMEOUT_MAX: u32 = 60;
const DEFAULT_PARALLEL: usize = 16;
/// Maximum length of a section's name. Logs and metrics show it as part of the name of a place.
const NAME_MAX: usize = 32;

/// Agents that `backend` selects.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct SelectedAgents<'a> {
    /// `agent`: all sections.
    pub(super) all: bool,
    /// `agent:NAME`: these.
    pub(super) names: Vec<Span<'a>>,
}

impl SelectedAgents<'_> {
    fn has(&self, name: Option<&str>) -> bool {
        self.all || self.names.iter().any(|wanted| Some(wanted.text) == name)
    }
}

/// Reads the sections. Errors in those that are not selected only warn.
pub(super) fn read(
    backends: &SectionFields,
    selected: &SelectedAgents,
    at: usize,
    sink: &mut DiagnosticSink,
) -> Vec<AgentConfig> {
    let mut found: Vec<(Option<&str>, usize)> = Vec::new();
    let mut agents = Vec::new();
    for section in backends.sections("agent") {
        let name = section.label.map(|label| label.text);
        let is_used = selected.has(name);
        let agent = sink.for_section(is_used, |sink| {
            if let Some((_, before)) = found.iter().find(|(other, _)| *other == name) {
                let line = sink.line(*before);
                let what = name.map_or_else(
                    || "agent without a name".to_owned(),
                    |name| format!("agent {}", quoted(name)),
                );
                sink.error(
                    section.at(),
                    format!("the {what} is already on line {line}; give each a name of its own"),
                );
            }
            read_agent(section, sink)
        });
        found.push((name, section.at()));
        agents.extend(agent.filter(|_| is_used));
    }
    for wanted in &selected.names {
        if !found.iter().any(|(name, _)| *name == Some(wanted.text)) {
            let example = format!("agent = {} {{ program = \"/usr/sbin/fence_pve\"; }}", quoted(wanted.text));
            sink.error(wanted.at, format!("there is no such agent; add {example} to the section backends"));
        }
    }
    if selected.all && found.is_empty() {
        let example = "backends { agent { program = \"/usr/sbin/fence_pve\"; } }";
        sink.error(at, format!("there is no agent; add {example}"));
    }
    agents
}

fn read_agent(section: &Section, sink: &mut DiagnosticSink) -> Option<AgentConfig> {
    let fields = SectionFields::of(Some(section), SECTION, sink);
    let name = section
        .label
        .and_then(|label| agent_name(label.text).map_err(|message| sink.error(label.at, message)).ok());
    let options = fields.all("option", sink);
    let options =
        options.into_iter().filter_map(|option| read_option(option, &fields, sink)).collect::<Vec<_>>();
    for (at, option) in options.iter().enumerate() {
        if options[..at].iter().any(|before| before.name == option.name) {
            sink.error(section.at(), format!("option {} is there twice; keep one of them", option.name));
        }
    }
    let mut seconds = |key: &str, default: u32, max: u32| {
        let value = fields.read(key, sink, |text| values::seconds(text, max));
        Duration::from_secs(value.unwrap_or(default).into())
    };
    let list_interval = seconds("list_interval", DEFAULT_LIST_INTERVAL, 86_400);
    let timeout = seconds("timeout", DEFAULT_TIMEOUT, TIMEOUT_MAX);
    let max_parallel = fields.read("max_parallel", sink, |text| values::count(text, AGENT_PARALLEL_MAX));
    let (password_file, user) = (
        fields.read("password_file", sink, values::file),
        fields.read("user", sink, |text| Ok(text.trim().to_owned())),
    );
    if fields.value("program").is_none() {
        sink.error(section.at(), "this agent has no program; add program = \"/usr/sbin/fence_...\";");
    }
    let program = fields.read("program", sink, values::file)?;
    let max_parallel = max_parallel.unwrap_or(DEFAULT_PARALLEL);
    Some(AgentConfig { name, program, options, password_file, user, list_interval, timeout, max_parallel })
}

fn agent_name(text: &str) -> Result<String, String> {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    let is_name = (1..=NAME_MAX).contains(&text.len()) && text.chars().all(is_plain);
    is_name.then(|| text.to_owned()).ok_or_else(|| {
        format!(
            "{} is no name of an agent: it has to be 1 to {NAME_MAX} letters, digits and -_.",
            quoted(text)
        )
    })
}

fn read_option(option: Span, fields: &SectionFields, sink: &mut DiagnosticSink) -> Option<AgentOption> {
    let parsed = AgentOption::parse(option.text).map_err(|message| sink.error(option.at, message)).ok()?;
    let is_password = ["password", "passwd"].contains(&parsed.name.as_str());
    if is_password && fields.value("password_file").is_some() {
        sink.error(
            option.at,
            format!("{} and password_file exclude each other: remove this option", parsed.name),
        );
    } else if Secrets::is_secret(&parsed.name) && !parsed.value.starts_with('/') {
        let advice =
            if is_password { "; write it to a file of mode 0600 and name that as password_file" } else { "" };
        sink.warning(option.at, format!("the value of {} is a secret in this file{advice}", parsed.name));
    }
    Some(parsed)
}

#[cfg(test)]
#[path = "agents_tests.rs"]
mod tests;
