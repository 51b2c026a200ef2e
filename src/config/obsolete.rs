//! Names of older versions in files that are still in use. None of them has an effect in 4.12.1 either.

/// Key or section that an older version had: its section's path, its name in lower case, and what to do.
const OBSOLETE: [(&str, &str, &str); 9] = [
    ("backends", "checkpoint", CPG_SECTION),
    ("backends", "libvirt-qpid", CPG_SECTION),
    ("backends", "null", "that backend was for tests; remove the section"),
    ("backends/libvirt", "use_uuid", "VMs are found by name and by UUID; remove the line"),
    ("listeners/multicast", "name_mode", NAME_MODE),
    ("listeners/tcp", "name_mode", NAME_MODE),
    ("listeners/serial", "name_mode", NAME_MODE),
    ("listeners/tcp", "interface", "address selects the interface; remove the line"),
    ("groups/group", "member", "it is uuid now, which takes names and UUIDs of VMs"),
];

const CPG_SECTION: &str = "cpg took its place; write cpg { uri = \"qemu:///system\"; }";
const NAME_MODE: &str = "VMs are found by name and by UUID; remove the line";

/// Backends that older versions had, with those that do the same.
const BACKENDS: [(&str, &str); 3] = [
    ("checkpoint", "write backend = \"cpg\", which took its place, or \"libvirt\" for one host"),
    ("libvirt-qpid", "write backend = \"cpg\", which took its place, or \"libvirt\" for one host"),
    ("null", "write backend = \"libvirt\""),
];

/// Returns the end of a message about an unknown key or section; none if no older version had it.
pub(super) fn hint(path: &str, name: &str) -> Option<String> {
    let mut known = OBSOLETE.iter().filter(|(section, _, _)| *section == path);
    let found = known.find(|(_, known, _)| known.eq_ignore_ascii_case(name));
    found.map(|(_, _, remedy)| format!("; older versions had it: {remedy}"))
}

/// Returns the end of a message about an unknown backend; none if no older version had it.
pub(super) fn backend_hint(name: &str) -> Option<String> {
    let found = BACKENDS.iter().find(|(known, _)| known.eq_ignore_ascii_case(name.trim()));
    found.map(|(_, remedy)| format!("; older versions had it: {remedy}"))
}
