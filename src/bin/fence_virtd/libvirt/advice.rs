//! Advice for the administrator of a libvirt that cannot be connected to.
#![forbid(unsafe_code)]

use nix::unistd::{Uid, User, geteuid};

/// What helps if no connection to these URIs can be made, for the reason that libvirt gave for the last one.
pub(crate) fn connect_advice(uris: &[&str], reason: &str) -> String {
    advice(uris, reason, geteuid())
}

fn advice(uris: &[&str], reason: &str, user: Uid) -> String {
    if user.is_root() || !is_denied(reason) {
        return "start libvirt, or start with -w to wait for it".to_owned();
    }
    let name = User::from_uid(user).ok().flatten().map_or(format!("user id {user}"), |user| user.name);
    format!(
        "{name} may not use {}: add {name} to the group `libvirt`, or allow it by polkit \
         (docs/SERVICE.md, \"As a user of its own\")",
        uris.join(", ")
    )
}

/// True unless the reason says that nobody listens. libvirt has no number for "polkit does not allow it", and none
/// for "polkit cannot be asked" either: this side of the connection reports both as it finds them.
fn is_denied(reason: &str) -> bool {
    !["No such file or directory", "Connection refused", "does not answer", "no answer"]
        .iter()
        .any(|absent| reason.contains(absent))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_user_who_is_refused_is_told_to_ask_for_permission() {
        let root = Uid::from_raw(0);
        // No user database names it.
        let other = Uid::from_raw(4_000_000_001);
        let uris = ["qemu:///system"];
        let away = "Failed to connect socket to '/var/run/libvirt/libvirt-sock': No such file or directory";
        let refused = "Unable to get system bus connection: Could not connect";
        assert!(advice(&uris, away, other).starts_with("start libvirt"));
        assert!(advice(&uris, refused, root).starts_with("start libvirt"));
        let told = advice(&uris, refused, other);
        assert!(told.starts_with("user id 4000000001 may not use qemu:///system"), "{told}");
        assert!(told.contains("`libvirt`") && told.contains("polkit"), "{told}");
    }
}
