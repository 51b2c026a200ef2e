use super::super::args::{self, CommandLine};
use super::super::stdin;
use super::*;
use crate::fence::Operation;
use crate::sys::tty::Parity;

fn settled(agent: Agent, line: &str) -> Result<Settings, String> {
    match args::parse(agent, line.split_whitespace().map(Into::into)) {
        Ok(CommandLine::Run(options)) => Settings::new(agent, &options),
        other => panic!("{line}: {other:?}"),
    }
}

fn settings(agent: Agent, line: &str) -> Settings {
    settled(agent, line).unwrap()
}

fn refusal(agent: Agent, line: &str) -> String {
    settled(agent, line).unwrap_err()
}

use Agent::{Virt, Xvm};

#[test]
fn defaults_are_those_of_the_metadata() {
    let options = settings(Xvm, "-n vm");
    assert_eq!(options.action, AgentAction::Request(Operation::Reboot));
    assert_eq!((options.hash, options.auth), (HashKind::Sha256.into(), HashKind::Sha256));
    assert_eq!((options.timeout, options.delay), (Duration::from_secs(30), Duration::ZERO));
    assert_eq!(options.key_file, PathBuf::from("/etc/cluster/fence_xvm.key"));
    let retrans = Duration::from_secs(2);
    assert_eq!(
        options.transport,
        Transport::Multicast { group: GROUP_V4, port: 1229, interface: None, retrans }
    );
    for agent in [Xvm, Virt] {
        let default = |id| agent.options().iter().find(|option| option.id == id).and_then(|o| o.default);
        assert_eq!(default(Id::KeyFile), Some(KEY_FILE));
        assert_eq!(default(Id::ChannelAddress), (agent == Virt).then_some(CHANNEL));
        assert_eq!(default(Id::Ipport), Some("1229"));
        assert_eq!(default(Id::Timeout), Some("30"));
        assert_eq!(default(Id::Delay), Some("0"));
        assert_eq!(default(Id::Retrans), (agent == Xvm).then_some("20"));
    }
}

#[test]
fn selection_of_the_transport() {
    let transport = |line: &str| settings(Virt, &format!("-n vm {line}")).transport;
    let framing = |speed, data_bits, parity, stop_bits| Framing { speed, data_bits, parity, stop_bits };
    let tcp = Transport::Tcp { host: "h".to_owned(), port: 9 };
    assert_eq!(transport("-T h -D /dev/x -A a -p 9"), tcp);
    assert_eq!(transport("-T h -S7 -D /dev/x -A a"), Transport::Vsock { cid: 7, port: 1229 });
    assert_eq!(transport("-S7 -T h"), Transport::Vsock { cid: 7, port: 1229 });
    assert_eq!(transport("-S"), Transport::Vsock { cid: 2, port: 1229 });
    let serial = |framing| Transport::Serial { device: "/dev/x".into(), framing };
    assert_eq!(transport("-D /dev/x -A a"), serial(framing(115_200, 8, Parity::None, 1)));
    assert_eq!(transport("-D /dev/x -P 9600,7E2"), serial(framing(9600, 7, Parity::Even, 2)));
    assert_eq!(transport(""), Transport::Vmchannel { host: "10.0.2.179".to_owned(), port: 1229 });
    assert_eq!(transport("-A a -p 5"), Transport::Vmchannel { host: "a".to_owned(), port: 5 });
}

#[test]
fn the_family_follows_from_the_address() {
    let group = |line: &str| match settings(Xvm, &format!("-n vm {line}")).transport {
        Transport::Multicast { group, .. } => group,
        other => panic!("{other:?}"),
    };
    assert_eq!(group("-i ipv4"), GROUP_V4);
    assert_eq!(group("-i IPv6"), GROUP_V6);
    assert_eq!(group("-a ff02::9"), "ff02::9".parse::<IpAddr>().unwrap());
    assert_eq!(group("-a 239.1.2.3 -i ipv4"), "239.1.2.3".parse::<IpAddr>().unwrap());
    for line in ["-a 239.1.2.3 -i ipv6", "-a ff02::9 -i ipv4", "-a 192.0.2.1", "-a host", "-i ipx"] {
        assert!(settled(Xvm, &format!("-n vm {line}")).is_err(), "{line}");
    }
}

#[test]
fn invalid_values_are_refused() {
    for (agent, line, words) in [
        (Xvm, "-n vm -o destroy", "Unrecognised action"),
        (Xvm, "-n vm -o stauts", "Unrecognised action \"stauts\"; did you mean \"status\"?"),
        (Xvm, "-n vm -o destroy", "must be one of null, on, off, reboot"),
        (Xvm, "-n vm -c sha-256", "sha1, sha256, sha512, hmac-sha256; did you mean \"sha256\"?"),
        (Xvm, "-n vm -t 0", "timeout (-t) \"0\": must be a number of 1 or more"),
        (Xvm, "-n vm -t 3s", "timeout"),
        (Xvm, "-n vm -w x", "delay"),
        (Xvm, "-n vm -r 0", "retransmit"),
        (Xvm, "-n vm -p 65536", "port"),
        (Xvm, "-n vm -p 0", "port"),
        (Xvm, "-n vm -c md5", "hash"),
        (Xvm, "-n vm -C md5", "auth"),
        (Xvm, "-n vm -n other", "two different VMs"),
        (Xvm, "-n vm -H other", "two different VMs"),
        (Virt, "-n vm -Sx", "CID"),
        (Virt, "-n vm -S0", "CID"),
        (Virt, "-n vm -D /dev/x -P 5", "speed"),
        (Virt, "-n vm --ipaddr=", "empty"),
        (Virt, "-n vm --key-file=", "empty"),
        (Virt, "-n vm --action=", "Unrecognised action"),
    ] {
        let refusal = refusal(agent, line);
        assert!(refusal.contains(words), "{line}: {refusal}");
    }
    assert_eq!(settings(Xvm, "-n vm -H vm").target.as_str(), "vm");
    let long = "x".repeat(64);
    let refusal = |name: &str| refusal(Xvm, &format!("-n {name}"));
    assert!(refusal(&long).contains("63 bytes") && refusal(&long).contains("use the VM's UUID"));
    assert!(refusal("\u{7}").contains("not printable") && !refusal("\u{7}").contains("63"));
    assert!(refusal(&"x".repeat(100_000)).len() < 300, "the name is cut");
}

#[test]
fn actions_that_need_a_vm_do_not_go_without() {
    for action in ["off", "on", "reboot", "status", "validate-all", "OFF"] {
        assert!(refusal(Xvm, &format!("-o {action}")).contains("no VM given"), "{action}");
    }
    for action in ["list", "list-status", "monitor", "null", "metadata"] {
        assert!(settled(Xvm, &format!("-o {action}")).is_ok(), "{action}");
    }
    assert!(refusal(Virt, "-d").contains("no VM"), "reboot is the default");
}

#[test]
fn metadata_is_printed_despite_other_errors() {
    assert_eq!(settings(Xvm, "-o metadata -t x -n a -n b").action, AgentAction::Metadata);
}

#[test]
fn switches_on_stdin() {
    let uuid = |value: &str| {
        let text = format!("plug=x\nuse_uuid={value}\n");
        Settings::new(Xvm, &stdin::parse(Xvm, text.as_bytes()).0).map(|settings| settings.is_uuid)
    };
    assert_eq!(["1", "YES", "true", "on"].map(|value| uuid(value).unwrap()), [true; 4]);
    assert_eq!(["0", "no", "False", "off", ""].map(|value| uuid(value).unwrap()), [false; 5]);
    assert!(uuid("maybe").is_err());
    let debug = |text: &str| is_debug(&stdin::parse(Xvm, text.as_bytes()).0);
    assert!(debug("debug=1") && debug("debug") && debug("debug=7") && debug("debug=yes"));
    assert!(!debug("debug=0") && !debug("plug=x"));
}
