//! Lists and metadata that a fence agent prints: no text causes a panic, and no VM of a list has a plug that an agent
//! must not be asked for.
#![no_main]

use fence_virt::fence::Target;
use fence_virt::fence_agent::{AgentMetadata, AgentOption, Secrets, parse_list, plug_problem};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    for has_states in [false, true] {
        let Ok((vms, _)) = parse_list(text, "agent", has_states) else { continue };
        for vm in &vms {
            assert_eq!(plug_problem(&vm.plug), None);
            assert!(Target::new(vm.name.as_bytes()).is_ok());
            assert!(text.contains(&vm.plug) && text.contains(&vm.name));
        }
    }
    if let Ok(metadata) = AgentMetadata::parse(text) {
        assert!(metadata.has_action("off") && metadata.has_action("status"));
    }
    if let Ok(option) = AgentOption::parse(text) {
        let is_secret = Secrets::is_secret(&option.name) && option.value.len() >= 3;
        let secrets = Secrets::of(&[option.clone()]);
        let shown = secrets.redact(&format!("x{}y", option.value));
        assert!(!is_secret || option.value.contains('*') || !shown.contains(&option.value));
    }
});
