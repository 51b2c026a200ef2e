//! Parser of a running VM's XML for the devices that carry requests: serial ports and channels that are unix
//! sockets on the host, and the vsock CID. Format: <https://libvirt.org/formatdomain.html>.
#![forbid(unsafe_code)]

use std::fmt;
use std::path::PathBuf;

use quick_xml::Reader;
use quick_xml::events::{BytesStart, Event};

/// Maximum length of the XML, in bytes: libvirt's own limit of a string.
pub const XML_MAX: usize = 4 << 20;

/// Prefix of the QEMU guest agent's channels. libvirt itself is connected to
/// them, and a second connection would displace it.
const GUEST_AGENT: &str = "org.qemu.guest_agent.";

/// Devices of a VM that carry requests.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Devices {
    /// libvirt's id of the run that has them; none if the VM is not running.
    pub run: Option<u32>,
    /// Sockets of `<serial type='unix'>` with a source of mode bind.
    pub serials: Vec<PathBuf>,
    /// Sockets of `<channel type='unix'>`, without the guest agent's.
    pub channels: Vec<PathBuf>,
    /// Addresses of `<vsock>`.
    pub cids: Vec<u32>,
}

/// Reason why a text is not a VM's XML.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct XmlError(String);

impl fmt::Display for XmlError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "cannot parse its XML: {}", self.0)
    }
}

impl Devices {
    /// Parses the XML of one VM. Unknown elements are ignored.
    ///
    /// # Errors
    ///
    /// [`XmlError`] if it is not well-formed, has a document type definition,
    /// is longer than [`XML_MAX`], or its root is not a `<domain>`.
    pub fn parse(xml: &str) -> Result<Devices, XmlError> {
        if xml.len() > XML_MAX {
            return Err(XmlError(format!("it is longer than {XML_MAX} bytes")));
        }
        let mut reader = Reader::from_str(xml);
        let mut walk = Walk::default();
        loop {
            match reader.read_event().map_err(error)? {
                Event::Start(tag) => walk.open(&tag)?,
                Event::Empty(tag) => {
                    walk.open(&tag)?;
                    walk.close();
                }
                Event::End(_) => walk.close(),
                Event::DocType(_) => return Err(error("it has a document type definition")),
                Event::Eof if walk.is_whole => return Ok(walk.found),
                Event::Eof => return Err(error("unexpected end")),
                _ => {}
            }
        }
    }
}

fn error(reason: impl fmt::Display) -> XmlError {
    XmlError(reason.to_string())
}

/// Position of the reader by depth: `<domain>` 1, `<devices>` 2, a device 3, its parts 4.
#[derive(Debug, Default)]
struct Walk {
    depth: usize,
    in_devices: bool,
    device: Option<Device>,
    /// True once the root is closed.
    is_whole: bool,
    found: Devices,
}

/// Device at the position of the reader.
#[derive(Debug)]
enum Device {
    /// Serial port or channel.
    Unix {
        is_serial: bool,
        path: Option<PathBuf>,
        is_guest_agents: bool,
    },
    Vsock,
}

impl Walk {
    fn open(&mut self, tag: &BytesStart) -> Result<(), XmlError> {
        self.depth += 1;
        let name = tag.name();
        match (self.depth, name.as_ref()) {
            (1, b"domain") if !self.is_whole => self.found.run = number(tag, "id")?,
            (1, name) => {
                let name = String::from_utf8_lossy(name);
                return Err(error(format_args!("expected one <domain>, found <{name}>")));
            }
            (2, name) => self.in_devices = name == b"devices",
            (3, name) if self.in_devices => self.device = device(name, tag)?,
            (4, name) => self.part(name, tag)?,
            _ => {}
        }
        Ok(())
    }

    fn part(&mut self, name: &[u8], tag: &BytesStart) -> Result<(), XmlError> {
        match (&mut self.device, name) {
            (Some(Device::Unix { path, .. }), b"source")
                if attribute(tag, "mode")?.as_deref() == Some("bind") =>
            {
                *path = attribute(tag, "path")?.filter(|path| !path.is_empty()).map(PathBuf::from);
            }
            (Some(Device::Unix { is_guest_agents, .. }), b"target") => {
                *is_guest_agents = attribute(tag, "name")?.is_some_and(|name| name.starts_with(GUEST_AGENT));
            }
            (Some(Device::Vsock), b"cid") => self.found.cids.extend(number(tag, "address")?),
            _ => {}
        }
        Ok(())
    }

    fn close(&mut self) {
        if self.depth == 3 {
            match self.device.take() {
                Some(Device::Unix { is_serial: true, path, .. }) => self.found.serials.extend(path),
                Some(Device::Unix { path, is_guest_agents: false, .. }) => self.found.channels.extend(path),
                _ => {}
            }
        }
        self.depth -= 1;
        self.is_whole = self.depth == 0;
    }
}

fn device(name: &[u8], tag: &BytesStart) -> Result<Option<Device>, XmlError> {
    let is_serial = name == b"serial";
    if name == b"vsock" {
        return Ok(Some(Device::Vsock));
    }
    let is_unix = (is_serial || name == b"channel") && attribute(tag, "type")?.as_deref() == Some("unix");
    Ok(is_unix.then_some(Device::Unix { is_serial, path: None, is_guest_agents: false }))
}

fn number(tag: &BytesStart, name: &str) -> Result<Option<u32>, XmlError> {
    Ok(attribute(tag, name)?.and_then(|text| text.parse().ok()))
}

fn attribute(tag: &BytesStart, name: &str) -> Result<Option<String>, XmlError> {
    let Some(attribute) = tag.try_get_attribute(name).map_err(error)? else { return Ok(None) };
    Ok(Some(attribute.unescape_value().map_err(error)?.into_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn domain(devices: &str) -> String {
        format!(
            "<?xml version='1.0'?>\n<domain type='kvm' id='3'><name>a</name><devices>{devices}</devices></domain>"
        )
    }

    fn parse(devices: &str) -> Devices {
        Devices::parse(&domain(devices)).unwrap()
    }

    fn paths(paths: &[&str]) -> Vec<PathBuf> {
        paths.iter().map(PathBuf::from).collect()
    }

    #[test]
    fn sockets_of_serial_ports_and_channels() {
        let found = parse(
            "<serial type='unix'><source mode='bind' path='/s/a &amp; b'/><target port='1'/></serial>\
             <serial type='pty'><source path='/dev/pts/3'/></serial>\
             <serial type='unix'><source mode='connect' path='/s/c'/></serial>\
             <serial type='unix'><!-- <source mode='bind' path='/s/comment'/> --><source mode='bind' path=''/></serial>\
             <serial type='unix'><source mode='bind' path='/s/d'><seclabel model='x'/></source><alias name='s1'/></serial>\
             <console type='unix'><source mode='bind' path='/s/console'/></console>\
             <channel type='unix'><source mode='bind' path='/c/a'/>\
             <target type='guestfwd' address='10.0.2.179' port='1229'/></channel>\
             <channel type='unix'><source mode='bind' path='/c/agent'/>\
             <target type='virtio' name='org.qemu.guest_agent.0' state='connected'/></channel>\
             <channel type='unix'><source mode='bind' path='/c/b'/><target type='virtio' name='fence.0'/></channel>\
             <channel type='spicevmc'><target type='virtio' name='com.redhat.spice.0'/></channel>",
        );
        assert_eq!(found.serials, paths(&["/s/a & b", "/s/d"]));
        assert_eq!(found.channels, paths(&["/c/a", "/c/b"]));
    }

    #[test]
    fn devices_count_only_at_their_place_in_the_tree() {
        let serial = "<serial type='unix'><source mode='bind' path='/x'/></serial>";
        let strays = format!(
            "<domain><metadata>{serial}<devices>{serial}</devices></metadata>\
             <description>&lt;devices>{}</description>\
             <devices><disk>{serial}</disk></devices></domain>",
            serial.replace('<', "&lt;")
        );
        assert_eq!(Devices::parse(&strays).unwrap(), Devices::default());
        let inside_cdata = parse(&format!("<![CDATA[{serial}]]>"));
        assert_eq!(inside_cdata.serials, paths(&[]));
    }

    #[test]
    fn cids() {
        let found = parse(
            "<vsock model='virtio'><cid auto='yes' address='3'/><alias name='vsock0'/></vsock>\
             <vsock><cid auto='yes'/></vsock><vsock><cid address='4294967296'/></vsock>",
        );
        assert_eq!(found.cids, [3]);
        assert_eq!(found.run, Some(3));
    }

    #[test]
    fn a_text_that_is_not_a_vm_is_refused() {
        for (xml, words) in [
            ("", "cannot parse"),
            ("<domain>", "cannot parse"),
            ("<network/>", "<network>"),
            ("<domain/><domain/>", "one <domain>"),
            ("<domain><devices></domain></devices>", "cannot parse"),
            ("<domain><devices><serial type='&x;'/></devices></domain>", "cannot parse"),
            ("<domain><devices><serial type=unix/></devices></domain>", "cannot parse"),
            ("<!DOCTYPE d [<!ENTITY x 'y'>]><domain>&x;</domain>", "document type"),
        ] {
            let error = Devices::parse(xml).unwrap_err().to_string();
            assert!(error.contains(words), "{error}");
        }
        let long = format!("<domain>{}</domain>", " ".repeat(XML_MAX));
        assert!(Devices::parse(&long).is_err());
    }

    #[test]
    fn deep_and_long_documents_are_parsed() {
        let deep = format!("{}{}", "<a>".repeat(100_000), "</a>".repeat(100_000));
        assert_eq!(parse(&deep).serials, paths(&[]));
        let many = "<serial type='unix'><source mode='bind' path='/x'/></serial>".repeat(20_000);
        assert_eq!(parse(&many).serials.len(), 20_000);
    }
}
