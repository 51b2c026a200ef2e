/// Type of a key's value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ValueKind {
    /// Names of listeners, separated by commas or blanks.
    Listeners,
    /// Name of a backend, or several, separated by commas or blanks.
    Backend,
    /// Option of a fence agent: name=value.
    AgentOption,
    /// 1, 0, yes, no, true, false, on, off.
    Boolean,
    /// A decimal number that fits 32 bits.
    Number,
    /// Path of a file or directory.
    Path,
    /// A libvirt URI.
    Uri,
    /// none, sha1, sha256, sha512 or hmac-sha256.
    Signature,
    /// none, sha1, sha256 or sha512.
    Hash,
    /// ipv4 or ipv6.
    Family,
    /// An IP address.
    Address,
    /// 1 to 65535.
    Port,
    /// 1 to 4294967294.
    VsockPort,
    /// Name of a network interface.
    Interface,
    /// serial or vmchannel.
    SerialMode,
    /// name or uuid.
    NameMode,
    /// fail or off.
    UnknownVm,
    /// auto or none.
    HostFencing,
    /// Operations, separated by commas or blanks.
    Operations,
    /// A number of power-offs and a time, such as 2/60s.
    PowerOffCap,
    /// Any text.
    Text,
    /// Key of older versions, now without effect.
    Ignored,
}

/// Number of times that a key may occur in its section.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Count {
    /// Once; the last one of several counts.
    Once,
    /// Any number of times; all values count.
    Adds,
    /// Once without a number and once with each number from 1 after its name.
    Numbered,
}

/// Key of a configuration file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KeySpec {
    /// Path of its section, such as `listeners/tcp`.
    pub section: &'static str,
    /// Name in lower case.
    pub name: &'static str,
    /// Type of its value.
    pub kind: ValueKind,
    /// Number of times that it may occur.
    pub count: Count,
}

const fn once(section: &'static str, name: &'static str, kind: ValueKind) -> KeySpec {
    KeySpec { section, name, kind, count: Count::Once }
}

/// Keys of all sections, including ignored ones. The sections are those named here.
pub const KEYS: &[KeySpec] = &[
    once("fence_virtd", "listener", ValueKind::Listeners),
    once("fence_virtd", "backend", ValueKind::Backend),
    once("fence_virtd", "foreground", ValueKind::Boolean),
    once("fence_virtd", "wait_for_init", ValueKind::Boolean),
    once("fence_virtd", "wait_for_backend", ValueKind::Boolean),
    once("fence_virtd", "max_parallel", ValueKind::Number),
    once("fence_virtd", "debug", ValueKind::Number),
    once("fence_virtd", "status_socket", ValueKind::Path),
    once("fence_virtd", "history_file", ValueKind::Path),
    once("fence_virtd", "name_mode", ValueKind::NameMode),
    once("fence_virtd", "module_path", ValueKind::Ignored),
    once("listeners/multicast", "key_file", ValueKind::Path),
    once("listeners/multicast", "old_key_file", ValueKind::Path),
    once("listeners/multicast", "hash", ValueKind::Signature),
    once("listeners/multicast", "auth", ValueKind::Hash),
    once("listeners/multicast", "family", ValueKind::Family),
    once("listeners/multicast", "address", ValueKind::Address),
    once("listeners/multicast", "port", ValueKind::Port),
    once("listeners/multicast", "interface", ValueKind::Interface),
    once("listeners/serial", "uri", ValueKind::Uri),
    once("listeners/serial", "path", ValueKind::Path),
    once("listeners/serial", "mode", ValueKind::SerialMode),
    // The C daemon required the file for every listener, but did not use it here.
    once("listeners/serial", "key_file", ValueKind::Ignored),
    once("listeners/tcp", "key_file", ValueKind::Path),
    once("listeners/tcp", "old_key_file", ValueKind::Path),
    once("listeners/tcp", "hash", ValueKind::Signature),
    once("listeners/tcp", "auth", ValueKind::Hash),
    once("listeners/tcp", "family", ValueKind::Family),
    once("listeners/tcp", "address", ValueKind::Address),
    once("listeners/tcp", "port", ValueKind::Port),
    once("listeners/vsock", "key_file", ValueKind::Path),
    once("listeners/vsock", "old_key_file", ValueKind::Path),
    once("listeners/vsock", "hash", ValueKind::Signature),
    once("listeners/vsock", "auth", ValueKind::Hash),
    once("listeners/vsock", "port", ValueKind::VsockPort),
    KeySpec { section: "backends/libvirt", name: "uri", kind: ValueKind::Uri, count: Count::Numbered },
    KeySpec { section: "backends/cpg", name: "uri", kind: ValueKind::Uri, count: Count::Numbered },
    once("backends/cpg", "name_mode", ValueKind::NameMode),
    once("backends/cpg", "host_fencing", ValueKind::HostFencing),
    once("backends/cpg", "host_fence_delay", ValueKind::Number),
    once("backends/cpg", "unknown_vm", ValueKind::UnknownVm),
    once("backends/agent", "program", ValueKind::Path),
    KeySpec { section: "backends/agent", name: "option", kind: ValueKind::AgentOption, count: Count::Adds },
    once("backends/agent", "password_file", ValueKind::Path),
    once("backends/agent", "user", ValueKind::Text),
    once("backends/agent", "list_interval", ValueKind::Number),
    once("backends/agent", "timeout", ValueKind::Number),
    once("backends/agent", "max_parallel", ValueKind::Number),
    once("keys", "shared", ValueKind::Boolean),
    once("keys", "folder", ValueKind::Path),
    once("keys/key", "file", ValueKind::Path),
    once("keys/key", "old_file", ValueKind::Path),
    once("keys/key", "uuid", ValueKind::Text),
    once("groups/group", "name", ValueKind::Text),
    KeySpec { section: "groups/group", name: "uuid", kind: ValueKind::Text, count: Count::Adds },
    KeySpec { section: "groups/group", name: "ip", kind: ValueKind::Text, count: Count::Adds },
    KeySpec { section: "groups/group", name: "source", kind: ValueKind::Text, count: Count::Adds },
    KeySpec { section: "groups/group", name: "target", kind: ValueKind::Text, count: Count::Adds },
    once("groups/group", "allow", ValueKind::Operations),
    once("groups/group", "listener", ValueKind::Listeners),
    once("groups/group", "max_power_off", ValueKind::PowerOffCap),
];

/// Sections that may be repeated.
pub(super) const REPEATABLE: [&str; 3] = ["group", "key", "agent"];

/// Keys of a section.
pub(super) fn keys(section: &str) -> impl Iterator<Item = &'static KeySpec> {
    KEYS.iter().filter(move |spec| spec.section == section)
}

/// Names of the sections in this one (`""` is the file itself), with repetitions.
pub(super) fn children(section: &str) -> impl Iterator<Item = &'static str> {
    KEYS.iter().filter_map(move |spec| match section {
        "" => spec.section.split('/').next(),
        _ => spec.section.strip_prefix(section)?.strip_prefix('/')?.split('/').next(),
    })
}

/// Finds a key of the section by name. Returns its number too: 0 for the bare
/// name of a numbered key and for all other keys.
pub(super) fn find(section: &str, name: &str) -> Option<(&'static KeySpec, u32)> {
    keys(section).find_map(|spec| {
        let head = name.get(..spec.name.len())?;
        let tail = name.get(spec.name.len()..)?;
        match (head.eq_ignore_ascii_case(spec.name), tail) {
            (true, "") => Some((spec, 0)),
            (true, _) if spec.count == Count::Numbered => Some((spec, number(tail)?)),
            _ => None,
        }
    })
}

fn number(tail: &str) -> Option<u32> {
    let plain = !tail.starts_with('0') && tail.bytes().all(|byte| byte.is_ascii_digit());
    if plain { tail.parse().ok() } else { None }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_of_a_section_are_unique_and_in_lower_case() {
        for (i, spec) in KEYS.iter().enumerate() {
            let is_same = |other: &KeySpec| (other.section, other.name) == (spec.section, spec.name);
            assert!(!KEYS[i + 1..].iter().any(is_same));
            assert_eq!(spec.name, spec.name.to_lowercase());
        }
    }

    #[test]
    fn sections_come_from_the_table() {
        let unique = |section| {
            let mut names: Vec<_> = children(section).collect();
            names.dedup();
            names
        };
        assert_eq!(unique(""), ["fence_virtd", "listeners", "backends", "keys", "groups"]);
        assert_eq!(unique("listeners"), ["multicast", "serial", "tcp", "vsock"]);
        assert_eq!([unique("groups"), unique("keys"), vec!["agent"]].concat(), REPEATABLE);
        assert_eq!(unique("backends"), ["libvirt", "cpg", "agent"]);
        assert_eq!(children("listeners/tcp").count(), 0);
        assert_eq!(children("listen").count(), 0);
    }

    #[test]
    fn keys_are_found_without_regard_to_case() {
        let found = |name| find("backends/libvirt", name).map(|(spec, number)| (spec.name, number));
        assert_eq!(found("URI"), Some(("uri", 0)));
        assert_eq!(found("Uri12"), Some(("uri", 12)));
        for unknown in ["uri0", "uri01", "uri-1", "uri99999999999", "ur", "é", "urié"] {
            assert_eq!(found(unknown), None, "{unknown}");
        }
        assert_eq!(find("listeners/serial", "uri1"), None);
    }
}
