//! Agent binary; argv\[0\] selects fence_xvm or fence_virt.
#![forbid(unsafe_code)]

fn main() -> std::process::ExitCode {
    fence_virt::client::run()
}
