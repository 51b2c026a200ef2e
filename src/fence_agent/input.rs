//! Options of an agent, as it reads them on stdin: `name=value`, one a line.

/// Action of an agent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ApiAction {
    /// Power a VM off.
    Off,
    /// Power a VM on.
    On,
    /// Tell whether a VM runs: exit code 0 if it does, 2 if it is off.
    Status,
    /// List the VMs.
    List,
    /// List the VMs with their states.
    ListStatus,
    /// Check that the hypervisor answers.
    Monitor,
    /// Describe the agent.
    Metadata,
}

impl ApiAction {
    /// Name in the API.
    pub fn name(self) -> &'static str {
        match self {
            ApiAction::Off => "off",
            ApiAction::On => "on",
            ApiAction::Status => "status",
            ApiAction::List => "list",
            ApiAction::ListStatus => "list-status",
            ApiAction::Monitor => "monitor",
            ApiAction::Metadata => "metadata",
        }
    }
}

/// Option of an agent, from the configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AgentOption {
    /// Name, such as `ip`.
    pub name: String,
    /// Value.
    pub value: String,
}

impl AgentOption {
    /// Parses `name=value`.
    ///
    /// # Errors
    ///
    /// A sentence, if an agent cannot read it on one line, or if the daemon sets this option itself.
    pub fn parse(text: &str) -> Result<AgentOption, String> {
        let (name, value) =
            text.split_once('=').ok_or("an option is name=value, such as \"ip=192.0.2.1\"")?;
        let (name, value) = (name.trim(), value.trim());
        let is_name = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-');
        if name.is_empty() || !name.chars().all(is_name) {
            return Err(format!("{:?} is no name of an option", name));
        }
        if value.chars().any(char::is_control) {
            return Err(format!("the value of {name} has control characters: an agent reads one line"));
        }
        match name.to_ascii_lowercase().as_str() {
            "action" | "option" | "plug" | "port" | "nodename" => {
                Err(format!("{name} is set by each request: remove this option"))
            }
            "port_as_ip" => {
                Err("port_as_ip would let a client name the machine: remove this option".to_owned())
            }
            "missing_as_off" => {
                Err("missing_as_off would let a VM that the hypervisor does not find count as off: \
                                     remove this option"
                    .to_owned())
            }
            "method" if !value.eq_ignore_ascii_case("onoff") => Err(format!(
                "method={value} would let the agent reboot a VM that nobody has seen off: remove this option"
            )),
            _ => Ok(AgentOption { name: name.to_owned(), value: value.to_owned() }),
        }
    }
}

/// Returns what an agent reads on stdin. `plug` is the option that names the VM, and its value.
pub fn agent_input(action: ApiAction, options: &[AgentOption], plug: Option<(&str, &str)>) -> String {
    let mut input = format!("action={}\n", action.name());
    let options = options.iter().map(|AgentOption { name, value }| (name.as_str(), value.as_str()));
    for (name, value) in options.chain(plug) {
        input.extend([name, "=", value, "\n"]);
    }
    input
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_are_lines() {
        let options = ["ip = pve1", "password=a=b", "ssl="].map(|text| AgentOption::parse(text).unwrap());
        assert_eq!(
            agent_input(ApiAction::Off, &options, Some(("plug", "100"))),
            "action=off\nip=pve1\npassword=a=b\nssl=\nplug=100\n"
        );
        assert_eq!(agent_input(ApiAction::ListStatus, &[], None), "action=list-status\n");
    }

    #[test]
    fn what_an_agent_would_misread_is_refused() {
        for bad in [
            "ip",
            "=x",
            "i p=x",
            "ip=a\nb",
            "Action=off",
            "port=1",
            "plug=1",
            "method=cycle",
            "missing_as_off=1",
            "port_as_ip=1",
        ] {
            assert!(AgentOption::parse(bad).is_err(), "{bad:?}");
        }
        assert!(AgentOption::parse("method=onoff").is_ok());
    }
}
