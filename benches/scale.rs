//! Cost of the cluster's decisions in large clusters, in memory: messages, bytes on the ring, CPU time of
//! each node and of the longest call of a router, resident memory.
//!
//! `cargo bench --bench scale`; `-- 16 32` selects the numbers of hosts. Corosync and libvirt are not part
//! of it.
#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stdout, unreachable_pub)]

#[path = "../tests/scale/group.rs"]
mod group;
#[path = "../tests/scale/stages.rs"]
mod stages;

use std::time::Duration;

use fence_virt::wire::cluster::MESSAGE_LEN;
use group::cpu_time;
use stages::Measured;

const VMS_EACH: usize = 500;
const HOSTS: [usize; 3] = [16, 32, 64];

/// CPU time and memory of a stage.
struct Figure {
    cpu: Duration,
    /// Resident memory after it, in bytes.
    resident: usize,
}

fn main() {
    // `cargo test --all-targets` runs this too, without `--bench`.
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if !arguments.iter().any(|argument| argument == "--bench") {
        return;
    }
    let chosen: Vec<usize> = arguments.iter().filter_map(|argument| argument.parse().ok()).collect();
    let hosts = if chosen.is_empty() { HOSTS.to_vec() } else { chosen };
    for nodes in hosts {
        let before = resident();
        let stages = stages::run(nodes, VMS_EACH, |stage| {
            let began = cpu_time();
            stage();
            Figure { cpu: cpu_time() - began, resident: resident() - before }
        });
        print(nodes, &stages);
    }
}

/// Resident memory of this process, in bytes.
fn resident() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<usize>().unwrap() * 1024
}

fn print(nodes: usize, stages: &[Measured<Figure>]) {
    println!(
        "| {nodes} hosts, {VMS_EACH} VMs each | messages | on the ring | CPU, a host | longest call | memory, a host |"
    );
    println!("| --- | --- | --- | --- | --- | --- |");
    for (name, cost, figure) in stages {
        let messages = cost.total();
        let ring = mebibytes(messages * MESSAGE_LEN);
        let (cpu, longest) = (milliseconds(figure.cpu / nodes as u32), milliseconds(cost.longest));
        let memory = mebibytes(figure.resident / nodes);
        println!("| {name} | {messages} | {ring} | {cpu} | {longest} | {memory} |");
    }
    println!();
}

fn mebibytes(bytes: usize) -> String {
    format!("{:.1} MiB", bytes as f64 / 1024.0 / 1024.0)
}

fn milliseconds(time: Duration) -> String {
    format!("{:.2} ms", time.as_secs_f64() * 1e3)
}
