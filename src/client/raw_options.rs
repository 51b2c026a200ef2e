use std::ffi::{OsStr, OsString};

use super::options::Id;

/// Options of a command line or stdin in their order, not yet validated.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct RawOptions {
    values: Vec<(Id, OsString)>,
    /// Set for stdin, where the last value of a name counts.
    is_stdin: bool,
}

impl RawOptions {
    pub(super) fn from_args() -> RawOptions {
        RawOptions::default()
    }

    pub(super) fn from_stdin() -> RawOptions {
        RawOptions { values: Vec::new(), is_stdin: true }
    }

    pub(super) fn push(&mut self, id: Id, value: impl Into<OsString>) {
        self.values.push((id, value.into()));
    }

    /// Last value of an option.
    pub(super) fn last(&self, id: Id) -> Option<&OsStr> {
        self.values.iter().rev().find(|(given, _)| *given == id).map(|(_, value)| value.as_os_str())
    }

    /// VM named by any of the options; `None` without a name or with an empty one.
    ///
    /// # Errors
    ///
    /// A message if there are two different names.
    pub(super) fn domain(&self) -> Result<Option<&OsStr>, String> {
        let is_name = |id: Id| matches!(id, Id::Plug | Id::Port | Id::Domain);
        let names: Vec<&OsStr> = match self.is_stdin {
            true => [Id::Plug, Id::Port, Id::Domain].iter().filter_map(|&id| self.last(id)).collect(),
            false => self.values.iter().filter(|(id, _)| is_name(*id)).map(|(_, name)| &**name).collect(),
        };
        let mut names = names.into_iter().filter(|name| !name.is_empty());
        let Some(first) = names.next() else { return Ok(None) };
        match names.find(|name| *name != first) {
            None => Ok(Some(first)),
            Some(other) => Err(format!(
                "two different VMs given, {:?} and {:?}: plug, port and domain must agree{}",
                first.to_string_lossy(),
                other.to_string_lossy(),
                // pacemaker adds the node's name as port, unless port is given.
                if self.is_stdin { " (with pacemaker, use port or pcmk_host_map, not plug)" } else { "" }
            )),
        }
    }
}
