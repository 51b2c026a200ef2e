//! Serial line settings and locking of our agent, beside the C agent.
#![allow(clippy::panic, clippy::unwrap_used)]

mod common;

use std::fs::{self, File};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use common::agent::{AgentRun, OURS, VIRT};
use common::line::{LinePeer, Pty, on_line, response, run};
use common::{Dir, require, root_and_c_suite, until};

const LIMIT: Duration = Duration::from_secs(30);

#[test]
fn what_is_no_serial_line_is_named() {
    require!(root_and_c_suite());
    let dir = Dir::new();
    let file = dir.write("file", "");
    for (path, words) in [
        (Path::new("/dev/null"), "/dev/null is not a serial line"),
        (&file, "not a character device"),
        (Path::new("/dev/no-such-line"), "/dev/no-such-line: No such file"),
    ] {
        let ran = run(&mut on_line(&dir, OURS, path), "-o off -n node1 -t 5");
        assert_eq!(ran.code, 1, "{ran:?}");
        assert!(ran.stderr.contains(words), "{ran:?}");
    }
}

/// LD_PRELOAD library that logs calls on the line: a pty has neither modem
/// lines nor parity, and does not record requests.
const SHIM: &str = r#"
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <termios.h>
#include <time.h>

static void note(const char *what, int lines) {
    FILE *log = fopen(getenv("SHIM_LOG"), "a");
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    fprintf(log, "%s %d %lld\n", what, lines, now.tv_sec * 1000LL + now.tv_nsec / 1000000);
    fclose(log);
}

int tcsetattr(int fd, int when, const struct termios *t) {
    FILE *log = fopen(getenv("SHIM_LOG"), "a");
    fprintf(log, "termios %o %o %o %o\n", t->c_iflag, t->c_oflag, t->c_cflag, t->c_lflag);
    fclose(log);
    int (*next)(int, int, const struct termios *) = dlsym(RTLD_NEXT, "tcsetattr");
    return next(fd, when, t);
}

int ioctl(int fd, unsigned long request, ...) {
    va_list list;
    va_start(list, request);
    void *argument = va_arg(list, void *);
    va_end(list);
    if (request == TIOCMGET) {
        *(int *)argument = 0x166;
        note("get", 0x166);
        return 0;
    }
    if (request == TIOCMSET) {
        note("set", *(int *)argument);
        return 0;
    }
    int (*next)(int, unsigned long, ...) = dlsym(RTLD_NEXT, "ioctl");
    return next(fd, request, argument);
}
"#;

/// Runs an agent with the shim and returns the lines of its log.
fn shimmed(dir: &Dir, agent: &str, params: &str) -> Vec<String> {
    let library = dir.path("shim.so");
    if !library.exists() {
        let source = dir.write("shim.c", SHIM);
        let built = Command::new("cc")
            .args(["-shared", "-fPIC", "-o"])
            .arg(&library)
            .arg(source)
            .arg("-ldl")
            .status();
        assert!(built.unwrap().success());
    }
    let pty = Pty::new();
    let peer = LinePeer::new(pty.peer_end(), |_| response(0));
    let log = dir.path(&common::unique());
    let mut command = on_line(dir, agent, &pty.path);
    command.env("LD_PRELOAD", &library).env("SHIM_LOG", &log);
    let ran = run(&mut command, &format!("-P {params} -o status -n node1 -t 20"));
    assert_eq!(ran.code, 0, "{agent} {params}: {ran:?}");
    drop(peer);
    fs::read_to_string(log).unwrap().lines().map(str::to_owned).collect()
}

#[test]
fn the_line_is_set_as_the_c_agent_sets_it() {
    require!(root_and_c_suite());
    let dir = Dir::new();
    let set = |agent, params| shimmed(&dir, agent, params)[0].clone();
    for params in ["115200,8N1", "9600", "2400,7E2", "19200,5o1", "38400,6N2", "57600,8e1"] {
        assert_eq!(set(OURS, params), set(VIRT, params), "{params}");
    }
    // The C agent does not support these speeds and parities.
    let control = libc::CREAD | libc::CLOCAL | libc::CRTSCTS | libc::CS7 | libc::PARENB | libc::CMSPAR;
    let mark = control | libc::B4000000 | libc::PARODD;
    assert_eq!(set(OURS, "4000000,7M1"), format!("termios 0 0 {mark:o} 0"));
    assert_eq!(set(OURS, "300,7S1"), format!("termios 0 0 {:o} 0", control | libc::B300));
}

#[test]
fn modem_lines_are_dropped_once_and_left_as_they_were() {
    require!(root_and_c_suite());
    let dir = Dir::new();
    let told = [OURS, VIRT].map(|agent| {
        let lines = shimmed(&dir, agent, "115200,8N1");
        let words: Vec<Vec<&str>> = lines[1..].iter().map(|line| line.split(' ').collect()).collect();
        let at = |line: usize| words[line][2].parse::<u64>().unwrap();
        assert!(at(2) - at(1) >= 300, "{agent}: {lines:?}");
        words.iter().map(|words| words[..2].join(" ")).collect::<Vec<_>>()
    });
    assert_eq!(told[0], ["get 358", "set 0", "set 358"]);
    assert_eq!(told[0], told[1]);
}

#[test]
fn a_line_has_one_agent_at_a_time() {
    require!(root_and_c_suite());
    let dir = Dir::new();
    let pty = Pty::new();
    let line = File::options().read(true).write(true).open(&pty.path).unwrap();
    fence_virt::sys::file_lock::lock(&line, fence_virt::time::Instant::now() + LIMIT).unwrap();
    let ran = run(&mut on_line(&dir, OURS, &pty.path), "-o off -n node1 -t 1");
    assert_eq!(ran.code, 1);
    assert!(ran.stderr.contains("timed out after 1 s: another agent uses the serial line"), "{ran:?}");
    // A waiting agent gets the line when it is released.
    let peer = LinePeer::new(pty.peer_end(), |_| response(0));
    let child = on_line(&dir, OURS, &pty.path)
        .args(["-d", "-o", "off", "-n", "node1", "-t", "20"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let tasks = format!("/proc/{}/task", child.id());
    until("it waits in a thread", LIMIT, || fs::read_dir(&tasks).is_ok_and(|tasks| tasks.count() == 2));
    assert_eq!(peer.count(), 0);
    drop(line);
    let ran = AgentRun::from(child.wait_with_output().unwrap());
    assert_eq!(ran.code, 0, "{ran:?}");
}
