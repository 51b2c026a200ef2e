//! `fence_virtd`, the host daemon.
#![forbid(unsafe_code)]

fn main() -> std::process::ExitCode {
    fence_virt::daemon::run()
}
