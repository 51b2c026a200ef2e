use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use super::*;

/// A shell script, removed on drop.
struct Script(PathBuf);

impl Script {
    fn new(name: &str, text: &str) -> Script {
        let path = std::env::temp_dir().join(format!("fence-children-{}-{name}", std::process::id()));
        fs::write(&path, format!("#!/bin/sh\n{text}\n")).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        Script(path)
    }

    /// Runs it with this input and time limit.
    fn run(&self, runner: &ChildRunner, input: &str, limit: Duration) -> RunOutcome {
        loop {
            match runner.run(&self.0, None, input.to_owned(), limit) {
                // Another test's child may have the file open for writing until its exec.
                Err(reason) if reason.contains("Text file busy") => {}
                outcome => return outcome.unwrap(),
            }
        }
    }
}

impl Drop for Script {
    fn drop(&mut self) {
        fs::remove_file(&self.0).unwrap();
    }
}

const LONG: Duration = Duration::from_secs(30);
const SHORT: Duration = Duration::from_millis(200);

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).unwrap()
}

#[test]
fn a_child_is_fed_and_read() {
    let children = Children::start().unwrap();
    let script = Script::new("fed", "cat; echo warning >&2; exit 3");
    // More than a pipe holds, in both directions.
    let input = "line\n".repeat(100_000);
    let outcome = script.run(&children.runner(), &input, LONG);
    assert_eq!((outcome.end, text(&outcome.stderr)), (RunEnd::Exited(3), "warning\n"));
    assert!(text(&outcome.stdout) == input);
    drop(children);
}

#[test]
fn a_child_that_reads_nothing_and_one_that_closes_all_end_well() {
    let children = Children::start().unwrap();
    let deaf = Script::new("deaf", "exit 0");
    let input = "x".repeat(1 << 20);
    assert_eq!(deaf.run(&children.runner(), &input, LONG).end, RunEnd::Exited(0));
    let closed = Script::new("closed", "exec <&- >&- 2>&-; exit 2");
    assert_eq!(closed.run(&children.runner(), &input, LONG).end, RunEnd::Exited(2));
}

#[test]
fn a_late_child_is_terminated_and_a_stubborn_one_killed() {
    let children = Children::start().unwrap();
    let late = Script::new("late", "sleep 1000");
    let began = Instant::now();
    assert_eq!(late.run(&children.runner(), "", SHORT).end, RunEnd::Late);
    assert!(began.elapsed() < Duration::from_secs(2), "SIGTERM was enough");
    let stubborn = Script::new("stubborn", "trap '' TERM; while :; do sleep 1000; done");
    assert_eq!(stubborn.run(&children.runner(), "", SHORT).end, RunEnd::Late);
}

#[test]
fn a_flood_ends_the_child_and_does_not_grow_the_daemon() {
    let children = Children::start().unwrap();
    let flood = Script::new("flood", "exec cat /dev/zero");
    let outcome = flood.run(&children.runner(), "", LONG);
    assert_eq!(outcome.end, RunEnd::Flood);
    assert!(outcome.stdout.len() <= (1 << 20) + 1);
    let noise = Script::new("noise", "yes 1234567 | head -c 5000000 >&2; printf 12 >&2; echo done");
    let outcome = noise.run(&children.runner(), "", LONG);
    assert_eq!((outcome.end, text(&outcome.stdout)), (RunEnd::Exited(0), "done\n"));
    assert_eq!(outcome.stderr.len(), 16 << 10);
    let noise = Script::new(
        "line",
        "yes 123456789 | head -c 16000 >&2; head -c 999 /dev/zero >&2; sleep 0.2; echo x >&2",
    );
    let stderr = noise.run(&children.runner(), "", LONG).stderr;
    assert!(stderr.len() == 16_000 && stderr.ends_with(b"9\n"), "whole lines, and none after them");
}

#[test]
fn what_forks_away_holds_up_nobody() {
    let children = Children::start().unwrap();
    // In a session of its own, with the pipes open.
    let script = Script::new("away", "setsid sleep 5 & echo gone; exit 0");
    let began = Instant::now();
    let outcome = script.run(&children.runner(), "", LONG);
    assert_eq!((outcome.end, text(&outcome.stdout)), (RunEnd::Exited(0), "gone\n"));
    assert!(began.elapsed() < Duration::from_secs(4));
}

#[test]
fn many_run_at_once_and_a_stop_ends_them() {
    let children = Children::start().unwrap();
    let script = Script::new("many", "read line; sleep 1000");
    let (began, started) = bounded(8);
    std::thread::scope(|scope| {
        let runs: Vec<_> = (0..8)
            .map(|_| {
                let (runner, began, script) = (children.runner(), began.clone(), &script);
                scope.spawn(move || {
                    began.send(()).unwrap();
                    script.run(&runner, "go\n", LONG).end
                })
            })
            .collect();
        (0..8).for_each(|_| started.recv().unwrap());
        let runner = children.runner();
        drop(children);
        for run in runs {
            assert_eq!(run.join().unwrap(), RunEnd::Stopped);
        }
        assert_eq!(script.run(&runner, "", LONG).end, RunEnd::Stopped, "none is started after that");
    });
}
