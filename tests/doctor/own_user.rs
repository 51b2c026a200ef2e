//! Daemons that do not run as root, and keys from a service manager.

use std::os::unix::fs::chown;
use std::process::Output;
use std::time::Duration;

use super::common::daemon::{Daemon, OURS};
use super::common::require;
use super::{DoctorReport, Host};

/// Setup of docs/SERVICE.md: a dedicated user that owns the keys.
#[test]
fn a_daemon_as_a_user_of_its_own() {
    require!(Host::new()).run(|host| {
        let conf = host.tcp();
        let directory = host.dir.path("");
        let script = format!(
            "chown -R 65534:65534 {0} && exec setpriv --reuid=65534 --regid=65534 --clear-groups \
             env HOME={0} XDG_RUNTIME_DIR={0} {OURS} \"$@\"",
            directory.display()
        );
        let builder = Daemon::builder(&host.dir, &host.namespace);
        let _daemon = builder.command(&["sh", "-c", &script, "fence_virtd"]).start(&conf);
        let report = host.doctor(&conf);
        report
            .assert_code(0)
            .assert_note("daemon:", "as user id 65534", "docs/SERVICE.md")
            .assert_ok("key file");
        // The strict check accepts it too, but rejects a key of a third user.
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
        host.doctor(&conf).assert_code(2).assert_error("tcp:", "user id 12345", "chown root");
        let output = check(&conf);
        assert_eq!(output.status.code(), Some(1), "{output:?}");
    });
}

#[test]
fn keys_that_are_credentials() {
    require!(Host::new()).run(|host| {
        let of_unit = "/run/credentials/fence-under-test.service";
        let conf = host.tcp().replace(&host.dir.path("key").display().to_string(), &format!("{of_unit}/key"));
        let path = host.dir.write("credentials.conf", &conf);
        // A private /run with the directory as a service manager makes it.
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
            DoctorReport { code: status.code().unwrap(), text, took: Duration::ZERO }
        };
        doctor("0550").assert_code(0).assert_ok(&format!("key file {of_unit}/key has 4096 bytes"));
        doctor("0555").assert_code(2).assert_error("tcp:", "mode 0555", "LoadCredential=");
        // Without the service the key does not exist.
        host.doctor(&conf).assert_code(0).assert_note("tcp:", "exists only while its unit runs", "start the unit");
    });
}
