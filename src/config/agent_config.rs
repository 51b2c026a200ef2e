use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use crate::fence_agent::{AgentOption, Secrets};

/// Highest value of an agent's `max_parallel`.
pub const AGENT_PARALLEL_MAX: usize = 64;

/// A fence agent of another project, by which VMs are controlled.
#[derive(Clone, PartialEq, Eq)]
pub struct AgentConfig {
    /// Name of its section; `None`: the section has none.
    pub name: Option<String>,
    /// Its program: an absolute path.
    pub program: PathBuf,
    /// Its options, in the order of the file.
    pub options: Vec<AgentOption>,
    /// File with its password; one line.
    pub password_file: Option<PathBuf>,
    /// User that it runs as; `None`: that of the daemon.
    pub user: Option<String>,
    /// Interval between lists of the VMs: at least 1 s (default: 60 s).
    pub list_interval: Duration,
    /// Time limit of each call: 1 to 60 s (default: 60 s).
    pub timeout: Duration,
    /// Maximum of calls at a time: 1 to [`AGENT_PARALLEL_MAX`] (default: 16).
    pub max_parallel: usize,
}

impl AgentConfig {
    /// Name of the place where its VMs are: `agent`, or `agent:NAME`.
    pub fn place(&self) -> String {
        self.name.as_ref().map_or_else(|| "agent".to_owned(), |name| format!("agent:{name}"))
    }
}

// Without the values of secrets.
impl fmt::Debug for AgentConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shown = |AgentOption { name, value }: &AgentOption| match Secrets::is_secret(name) {
            true => format!("{name}=***"),
            false => format!("{name}={value}"),
        };
        f.debug_struct("AgentConfig")
            .field("place", &self.place())
            .field("program", &self.program)
            .field("options", &self.options.iter().map(shown).collect::<Vec<_>>())
            .field("password_file", &self.password_file)
            .field("user", &self.user)
            .field("list_interval", &self.list_interval)
            .field("timeout", &self.timeout)
            .field("max_parallel", &self.max_parallel)
            .finish()
    }
}
