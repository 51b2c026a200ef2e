//! Daemons that are not root's, and keys that a service manager hands to them.

use std::os::unix::fs::chown;
use std::process::Output;
use std::time::Duration;

use super::common::daemon::{Daemon, OURS};
use super::{Said, host};

/// As docs/SERVICE.md has it: a user of its own, keys that are that user's or credentials.
#[test]
fn a_daemon_as_a_user_of_its_own() {
    host("a_daemon_as_a_user_of_its_own", |host| {
        let conf = host.tcp();
        let folder = host.dir.path("");
        let script = format!(
            "chown -R 65534:65534 {0} && exec setpriv --reuid=65534 --regid=65534 --clear-groups \
             env HOME={0} XDG_RUNTIME_DIR={0} {OURS} \"$@\"",
            folder.display()
        );
        let mut command = host.namespace.command("sh");
        command.args(["-c", &script, "fence_virtd"]);
        let daemon = Daemon::ours_by(command, &host.dir, &conf);
        daemon.await_ready();
        let said = host.doctor(&conf);
        said.code(0).finding("note     daemon:", "as user id 65534", "docs/SERVICE.md").ok("key file");
        // The strict look finds nothing wrong with it either, and what is a third user's stays wrong.
        let check = |conf: &str| {
            let path = host.dir.write("check.conf", conf);
            let mut command = host.namespace.command(OURS);
            command.arg("--check").arg("-f").arg(path).arg("-p").arg(host.pid_file());
            command.output().unwrap()
        };
        let output = check(&conf);
        assert!(output.status.success(), "{output:?}");
        let other = host.dir.key("other", b'o');
        chown(&other, Some(12345), None).unwrap();
        let conf = conf.replace("/key\"", "/other\"");
        host.doctor(&conf).code(2).finding("ERROR    tcp:", "user id 12345", "chown root");
        let output = check(&conf);
        assert_eq!(output.status.code(), Some(1), "{output:?}");
    });
}

#[test]
fn keys_that_are_credentials() {
    host("keys_that_are_credentials", |host| {
        let of_unit = "/run/credentials/fence-under-test.service";
        let conf = host.tcp().replace(&host.dir.path("key").display().to_string(), &format!("{of_unit}/key"));
        let path = host.dir.write("credentials.conf", &conf);
        // A /run of its own, with the folder as a service manager makes it.
        let doctor = |mode: &str| {
            let script = format!(
                "mount -t tmpfs none /run && mkdir -p {of_unit} && cp {} {of_unit}/key &&
                 chown 12345 {of_unit}/key && chmod 0444 {of_unit}/key && chmod {mode} {of_unit} && exec {OURS} \"$@\"",
                host.dir.path("key").display()
            );
            let mut command = host.namespace.command("unshare");
            command.args(["-m", "sh", "-c", &script, "fence_virtd", "--doctor", "-f"]);
            let Output { status, stdout, .. } =
                command.arg(&path).arg("-p").arg(host.pid_file()).output().unwrap();
            let text = String::from_utf8(stdout).unwrap();
            Said { code: status.code().unwrap(), text, took: Duration::ZERO }
        };
        doctor("0550").code(0).ok(&format!("key file {of_unit}/key has 4096 bytes"));
        doctor("0555").code(2).finding("ERROR    tcp:", "mode 0555", "LoadCredential=");
        // Without the service there is none.
        host.doctor(&conf).code(0).finding(
            "note     tcp:",
            "exists only while its unit runs",
            "start the unit",
        );
    });
}
