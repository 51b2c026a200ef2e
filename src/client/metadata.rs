//! Metadata of an agent for cluster tools: XML for the RELAX NG schema of
//! fence-agents. Names, order, letters, types and defaults are those of the C agents.

use std::fmt::Write;

use super::action::ACTIONS;
use super::agent::Agent;
use super::options::{OptionSpec, Requirement};

/// Output of `-o metadata`.
pub(super) fn xml(agent: Agent) -> String {
    let name = agent.name();
    let way = match agent {
        Agent::Xvm => "finds the host daemon fence_virtd by multicast",
        Agent::Virt => "reaches the host daemon fence_virtd over TCP, vsock, a serial line or a vmchannel",
    };
    let mut out = format!(
        "<?xml version=\"1.0\" ?>\n\
         <resource-agent name=\"{name}\" shortdesc=\"Fencing of libvirt VMs through their host\">\n\
         <longdesc>{name} fences a virtual machine. It {way}, and succeeds only if the daemon reports that the VM \
         was powered off or on.\n\nReboot does not start a VM that is off.</longdesc>\n\
         <vendor-url>https://libvirt.org</vendor-url>\n<parameters>\n"
    );
    for option in agent.options() {
        parameter(&mut out, option);
    }
    out.push_str("</parameters>\n<actions>\n");
    for (action, _) in ACTIONS {
        // Writing to a String cannot fail.
        let _ = writeln!(out, "\t<action name=\"{action}\" />");
    }
    out.push_str("</actions>\n</resource-agent>\n");
    out
}

fn parameter(out: &mut String, option: &OptionSpec) {
    let requirement = match option.requirement {
        Requirement::Optional => "required=\"0\"".to_owned(),
        Requirement::Required { obsoletes } => format!("required=\"1\" obsoletes=\"{obsoletes}\""),
        Requirement::DeprecatedRequired => "required=\"1\" deprecated=\"1\"".to_owned(),
        Requirement::Deprecated => "required=\"0\" deprecated=\"1\"".to_owned(),
    };
    let letter = option.short.map_or(String::new(), |letter| format!("-{letter}"));
    let default = option.default.map_or(String::new(), |default| format!(" default=\"{default}\""));
    let _ = writeln!(
        out,
        "\t<parameter name=\"{}\" unique=\"0\" {requirement}>\n\t\t<getopt mixed=\"{letter}\" />\n\
         \t\t<content type=\"{}\"{default} />\n\t\t<shortdesc lang=\"en\">{}</shortdesc>\n\t</parameter>",
        option.name, option.kind, option.text
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_text_of_the_table_needs_escaping() {
        for agent in [Agent::Xvm, Agent::Virt] {
            for option in agent.options() {
                for text in [option.name, option.text, option.kind, option.default.unwrap_or("")] {
                    assert!(!text.contains(['<', '>', '&', '"']), "{text}");
                }
            }
        }
    }
}
