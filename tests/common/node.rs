//! Hosts of libvirt's test driver, described by files.

use super::Dir;

pub const RUNNING: u8 = 1;
pub const PAUSED: u8 = 3;
pub const OFF: u8 = 5;
pub const CRASHED: u8 = 6;

/// VM of a test host.
pub struct Vm {
    pub name: &'static str,
    pub uuid: &'static str,
    pub state: u8,
    pub transient: bool,
}

pub const NODE1: &str = "11111111-aaaa-4111-8111-111111111111";
pub const NODE2: &str = "22222222-bbbb-4222-8222-222222222222";
pub const NODE3: &str = "33333333-cccc-4333-8333-333333333333";

pub fn vm(name: &'static str, uuid: &'static str, state: u8) -> Vm {
    Vm { name, uuid, state, transient: false }
}

/// Writes the file of a host with these VMs and returns its URI.
pub fn node(dir: &Dir, name: &str, vms: &[Vm]) -> String {
    let domain = |vm: &Vm| domain(vm.name, vm.uuid, vm.state, vm.transient);
    write(dir, name, &vms.iter().map(domain).collect::<String>())
}

/// Host with these VMs, each with devices in XML.
pub fn node_with_devices(dir: &Dir, name: &str, vms: &[(Vm, String)]) -> String {
    let domain = |(vm, devices): &(Vm, String)| {
        let devices = format!("<devices>{devices}</devices><test:runstate>");
        domain(vm.name, vm.uuid, vm.state, vm.transient).replace("<test:runstate>", &devices)
    };
    write(dir, name, &vms.iter().map(domain).collect::<String>())
}

/// Host with many VMs, vm0, vm1, ..., all off.
pub fn crowd(dir: &Dir, name: &str, count: usize) -> String {
    let domain =
        |at: usize| domain(&format!("vm{at}"), &format!("{at:08x}-aaaa-4aaa-8aaa-aaaaaaaaaaaa"), OFF, false);
    write(dir, name, &(0..count).map(domain).collect::<String>())
}

/// Host with a running VM for each of these devices, vm0, vm1, ...
pub fn crowd_with_lines(dir: &Dir, name: &str, devices: impl Iterator<Item = String>) -> String {
    let domain = |(at, devices): (usize, String)| {
        let devices = format!("<devices>{devices}</devices><test:runstate>");
        domain(&format!("vm{at}"), &format!("{at:08x}-aaaa-4aaa-8aaa-aaaaaaaaaaaa"), RUNNING, false)
            .replace("<test:runstate>", &devices)
    };
    write(dir, name, &devices.enumerate().map(domain).collect::<String>())
}

fn domain(name: &str, uuid: &str, state: u8, transient: bool) -> String {
    let transient = if transient { "<test:transient/>" } else { "" };
    format!(
        "<domain type='test'><name>{name}</name><uuid>{uuid}</uuid><memory>65536</memory><vcpu>1</vcpu>\
         <os><type>hvm</type></os>{transient}<test:runstate>{state}</test:runstate></domain>\n"
    )
}

fn write(dir: &Dir, name: &str, domains: &str) -> String {
    let head = "<node xmlns:test='http://libvirt.org/schemas/domain/test/1.0'>";
    let path = dir.write(name, &format!("{head}\n{domains}</node>\n"));
    format!("test://{}", path.display())
}
