//! Checks for a multicast listener.

use std::net::SocketAddr;

use super::network::{self, Nic};
use crate::port_owner::{self, Protocol, SocketOwner};
use crate::problem::Problem;
use crate::tools::finding::{Finding, Level, listed};
use fence_virt::config::MulticastConfig;
use fence_virt::fence::ListenerName;
use fence_virt::sys::error_text;
use fence_virt::sys::multicast::MulticastSocket;

/// Facts about the host.
#[derive(Debug)]
pub(super) struct MulticastFacts {
    nics: Result<Vec<Nic>, String>,
    /// The configured interface, if it exists.
    chosen: Option<Nic>,
    /// Result of binding the port: on failure, the reason and the owners of the port.
    socket: Result<(), (String, Vec<SocketOwner>)>,
    has_route: Option<bool>,
    /// Severity of a missing interface.
    absence: Level,
}

/// Inspects the host. The socket joins no group and is closed at once.
pub(super) fn inspect(config: &MulticastConfig, absence: Level) -> MulticastFacts {
    let nics = network::nics().map_err(|error| error_text(&error));
    let name = config.interface.as_deref();
    let chosen = name.and_then(|name| network::find(nics.as_deref().unwrap_or_default(), name).cloned());
    let address = SocketAddr::new(config.address, config.port);
    let socket = MulticastSocket::bind(config.address, config.port).map(drop);
    let socket = socket
        .map_err(|error| (error_text(&error), port_owner::owners_if_taken(&error, Protocol::Udp, address)));
    MulticastFacts { nics, chosen, socket, has_route: network::has_route(config.address), absence }
}

pub(super) fn judge(name: &ListenerName, config: &MulticastConfig, facts: &MulticastFacts) -> Vec<Finding> {
    let mut findings = Vec::new();
    if let Err((reason, owners)) = &facts.socket {
        let what = format!("cannot listen on {} port {}: {reason}", config.address, config.port);
        let by = if owners.is_empty() { String::new() } else { format!(" by {}", listed(owners)) };
        let remedy = format!(
            "if the port is in use{by}, stop that process, or choose another `port` here and in the agents"
        );
        findings.push(Finding::error(name, what, remedy));
    }
    match (&facts.nics, &config.interface, &facts.chosen) {
        (Err(reason), ..) => {
            let what = format!("cannot list the interfaces of this host: {reason}");
            findings.push(Finding::warning(name, what, "`ip -br link` shows them; run this as root"));
        }
        (Ok(nics), Some(wanted), None) => findings.push(absent(name, wanted, nics, facts.absence)),
        (Ok(_), Some(_), Some(nic)) => findings.extend(judge_chosen(name, config, nic)),
        (Ok(nics), None, _) => findings.extend(judge_all(name, nics)),
    }
    if config.interface.is_none() && facts.has_route == Some(false) {
        let what = format!(
            "this host has no route to {}: requests of guests still arrive, but agents on this host need -I",
            config.address
        );
        let remedy = format!("if you need one: `ip route add {} dev INTERFACE`", config.address);
        findings.push(Finding::note(name, what, remedy));
    }
    findings
}

fn absent(name: &ListenerName, wanted: &str, nics: &[Nic], level: Level) -> Finding {
    let start = match level {
        Level::Error => {
            "no requests are received, and a daemon that does not wait for it (-w) does not start"
        }
        _ => "no requests are received until it exists",
    };
    let there = listed(nics.iter().filter(|nic| nic.receives_multicast()).map(|nic| &nic.name));
    let what = format!("this host has no interface {wanted}: {start}");
    let remedy = format!(
        "set `interface` to the bridge of the guests (available: {there}), or create the interface; wait_for_init = \"1\" waits for it"
    );
    Finding::of(level, name, Problem::new(what, remedy))
}

fn judge_chosen(name: &ListenerName, config: &MulticastConfig, nic: &Nic) -> Vec<Finding> {
    let mut findings = Vec::new();
    let shown = &nic.name;
    if let Some(bridge) = &nic.bridge {
        // The other checks apply to the bridge.
        let what = format!(
            "{shown} is a port of the bridge {bridge}, which receives the requests: none arrive on {shown}"
        );
        return vec![Finding::error(name, what, format!("set interface = \"{bridge}\";"))];
    }
    if !nic.is_up {
        let what = format!("interface {shown} is down: no requests are received");
        findings.push(Finding::error(name, what, format!("run `ip link set {shown} up`")));
    }
    if !nic.can_multicast && !nic.is_loopback {
        let what = format!("interface {shown} has multicast disabled: no requests are received");
        let remedy = format!("run `ip link set {shown} multicast on`, or choose another `interface`");
        findings.push(Finding::error(name, what, remedy));
    }
    if !nic.has_address_like(config.address) {
        let family = if config.address.is_ipv4() { "IPv4" } else { "IPv6" };
        let what = format!("interface {shown} has no {family} address, which callbacks to guests need");
        let remedy = format!("give it one: `ip address add ADDRESS/LENGTH dev {shown}`");
        findings.push(Finding::warning(name, what, remedy));
    }
    findings.extend(nic.snooping.clone().map(|problem| Finding::of(Level::Warning, name, problem)));
    if findings.is_empty() {
        findings.push(Finding::ok(name, format!("{} can be received on {shown}", config.address)));
    }
    findings
}

fn judge_all(name: &ListenerName, nics: &[Nic]) -> Vec<Finding> {
    let hearing: Vec<&Nic> = nics.iter().filter(|nic| nic.receives_multicast()).collect();
    let mut findings = vec![if hearing.iter().any(|nic| !nic.is_loopback) {
        let names = listed(hearing.iter().map(|nic| &nic.name));
        Finding::ok(name, format!("requests can be received on {names}"))
    } else {
        let what = "no interface except the loopback is up with multicast enabled: no requests of guests are received";
        Finding::warning(name, what, "set up the bridge of the guests: `ip link set BRIDGE up`")
    }];
    let snooping = hearing.iter().filter_map(|nic| nic.snooping.clone());
    findings.extend(snooping.map(|problem| Finding::of(Level::Warning, name, problem)));
    findings
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tools::finding::{auth, shown};

    fn nic(name: &str) -> Nic {
        let name = name.to_owned();
        Nic { name, is_up: true, can_multicast: true, has_v4: true, has_v6: true, ..Nic::default() }
    }

    fn judged(
        interface: Option<&str>,
        nics: Vec<Nic>,
        change: impl Fn(&mut MulticastFacts),
    ) -> Vec<(Level, String)> {
        let interface = interface.map(str::to_owned);
        let config = MulticastConfig { auth: auth(), address: [225, 0, 0, 12].into(), port: 1229, interface };
        let chosen = nics.iter().find(|nic| Some(&nic.name) == config.interface.as_ref()).cloned();
        let has_route = Some(true);
        let mut facts =
            MulticastFacts { nics: Ok(nics), chosen, socket: Ok(()), has_route, absence: Level::Error };
        change(&mut facts);
        shown(judge(&ListenerName::new("multicast", None), &config, &facts))
    }

    fn one(interface: Option<&str>, nics: Vec<Nic>, level: Level, words: &str) {
        let found = judged(interface, nics, |_| ());
        assert_eq!(found.len(), 1, "{found:?}");
        assert!(found[0].0 == level && found[0].1.contains(words), "{words:?} in {found:?}");
    }

    #[test]
    fn an_interface_that_receives_is_ok() {
        one(Some("br0"), vec![nic("br0")], Level::Ok, "on br0");
        one(None, vec![nic("br0"), Nic { is_up: false, ..nic("br1") }], Level::Ok, "on br0");
    }

    #[test]
    fn an_interface_that_receives_nothing_is_an_error() {
        let br0 = || nic("br0");
        one(Some("br9"), vec![br0()], Level::Error, "available: br0");
        one(Some("br0"), vec![Nic { is_up: false, ..br0() }], Level::Error, "ip link set br0 up");
        one(Some("br0"), vec![Nic { can_multicast: false, ..br0() }], Level::Error, "multicast on");
        let port = Nic { bridge: Some("br1".into()), has_v4: false, ..br0() };
        one(Some("br0"), vec![port], Level::Error, "interface = \"br1\"");
        let lo = Nic { is_loopback: true, can_multicast: false, ..nic("lo") };
        one(Some("lo"), vec![lo.clone()], Level::Ok, "on lo");
        one(None, vec![lo], Level::Warning, "no requests of guests");
    }

    #[test]
    fn partial_problems_are_warnings() {
        one(Some("br0"), vec![Nic { has_v4: false, ..nic("br0") }], Level::Warning, "no IPv4 address");
        let snoops = || Nic { snooping: Some(Problem::new("it snoops", "stop it")), ..nic("br0") };
        one(Some("br0"), vec![snoops()], Level::Warning, "it snoops / stop it");
        let found = judged(None, vec![snoops()], |_| ());
        assert_eq!(found.iter().map(|found| found.0).collect::<Vec<_>>(), [Level::Ok, Level::Warning]);
        let found = judged(Some("br9"), vec![nic("br0")], |facts| facts.absence = Level::Warning);
        assert!(found[0].0 == Level::Warning && found[0].1.contains("until it exists"), "{found:?}");
    }

    #[test]
    fn a_taken_port_and_a_missing_route() {
        let owner = SocketOwner { pid: 7, program: "other".into() };
        let taken = |facts: &mut MulticastFacts| facts.socket = Err(("in use".into(), vec![owner.clone()]));
        let found = judged(Some("br0"), vec![nic("br0")], taken);
        assert!(found[0].0 == Level::Error && found[0].1.contains("by other (process 7)"), "{found:?}");
        let found = judged(None, vec![nic("br0")], |facts| facts.has_route = Some(false));
        assert!(found[1].0 == Level::Note && found[1].1.contains("ip route add"), "{found:?}");
    }
}
