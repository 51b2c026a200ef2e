//! Metadata of an agent: which options it reads, and which actions it has.

use std::collections::BTreeSet;
use std::fmt;

use quick_xml::Reader;
use quick_xml::events::{BytesStart, Event};

/// Maximum length of the metadata, in bytes.
pub const METADATA_MAX: usize = 1 << 20;

/// What the metadata of an agent tells.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AgentMetadata {
    parameters: BTreeSet<String>,
    /// Parameters that have to be given.
    required: BTreeSet<String>,
    actions: BTreeSet<String>,
    /// An action is done by the cluster when a node starts: unfencing.
    has_unfencing: bool,
}

/// Reason why an agent cannot be used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MetadataError(String);

impl fmt::Display for MetadataError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

fn unreadable(reason: impl fmt::Display) -> MetadataError {
    MetadataError(format!("its metadata cannot be read: {reason}"))
}

impl AgentMetadata {
    /// Parses metadata, and checks that the agent powers VMs off and can tell that they are.
    ///
    /// # Errors
    ///
    /// [`MetadataError`] if the XML is malformed, or the agent is of no use.
    pub fn parse(xml: &str) -> Result<AgentMetadata, MetadataError> {
        if xml.len() > METADATA_MAX {
            return Err(unreadable(format_args!("it is longer than {METADATA_MAX} bytes")));
        }
        let mut reader = Reader::from_str(xml);
        let mut found = AgentMetadata::default();
        let (mut depth, mut has_root) = (0_usize, false);
        loop {
            match reader.read_event().map_err(unreadable)? {
                Event::Start(tag) => {
                    has_root |= depth == 0 && tag.name().as_ref() == b"resource-agent";
                    depth += 1;
                    found.take(&tag)?;
                }
                Event::Empty(tag) => found.take(&tag)?,
                Event::End(_) => depth = depth.saturating_sub(1),
                Event::DocType(_) => return Err(unreadable("it has a document type definition")),
                Event::Eof if depth > 0 => return Err(unreadable("unexpected end")),
                Event::Eof if !has_root => return Err(unreadable("it has no <resource-agent>")),
                Event::Eof => break,
                _ => {}
            }
        }
        found.check().map(|()| found)
    }

    fn take(&mut self, tag: &BytesStart<'_>) -> Result<(), MetadataError> {
        let attribute = |wanted: &str| -> Result<Option<String>, MetadataError> {
            let found = tag.try_get_attribute(wanted).map_err(unreadable)?;
            found
                .map(|found| found.unescape_value().map(|text| text.into_owned()))
                .transpose()
                .map_err(unreadable)
        };
        match tag.name().as_ref() {
            b"parameter" => {
                let name = attribute("name")?;
                if attribute("required")?.is_some_and(|value| value == "1") {
                    self.required.extend(name.clone());
                }
                self.parameters.extend(name);
            }
            b"action" => {
                self.actions.extend(attribute("name")?);
                self.has_unfencing |= attribute("automatic")?.is_some_and(|value| value == "1");
            }
            _ => {}
        }
        Ok(())
    }

    fn check(&self) -> Result<(), MetadataError> {
        if self.has_unfencing || !(self.has_action("on") && self.has_action("reboot")) {
            let text = "it cuts hosts off from storage or a network (fabric fencing) and powers no VM off";
            return Err(MetadataError(text.to_owned()));
        }
        for action in ["off", "status"] {
            if !self.has_action(action) {
                let text = format!("it has no action {action}: nobody could know that a VM is off");
                return Err(MetadataError(text));
            }
        }
        Ok(())
    }

    /// True if the agent has this action.
    pub fn has_action(&self, action: &str) -> bool {
        self.actions.contains(action)
    }

    /// Name of the option that takes the VM; none if the agent has one VM only. That is so too if the agent does
    /// without it and has no list, and if it may take an address in its place (`port_as_ip`): such an agent fences the
    /// machine at the address in its options, whatever the name.
    pub fn plug_option(&self) -> Option<&'static str> {
        let plug = ["plug", "port"].into_iter().find(|name| self.parameters.contains(*name));
        let has_list = self.has_action("list") || self.has_action("list-status");
        plug.filter(|plug| !self.has_option("port_as_ip") && (has_list || self.required.contains(*plug)))
    }

    /// Name of the option that takes the password; none if the agent has none.
    pub fn password_option(&self) -> Option<&'static str> {
        ["password", "passwd"].into_iter().find(|name| self.parameters.contains(*name))
    }

    /// True if the agent reads an option of this name.
    pub fn has_option(&self, name: &str) -> bool {
        self.parameters.contains(name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Metadata with these parameters and actions.
    fn metadata(parameters: &[&str], actions: &str) -> String {
        let parameter = |name: &&str| {
            format!(
                "<parameter name=\"{name}\" required=\"1\"><shortdesc lang=\"en\">x</shortdesc></parameter>"
            )
        };
        let parameters: String = parameters.iter().map(parameter).collect();
        format!(
            "<?xml version=\"1.0\" ?>\n<resource-agent name=\"a\"><parameters>{parameters}</parameters>\
             <actions>{actions}</actions></resource-agent>"
        )
    }

    const POWER: &str = "<action name=\"on\" automatic=\"0\"/><action name=\"off\" /><action name=\"reboot\" />\
                         <action name=\"status\" />";

    #[test]
    fn the_options_of_an_agent_are_told() {
        let parse = |parameters: &[&str]| AgentMetadata::parse(&metadata(parameters, POWER)).unwrap();
        let new = parse(&["plug", "port", "password", "passwd"]);
        assert_eq!((new.plug_option(), new.password_option()), (Some("plug"), Some("password")));
        let old = parse(&["port", "passwd"]);
        assert_eq!((old.plug_option(), old.password_option()), (Some("port"), Some("passwd")));
        assert_eq!((parse(&[]).plug_option(), parse(&[]).password_option()), (None, None));
        assert!(new.has_action("status") && !new.has_action("list"));
    }

    #[test]
    fn agents_that_power_nothing_off_are_refused() {
        let error =
            |actions: &str| AgentMetadata::parse(&metadata(&["plug"], actions)).unwrap_err().to_string();
        assert!(error(&POWER.replace("automatic=\"0\"", "automatic=\"1\"")).contains("fabric"));
        assert!(error(&POWER.replace("<action name=\"reboot\" />", "")).contains("fabric"));
        assert!(error(&POWER.replace("name=\"status\"", "name=\"x\"")).contains("no action status"));
        assert!(error(&POWER.replace("name=\"off\"", "name=\"x\"")).contains("no action off"));
    }

    #[test]
    fn what_is_no_metadata_is_an_error() {
        for bad in [
            "",
            "Traceback",
            "<x/>",
            "<resource-agent>",
            "<!DOCTYPE a><resource-agent/>",
            "<resource-agent></x>",
        ] {
            assert!(AgentMetadata::parse(bad).is_err(), "{bad:?}");
        }
        let endless = metadata(&[&"x".repeat(METADATA_MAX)], POWER);
        assert!(AgentMetadata::parse(&endless).unwrap_err().to_string().contains("longer"));
    }
}
