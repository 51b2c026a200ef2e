use std::ffi::{CStr, OsStr};
use std::path::Path;

/// Agent to run as, selected by the program's name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Agent {
    /// `fence_xvm`: multicast.
    Xvm,
    /// `fence_virt`: tcp, vsock, serial, vmchannel.
    Virt,
}

impl Agent {
    /// Selects the agent by argv\[0\]: fence_xvm if the file name begins with
    /// `fence_xvm`, otherwise fence_virt.
    pub(super) fn from_path(path: Option<&OsStr>) -> Agent {
        let name = path.map(Path::new).and_then(Path::file_name).and_then(OsStr::to_str);
        match name {
            Some(name) if name.starts_with("fence_xvm") => Agent::Xvm,
            _ => Agent::Virt,
        }
    }

    /// Agent that this one is not.
    pub(super) fn other(self) -> Agent {
        match self {
            Agent::Xvm => Agent::Virt,
            Agent::Virt => Agent::Xvm,
        }
    }

    pub(super) fn name(self) -> &'static str {
        match self {
            Agent::Xvm => "fence_xvm",
            Agent::Virt => "fence_virt",
        }
    }

    /// Name for syslog(3).
    pub(super) fn c_name(self) -> &'static CStr {
        match self {
            Agent::Xvm => c"fence_xvm",
            Agent::Virt => c"fence_virt",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_selects_the_agent() {
        let agent = |path: &str| Agent::from_path(Some(OsStr::new(path)));
        assert_eq!(agent("/usr/sbin/fence_xvm"), Agent::Xvm);
        assert_eq!(agent("fence_xvm"), Agent::Xvm);
        assert_eq!(agent("/usr/sbin/fence_virt"), Agent::Virt);
        assert_eq!(agent("/fence_xvm/other"), Agent::Virt);
        assert_eq!(Agent::from_path(None), Agent::Virt);
    }
}
