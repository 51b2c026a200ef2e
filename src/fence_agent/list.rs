//! Lists of VMs that agents print: `plug,alias` a line, with `list-status` a state after that.

use std::collections::BTreeMap;

use super::names::{place_uuid, plug_problem};
use crate::fence::{PowerState, Target, Uuid, is_printable};

/// Maximum length of a list, in bytes.
pub const LIST_MAX: usize = 1 << 20;

/// Maximum of VMs in a list.
const VMS_MAX: usize = 10_000;

/// VM of an agent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AgentVm {
    /// Name by which clients ask for it: its alias, or its plug if it has no other.
    pub name: String,
    /// The list's UUID, or one made of the place and the plug.
    pub uuid: Uuid,
    /// Name by which the agent is asked for it.
    pub plug: String,
    /// State by the list; none if the list does not tell.
    pub state: Option<PowerState>,
}

/// Parses what an agent printed for `list`, or, if it `has_states`, for `list-status`. VMs whose plug no agent may be
/// asked for, or whose name no client can ask for, are left out; returned second is their number.
///
/// # Errors
///
/// A sentence, if there are more than 10,000 VMs, or two with one plug.
pub fn parse_list(text: &str, place: &str, has_states: bool) -> Result<(Vec<AgentVm>, usize), String> {
    let mut vms = BTreeMap::new();
    let mut left_out = 0;
    for line in text.lines().filter(|line| !line.trim().is_empty()) {
        let Some(vm) = parse_line(line, place, has_states) else {
            left_out += 1;
            continue;
        };
        if vms.len() >= VMS_MAX {
            return Err(format!("the agent lists more than {VMS_MAX} VMs"));
        }
        if let Some(other) = vms.insert(vm.plug.clone(), vm) {
            return Err(format!("the agent lists {:?} twice", other.plug));
        }
    }
    Ok((vms.into_values().collect(), left_out))
}

fn parse_line(line: &str, place: &str, has_states: bool) -> Option<AgentVm> {
    let (line, state) = match has_states {
        true => {
            let (line, state) = line.rsplit_once(',')?;
            (line, state_of(state))
        }
        false => (line, None),
    };
    // Agents that cannot list print a notice.
    let is_notice = !line.contains(',') && line.trim().contains(' ');
    let (plug, alias) = line.split_once(',').filter(|_| !is_notice).unwrap_or((line, ""));
    let (plug, alias) = (plug.trim(), alias.trim());
    if is_notice || plug_problem(plug).is_some() {
        return None;
    }
    let (of_plug, of_alias) = (Uuid::parse(plug), Uuid::parse(alias));
    let name = match (of_plug, of_alias) {
        (None, Some(_)) => plug,
        _ if alias.is_empty() => plug,
        _ => alias,
    };
    let is_askable = Target::new(name.as_bytes()).is_ok() && name.chars().all(is_printable);
    let uuid = of_plug.or(of_alias).unwrap_or_else(|| place_uuid(place, plug));
    is_askable.then(|| AgentVm { name: name.to_owned(), uuid, plug: plug.to_owned(), state })
}

fn state_of(word: &str) -> Option<PowerState> {
    match word.trim() {
        word if word.eq_ignore_ascii_case("on") => Some(PowerState::Running),
        word if word.eq_ignore_ascii_case("off") => Some(PowerState::Off),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const UUID: &str = "0f0e0d0c-0b0a-0908-0706-050403020100";

    fn shown(text: &str, has_states: bool) -> Vec<String> {
        let (vms, left_out) = parse_list(text, "agent", has_states).unwrap();
        let state =
            |vm: &AgentVm| vm.state.map_or("?", |state| if state == PowerState::Off { "off" } else { "on" });
        let vms = vms.iter().map(|vm| format!("{} {} {}", vm.plug, vm.name, state(vm)));
        vms.chain((left_out > 0).then(|| format!("{left_out} left out"))).collect()
    }

    #[test]
    fn a_vm_has_the_name_of_its_alias() {
        assert_eq!(shown("100,web\n101,\n102\n\n", false), ["100 web ?", "101 101 ?", "102 102 ?"]);
        assert_eq!(
            shown("100,web,ON\n101,db,off\n102,x,UNKNOWN\n", true),
            ["100 web on", "101 db off", "102 x ?"]
        );
        assert_eq!(shown("100,a, b,ON", true), ["100 a, b on"], "an alias may have commas");
    }

    #[test]
    fn a_uuid_of_the_list_counts() {
        let uuid = |text: &str| parse_list(text, "agent", false).unwrap().0[0].uuid.to_string();
        assert_eq!(uuid(&format!("{UUID},web")), UUID);
        assert_eq!(uuid(&format!("web,{UUID}")), UUID);
        assert_eq!(shown(&format!("web,{UUID}"), false), ["web web ?"], "it is no name");
        assert_ne!(uuid("web,"), UUID);
    }

    #[test]
    fn vms_that_cannot_be_asked_for_are_left_out() {
        let long = "x".repeat(64);
        let text = format!("a;b,web\n100,{long}\n101,\u{202e}gpj\n-n,x\n103,db\n");
        assert_eq!(shown(&text, false), ["103 db ?", "4 left out"]);
        assert_eq!(shown("N/A", true), ["1 left out"], "agents without plugs print that");
        assert_eq!(shown("NOTICE: no list yet\na b,c", false), ["a b c ?", "1 left out"]);
    }

    #[test]
    fn a_list_with_a_plug_twice_or_without_end_is_an_error() {
        assert!(parse_list("1,a\n1,b", "agent", false).is_err());
        let endless: String = (0..=VMS_MAX).map(|number| format!("{number},\n")).collect();
        assert!(parse_list(&endless, "agent", false).is_err());
    }
}
