//! Output of the status: to whom, in which form, and whose.

use std::io::{BufRead, BufReader, Read};
use std::os::fd::AsFd;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use nix::pty::openpty;

use super::common::agent::{Programs, run_on_stdin};
use super::common::daemon::OURS;
use super::common::libvirtd::{Libvirtd, libvirtd_installed};
use super::common::{Suite, require, until};
use super::{LIMIT, StatusHarness};

/// Child that is killed when dropped.
struct Killed(Child);

impl Drop for Killed {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl StatusHarness {
    fn asking(&self, conf: &Path, args: &[&str]) -> Command {
        let mut command = self.pair.host.command(OURS);
        command.args(args).arg("-f").arg(conf);
        command
    }

    /// Writes the status to a file, and returns the exit code and what is in the file.
    fn textfile(&self, conf: &Path) -> (Option<i32>, String) {
        let path = self.dir.path("fence_virtd.prom");
        let mut command = self.asking(conf, &["--status", "--textfile", path.to_str().unwrap()]);
        let code = command.output().unwrap().status.code();
        (code, std::fs::read_to_string(&path).unwrap())
    }
}

#[test]
fn the_report_tells_whose_it_is() {
    let harness = require!(StatusHarness::new());
    let daemon = harness.daemon("test:///default");
    let (_, text) = harness.status(&daemon, &[]);
    let programs = Programs::of(Suite::Ours, &harness.dir);
    let mut agent = Command::new(&programs.xvm);
    agent.arg("--key-fingerprint").arg("-k").arg(harness.dir.path("key"));
    let printed = run_on_stdin(agent, "");
    let fingerprint = printed.stdout.split_whitespace().next().unwrap_or_default().to_owned();
    assert_eq!(fingerprint.len(), 8, "{printed:?}");
    for words in [
        &format!("pid {}, up ", daemon.pid()),
        &format!("configuration: {}\n", daemon.conf().display()),
        &format!("listener tcp: listening: 192.0.2.1 port 1229, key {fingerprint}; 0 open\n"),
    ] {
        assert!(text.contains(words), "{words} in {text}");
    }
    let (_, json) = harness.status(&daemon, &["--json"]);
    assert!(json.contains(&format!("\"key_fingerprint\":\"{fingerprint}\"")), "{json}");
}

#[test]
fn the_daemon_of_another_configuration_does_not_answer_for_this_one() {
    let harness = require!(StatusHarness::new());
    let daemon = harness.daemon("test:///default");
    // The socket is the same, since nobody has given the second one its own.
    let conf = std::fs::read_to_string(daemon.conf()).unwrap();
    let other = harness.dir.write("other.conf", &conf);
    let words = format!("runs with the configuration {}, not with", daemon.conf().display());
    for args in [&["--status"][..], &["--status", "--json"], &["--history"]] {
        let output = harness.asking(&other, args).output().unwrap();
        let error = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.code() == Some(1) && error.contains(&words), "{args:?}: {output:?}");
        let printed = String::from_utf8_lossy(&output.stdout);
        assert!(printed.is_empty() || printed.starts_with("{\"up\":false,"), "{printed}");
    }
    // A link to the configuration of the daemon is the same configuration.
    let link = harness.dir.path("link.conf");
    std::os::unix::fs::symlink(daemon.conf(), &link).unwrap();
    assert_eq!(harness.asking(&link, &["--status"]).output().unwrap().status.code(), Some(0));
}

#[test]
fn the_textfile_is_written_whatever_the_state() {
    require!(libvirtd_installed());
    let harness = require!(StatusHarness::new());
    let libvirtd = Libvirtd::started(&harness.dir, &harness.pair.host, "one");
    let daemon = harness.daemon(&libvirtd.uri());
    let conf = daemon.conf().to_owned();
    let has = |(code, text): (Option<i32>, String), expected: i32, lines: &[&str]| {
        assert!(text.ends_with("# EOF\n"), "{text}");
        code == Some(expected) && lines.iter().all(|line| text.lines().any(|found| found == *line))
    };
    assert!(has(harness.textfile(&conf), 0, &["fence_virtd_up 1", "fence_virtd_well 1"]));
    let mode = std::fs::metadata(harness.dir.path("fence_virtd.prom")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o644);
    libvirtd.freeze();
    until("the frozen libvirtd is in the file", LIMIT, || {
        has(harness.textfile(&conf), 2, &["fence_virtd_up 1", "fence_virtd_well 0"])
    });
    let (_, text) = harness.textfile(&conf);
    assert!(text.contains("fence_virtd_uri_connected{uri=") && text.contains("} 0\n"), "{text}");
    libvirtd.thaw();
    until("it is well again", LIMIT, || has(harness.textfile(&conf), 0, &["fence_virtd_well 1"]));
    drop(daemon);
    assert!(has(harness.textfile(&conf), 1, &["fence_virtd_up 0", "fence_virtd_well 0"]));
}

#[test]
fn programs_that_read_stdout_learn_that_nobody_answers() {
    let harness = require!(StatusHarness::new());
    let daemon = harness.daemon("test:///default");
    // Its connections are accepted by the kernel, and never answered.
    daemon.freeze();
    let (code, text) = harness.status(&daemon, &["--openmetrics"]);
    assert!(code == Some(1) && text.contains("fence_virtd_up 0\n"), "{text}");
    let (code, text) = harness.status(&daemon, &["--json"]);
    assert!(code == Some(1) && text.contains("{\"up\":false,\"well\":false,\"problems\":[\""), "{text}");
    assert!(text.contains("the daemon does not respond"), "{text}");
}

#[test]
fn a_watch_goes_on_when_the_daemon_goes_away() {
    let harness = require!(StatusHarness::new());
    let daemon = harness.daemon("test:///default");
    let mut command = harness.asking(daemon.conf(), &["--status", "--watch"]);
    let mut watch = Killed(command.stdout(Stdio::piped()).spawn().unwrap());
    let mut lines = BufReader::new(watch.0.stdout.take().unwrap()).lines().map(|line| line.unwrap());
    let mut next = |words: &str| lines.by_ref().find(|line| line.contains(words));
    assert!(next("no problems").is_some());
    assert_eq!(next("").as_deref(), Some(""), "a blank line between");
    assert!(next("no problems").is_some());
    daemon.stop(LIMIT);
    assert!(next("ERROR    cannot query").is_some_and(|line| line.contains("no fence_virtd is running")));
    assert!(next("ERROR    cannot query").is_some(), "it goes on");
}

#[test]
fn a_terminal_gets_colours_and_a_pipe_none() {
    let harness = require!(StatusHarness::new());
    let daemon = harness.daemon("test:///default");
    let (_, plain) = harness.status(&daemon, &[]);
    assert!(plain.ends_with("no problems\n") && !plain.contains('\u{1b}'), "{plain:?}");
    for (term, no_color, has_colours) in
        [("xterm", "", true), ("xterm", "1", false), ("dumb", "", false), ("", "", false)]
    {
        let pty = openpty(None, None).unwrap();
        let mut command = harness.asking(daemon.conf(), &["--status"]);
        command
            .env("TERM", term)
            .env("NO_COLOR", no_color)
            .stdout(pty.slave.as_fd().try_clone_to_owned().unwrap());
        assert!(command.status().unwrap().success());
        let mut buffer = [0; 4096];
        let count = std::fs::File::from(pty.master).read(&mut buffer).unwrap();
        let shown = String::from_utf8_lossy(&buffer[..count]).into_owned();
        assert!(shown.contains("no problems"), "{shown}");
        assert_eq!(shown.contains("\u{1b}[32mno problems\u{1b}[0m"), has_colours, "{term}: {shown:?}");
        drop(pty.slave);
    }
}
