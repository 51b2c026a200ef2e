//! Tenants of the host who give a VM at their URI the UUID or the name of another owner's VM, at the
//! other URI. VMs are defined while the daemon runs, by two libvirtds with the test driver.

use std::time::Duration;

use fence_virt::fence::Operation::{self, Off, On, Reboot, Status};
use virt::connect::Connect;
use virt::domain::Domain;

use crate::clients::{SHA, connect_from, key};
use crate::common::client::{Client, packet};
use crate::common::daemon::Daemon;
use crate::common::guests::{Socket, serial};
use crate::common::libvirtd::{Libvirtd, define, libvirtd_installed};
use crate::common::net::HOST_V4;
use crate::common::node::{NODE1, NODE2, NODE3};
use crate::common::{Dir, Missing, require, root_and_c_suite, until};
use crate::host::{AttackedHost, assert_clean_log, guest, tcp4};

const VICTIM: &str = NODE1;
/// UUID of the owner's VM that may fence the victim.
const ASKER: &str = NODE2;
/// UUID of the tenant's VM where it has not borrowed one.
const MINE: &str = NODE3;
/// Last numbers of the owner's and the tenant's addresses.
const OWNER: u8 = 65;
const TENANT: u8 = 66;

const SUCCESS: u8 = 0;
const FAILURE: u8 = 1;
const DENIED: u8 = 3;

const LIMIT: Duration = Duration::from_secs(30);

fn host() -> Result<AttackedHost, Missing> {
    root_and_c_suite()?;
    libvirtd_installed()?;
    let host = AttackedHost::with(Dir::new(), Vec::new());
    host.own(&[OWNER, TENANT]);
    Ok(host)
}

/// A libvirt URI, whose VMs exist as long as this.
struct Place<'a> {
    libvirtd: Libvirtd<'a>,
    connect: Connect,
}

impl<'a> Place<'a> {
    fn new(host: &'a AttackedHost, name: &str) -> Place<'a> {
        let libvirtd = Libvirtd::started(&host.dir, &host.pair.host, name);
        let connect = Connect::open(Some(&libvirtd.uri())).unwrap();
        Place { libvirtd, connect }
    }

    fn define(&self, name: &str, uuid: &str) -> Domain {
        define(&self.connect, name, uuid, "")
    }

    /// Words of the log for a VM of this name and UUID here.
    fn has(&self, name: &str, uuid: &str) -> String {
        format!("{name:?} ({uuid}) on {}", self.libvirtd.uri())
    }
}

/// A daemon for the owner's and the tenant's URI; the owner's VM `victim` runs.
struct SharedHost<'a> {
    host: &'a AttackedHost,
    own: Place<'a>,
    tenants: Place<'a>,
    victim: Domain,
    daemon: Daemon,
}

impl<'a> SharedHost<'a> {
    /// Starts a daemon with these groups, in which a line has the address that asks and the VMs. The owner's
    /// VMs are defined before.
    fn new(
        host: &'a mut AttackedHost,
        groups: &[(u8, &str)],
        prepare: impl Fn(&Place<'_>),
    ) -> SharedHost<'a> {
        let uri = |name: &str| Libvirtd::new(&host.dir, &host.pair.host, name).uri();
        host.uris = vec![uri("own"), uri("tenants")];
        let host = &*host;
        let [own, tenants] = ["own", "tenants"].map(|name| Place::new(host, name));
        let victim = own.define("victim", VICTIM);
        victim.create().unwrap();
        prepare(&own);
        let listeners = [host.listener("tcp", &format!("address = \"{HOST_V4}\";")), host.serial()];
        let group = |(number, uuid): &(u8, &str)| {
            format!("group {{ ip = \"{}\"; uuid = \"{uuid}\"; listener = \"tcp\"; }}\n", guest(*number))
        };
        let groups: String = groups.iter().map(group).collect();
        let lines = format!("group {{ uuid = \"asker\"; uuid = \"{VICTIM}\"; listener = \"serial\"; }}");
        let daemon = host.start(&host.conf(&listeners, &format!("groups {{ {groups} {lines} }}")));
        SharedHost { host, own, tenants, victim, daemon }
    }

    /// Verdict of a request from this address.
    fn ask(&self, number: u8, operation: Operation, vm: &str) -> u8 {
        self.host.pair.guest.inside(|| {
            let stream = connect_from(guest(number), tcp4()).unwrap();
            Client { stream, key: key(), auth: SHA }.ask(&packet(operation, vm, SHA)).unwrap()
        })
    }

    /// Id of the run of the victim; each start gives another one.
    fn run(&self) -> Option<u32> {
        self.victim.get_id()
    }

    fn victim_runs(&self) -> bool {
        self.victim.is_active().unwrap()
    }

    /// Asserts that the tenant can do nothing with the victim, by whichever of these texts.
    fn assert_denied(&self, texts: &[&str]) {
        let run = self.run();
        for operation in [Off, Reboot, On, Status] {
            for text in texts {
                assert_eq!(self.ask(TENANT, operation, text), DENIED, "{operation} {text:?}");
                assert_eq!(self.run(), run, "{operation} {text:?}: the victim was touched");
            }
        }
        assert!(self.victim_runs());
    }

    /// Asserts that the owner can fence the victim by its UUID.
    fn assert_fenced_by_its_uuid(&self) {
        assert_eq!(self.ask(OWNER, Off, VICTIM), SUCCESS);
        assert!(!self.victim_runs());
        self.victim.create().unwrap();
    }
}

/// Waits for a line of the log that has all these parts.
fn await_line(daemon: &Daemon, parts: &[&str]) {
    let is_written = || daemon.log().lines().any(|line| parts.iter().all(|part| line.contains(part)));
    until(&format!("{parts:?} in one line of the log"), LIMIT, is_written);
}

#[test]
fn a_vm_with_a_borrowed_uuid_passes_no_group_by_its_name() {
    let mut host = require!(host());
    let shared = SharedHost::new(&mut host, &[(TENANT, "mine"), (OWNER, VICTIM)], |_| ());
    let run = shared.run();
    let mine = shared.tenants.define("mine", VICTIM);
    // As long as no event has told the new VM, nothing but that one may be touched.
    until("the daemon knows both", LIMIT, || {
        let verdict = shared.ask(TENANT, Off, "mine");
        assert!(matches!(verdict, SUCCESS | DENIED), "{verdict}");
        verdict == DENIED
    });
    assert_eq!(shared.run(), run, "the victim was touched");
    let (bare, upper) = (VICTIM.replace('-', ""), VICTIM.to_uppercase());
    let texts = ["mine", "victim", VICTIM, &bare, &upper];
    shared.assert_denied(&texts);
    let both = [shared.own.has("victim", VICTIM), shared.tenants.has("mine", VICTIM)];
    for text in texts {
        let denied = format!(
            "192.0.2.66: off {text:?}: permission denied: no group lists both requester and each copy"
        );
        await_line(&shared.daemon, &[&denied, &both[0], &both[1]]);
    }
    mine.create().unwrap();
    shared.assert_denied(&texts);
    assert!(mine.is_active().unwrap());
    shared.assert_fenced_by_its_uuid();
    assert_clean_log(&shared.daemon);
}

#[test]
fn a_vm_with_a_borrowed_name_is_not_the_victim() {
    let mut host = require!(host());
    let shared = SharedHost::new(&mut host, &[(TENANT, MINE), (OWNER, VICTIM), (OWNER, "victim")], |_| ());
    shared.assert_denied(&["victim", VICTIM]);
    let mine = shared.tenants.define("victim", MINE);
    let run = shared.run();
    for operation in [Off, Reboot, On, Status] {
        for asks in [TENANT, OWNER] {
            assert_eq!(shared.ask(asks, operation, "victim"), FAILURE, "{operation}: nobody can tell which");
        }
        assert_eq!(shared.ask(TENANT, operation, VICTIM), DENIED, "{operation}");
    }
    let places = [(VICTIM, &shared.own), (MINE, &shared.tenants)];
    let [one, other] = places.map(|(uuid, place)| format!("{uuid} on {}", place.libvirtd.uri()));
    for asks in [TENANT, OWNER] {
        await_line(&shared.daemon, &[&format!("{}: off \"victim\": failure: ", guest(asks)), &one, &other]);
    }
    mine.create().unwrap();
    assert_eq!(shared.ask(TENANT, Off, MINE), SUCCESS, "his own VM");
    assert!(!mine.is_active().unwrap());
    assert_eq!(shared.run(), run, "the victim was touched");
    shared.assert_fenced_by_its_uuid();
    assert_clean_log(&shared.daemon);
}

#[test]
fn a_vm_that_asks_is_not_known_by_a_name_that_is_borrowed_or_has_borrowed_its_uuid() {
    let mut host = require!(host());
    let [mut asker, mut tenants] = ["asker", "tenants-line"].map(|name| Socket::bind(host.dir.path(name)));
    let devices = serial(&asker.path);
    let shared = SharedHost::new(&mut host, &[(OWNER, VICTIM)], |own| {
        define(&own.connect, "asker", ASKER, &devices).create().unwrap();
    });
    asker.accept();
    assert_eq!(asker.ask(Off, VICTIM), SUCCESS);
    shared.victim.create().unwrap();
    for (name, uuid) in [("asker", MINE), ("mine", ASKER)] {
        let mine = define(&shared.tenants.connect, name, uuid, &serial(&tenants.path));
        mine.create().unwrap();
        tenants.accept();
        let run = shared.run();
        let [theirs, own] = [&mut tenants, &mut asker].map(|line| line.ask(Off, VICTIM));
        for verdict in [theirs, own] {
            assert!(matches!(verdict, FAILURE | DENIED), "{name} ({uuid}): {theirs} {own}");
        }
        assert_eq!(shared.run(), run, "{name} ({uuid}): the victim was touched");
        let borrower = match name {
            "mine" => shared.tenants.has("mine", ASKER),
            _ => format!("{MINE} on {}", shared.tenants.libvirtd.uri()),
        };
        await_line(&shared.daemon, &[&format!("asker ({ASKER}): off \"{VICTIM}\": "), &borrower]);
        mine.destroy().unwrap();
        tenants.await_end();
        mine.undefine().unwrap();
        until("the owner's VM is known by its name again", LIMIT, || asker.ask(Status, VICTIM) == SUCCESS);
    }
    assert_eq!(asker.ask(Off, VICTIM), SUCCESS);
    assert!(!shared.victim_runs());
    assert_clean_log(&shared.daemon);
}
