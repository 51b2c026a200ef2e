//! `fence_virt` and `fence_xvm`, the agents: which of them, says its name.
#![forbid(unsafe_code)]

fn main() -> std::process::ExitCode {
    fence_virt::client::run()
}
