//! Man pages, completions and CONTRIBUTING.md compared with the programs: they
//! describe everything that exists, and nothing else.
#![allow(clippy::panic, clippy::unwrap_used, missing_docs, unreachable_pub)]

mod common;
#[path = "manual/completions.rs"]
mod completions;
#[path = "manual/keys.rs"]
mod keys;
#[path = "manual/links.rs"]
mod links;
#[path = "manual/page.rs"]
mod page;
#[path = "manual/programs.rs"]
mod programs;
#[path = "manual/variables.rs"]
mod variables;

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use common::{program_installed, require};
use page::{PAGES, Page};
use programs::Program;

/// Options of the daemon that the pages describe before they exist. The commit
/// that adds one to the daemon removes it here.
const PENDING: [&[&str]; 0] = [];

/// Options of a program, pending ones included.
fn options(program: Program) -> BTreeSet<BTreeSet<String>> {
    let mut options = program.options();
    if program == Program::Daemon {
        for pending in PENDING {
            let forms = pending.iter().map(|form| form.to_string()).collect();
            assert!(options.insert(forms), "{pending:?} is there: take it off the list PENDING");
        }
    }
    options
}

#[test]
fn the_pages_have_every_option_and_no_other() {
    for program in Program::ALL {
        assert_eq!(Page::read(program.page()).options(), options(program), "{}", program.page());
    }
}

#[test]
fn the_pages_of_the_agents_have_their_actions_and_defaults() {
    for program in Program::AGENTS {
        let page = Page::read(program.page());
        let actions = page.items_of("Cm").into_iter().filter(|item| item.section == "Actions");
        let words = actions.flat_map(|item| item.head[1..].to_vec()).filter(|word| word != ",");
        assert_eq!(words.collect::<BTreeSet<String>>(), program.actions(), "{}", page.name);

        let items = page.items_of("Fl");
        for (name, parameter) in program.parameters() {
            let long = format!("--{}", name.replace('_', "-"));
            let item = items.iter().find(|item| item.flags().contains(&long)).unwrap();
            // Each of these selects a transport, so the page gives it no default.
            let is_way = ["ipaddr", "vsock", "serial_device"].contains(&name.as_str());
            let expected = parameter.default.filter(|_| !is_way);
            assert_eq!(item.default(), expected, "{}: {long}", page.name);
        }
    }
}

/// Each example is run with an additional `-V`: a wrong option is refused
/// before `-V` takes effect.
#[test]
fn the_command_lines_in_the_pages_are_taken() {
    for name in PAGES {
        let mut tried = 0;
        for command in Page::read(name).commands() {
            let first = command.split(['|', '&', ';']).next().unwrap();
            let words: Vec<&str> = first.split_whitespace().collect();
            let Some(program) = Program::ALL.into_iter().find(|program| words[0] == program.name()) else {
                continue;
            };
            tried += 1;
            if words.iter().any(|word| PENDING.iter().any(|forms| forms.contains(word))) {
                continue;
            }
            let output = program.run(&[&words[1..], &["-V"]].concat());
            let said = String::from_utf8_lossy(&output.stdout).into_owned();
            assert!(output.status.success() && said.starts_with(program.name()), "{command}: {output:?}");
        }
        assert_eq!(tried > 0, name.ends_with(".8"), "{name} shows how the program is called");
    }
}

#[test]
fn the_page_of_the_daemon_has_every_variable_that_it_reads() {
    let mut text = String::new();
    sources(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src/bin/fence_virtd"), &mut text);
    let variable = |text: &str| text.split('"').next().unwrap_or_default().to_owned();
    let calls = ["var_os(\"", "var(\"", "variable(\""].map(|call| text.split(call).skip(1));
    let read: BTreeSet<String> = calls.into_iter().flatten().map(variable).collect();
    let items = Page::read("fence_virtd.8").items_of("Ev");
    assert_eq!(items.iter().flat_map(|item| item.after("Ev")).collect::<BTreeSet<_>>(), read);
}

/// Messages under DIAGNOSTICS: their parts, separated by `...`, occur in the sources.
#[test]
fn the_messages_in_the_pages_are_messages_of_the_agents() {
    let mut text = String::new();
    sources(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"), &mut text);
    for program in Program::AGENTS {
        let items = Page::read(program.page()).items();
        let messages: Vec<String> = items
            .iter()
            .filter(|item| item.section == "DIAGNOSTICS")
            .map(|item| item.head.join(" "))
            .collect();
        assert!(messages.len() > 2, "{}", program.page());
        for part in messages.iter().flat_map(|message| message.split("...")) {
            assert!(text.contains(part.trim()), "{}: no message has {part:?}", program.page());
        }
    }
}

/// Appends all sources under a directory, except those of tests alone.
fn sources(directory: &Path, into: &mut String) {
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            sources(&path, into);
        } else if !path.to_string_lossy().ends_with("_tests.rs") {
            *into += &fs::read_to_string(&path).unwrap();
        }
    }
}

#[test]
fn mandoc_finds_nothing_wrong() {
    require!(program_installed("mandoc"));
    let paths: Vec<PathBuf> = PAGES.iter().map(|name| page::path(name)).collect();
    let output = Command::new("mandoc").args(["-T", "lint", "-W", "warning"]).args(paths).output().unwrap();
    let said = [output.stdout, output.stderr].concat();
    assert!(output.status.success() && said.is_empty(), "{}", String::from_utf8_lossy(&said));
}
