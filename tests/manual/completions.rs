//! Completions of bash and zsh compared with the options of the programs.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::process::{Command, Output};

use crate::common::{Dir, program_installed, require};
use crate::programs::Program;

/// Bash script that completes the last of its arguments as bash does.
const UNDER_BASH: &str = "source \"$1\"; shift; COMP_WORDS=(\"$@\"); COMP_CWORD=$(($# - 1)); \
    spec=$(complete -p \"$1\") || exit; spec=${spec#*-F }; \"${spec%% *}\"; printf '%s\\n' \"${COMPREPLY[@]}\"";

/// Zsh script that prints the options which a completion passes to `_arguments`.
const UNDER_ZSH: &str = "_arguments() { print -rl -- \"$@\" }; service=$2; source \"$1\"";

fn path(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("completions").join(name)
}

fn bash_file(program: Program) -> PathBuf {
    path(if program == Program::Daemon { "fence_virtd.bash" } else { "fence_xvm.bash" })
}

fn zsh_file(program: Program) -> PathBuf {
    path(if program == Program::Daemon { "_fence_virtd" } else { "_fence_xvm" })
}

fn lines(output: Output) -> BTreeSet<String> {
    assert!(output.status.success() && output.stderr.is_empty(), "{output:?}");
    String::from_utf8(output.stdout)
        .unwrap()
        .lines()
        .filter(|line| !line.is_empty())
        .map(str::to_owned)
        .collect()
}

/// Words that bash offers for the last of `words`.
fn offered(program: Program, words: &[&str]) -> BTreeSet<String> {
    let mut command = Command::new("bash");
    command
        .args(["--norc", "-c", UNDER_BASH, "bash"])
        .arg(bash_file(program))
        .arg(program.name())
        .args(words);
    lines(command.output().unwrap())
}

fn set(words: &[&str]) -> BTreeSet<String> {
    words.iter().map(|word| word.to_string()).collect()
}

#[test]
fn bash_offers_every_option_and_no_other() {
    require!(program_installed("bash"));
    for program in Program::ALL {
        let check = Command::new("bash").arg("-n").arg(bash_file(program)).output().unwrap();
        assert_eq!(lines(check), BTreeSet::new());
        let options: BTreeSet<String> = super::options(program).into_iter().flatten().collect();
        assert_eq!(offered(program, &["-"]), options, "{}", program.name());
        assert_eq!(offered(program, &["--vers"]), set(&["--version"]), "{}", program.name());
    }
}

#[test]
fn bash_offers_the_values_of_options() {
    require!(program_installed("bash"));
    let hashes = ["none", "sha1", "sha256", "sha512", "hmac-sha256"];
    for program in Program::AGENTS {
        assert_eq!(offered(program, &["-o", ""]), program.actions());
        assert_eq!(offered(program, &["-n", "x", "-o", "r"]), set(&["reboot"]));
        assert_eq!(
            offered(program, &["--action", "=", "stat"]),
            set(&["status"]),
            "as bash splits --action=stat"
        );
        assert_eq!(offered(program, &["--action", "="]), program.actions(), "as bash splits --action=");
        for (option, count) in [("-c", 5), ("--hash", 5), ("-C", 4), ("--auth", 4)] {
            assert_eq!(offered(program, &[option, ""]), set(&hashes[..count]), "{option}");
        }
        for option in ["-n", "-H", "--plug", "--port", "--domain"] {
            assert_eq!(offered(program, &[option, ""]), BTreeSet::new(), "the VMs are not asked for");
        }
    }
    assert_eq!(offered(Program::Xvm, &["-i", ""]), set(&["auto", "ipv4", "ipv6"]));
    // Options are not offered for the value of an option.
    for program in Program::AGENTS {
        for (name, _) in program.parameters().iter().filter(|(name, _)| !is_switch(name)) {
            let words = offered(program, &[&format!("--{}", name.replace('_', "-")), "--"]);
            assert_eq!(words, BTreeSet::new(), "{} {name}", program.name());
        }
    }
}

/// Returns true if the value of an option is optional or absent.
fn is_switch(name: &str) -> bool {
    ["debug", "use_uuid", "vsock"].contains(&name)
}

#[test]
fn bash_offers_files_where_files_belong() {
    require!(program_installed("bash"));
    let dir = Dir::new();
    let file = dir.write("a file.conf", "").display().to_string();
    let start = dir.path("a").display().to_string();
    for (program, options) in [
        (Program::Daemon, vec!["-f", "--config", "-p", "--pid-file"]),
        (Program::Xvm, vec!["-k", "--key-file"]),
        (Program::Virt, vec!["-k", "--key-file", "-D", "--serial-device"]),
    ] {
        for option in options {
            assert_eq!(offered(program, &[option, &start]), set(&[&file]), "{option}");
        }
    }
}

#[test]
fn zsh_knows_every_option_and_no_other() {
    require!(program_installed("zsh"));
    for program in Program::ALL {
        let check = Command::new("zsh").arg("-n").arg(zsh_file(program)).output().unwrap();
        assert_eq!(lines(check), BTreeSet::new());
        let mut command = Command::new("zsh");
        command.args(["-f", "-c", UNDER_ZSH, "zsh"]).arg(zsh_file(program)).arg(program.name());
        let specs = lines(command.output().unwrap());
        let offered: BTreeSet<String> = specs.iter().filter_map(|spec| option(spec)).collect();
        let options: BTreeSet<String> = super::options(program).into_iter().flatten().collect();
        assert_eq!(offered, options, "{}", program.name());
        if program != Program::Daemon {
            let spec = specs.iter().find(|spec| spec.contains(")--action=")).unwrap();
            let (_, words) = spec.rsplit_once('(').unwrap();
            assert_eq!(set(&words.trim_end_matches(')').split(' ').collect::<Vec<_>>()), program.actions());
        }
    }
}

/// Option in a specification such as `(-f --config)--config=[text]:message:action`.
fn option(spec: &str) -> Option<String> {
    let spec = spec.split_once(')').filter(|_| spec.starts_with('(')).map_or(spec, |(_, rest)| rest);
    let (form, _) = spec.split_once('[')?;
    Some(form.trim_end_matches(['+', '=', '-']).to_owned()).filter(|form| form.len() > 1)
}
