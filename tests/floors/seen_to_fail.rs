//! The checks fail on small trees that are wrong, and pass on one that is right.

use crate::checks::{Checker, Layers};
use crate::tree::Sources;

const LAYERS: Layers = Layers {
    rooms: &[
        ("time", 0),
        ("low", 0),
        ("middle", 1),
        ("sys", 2),
        ("high", 2),
        ("lib", 3),
        ("fence_virtd::listener", 3),
        ("fence_virtd::watch", 3),
        ("fence_virtd::tools", 4),
        ("fence_virtd::tools::probe", 4),
        ("fence_virtd::main", 5),
    ],
    forbidden: &[("fence_virtd::listener", "fence_virtd::watch"), ("fence_virtd", "middle")],
    permitted: &[("fence_virtd::tools::probe", "middle")],
    pure_layer: 1,
    unsafe_places: &["src/sys/"],
};

fn checker(files: &[(&str, &str)]) -> Checker {
    let mut sources: Sources =
        files.iter().map(|(file, text)| ((*file).to_owned(), (*text).to_owned())).collect();
    sources
        .insert("Cargo.toml".to_owned(), "[dependencies]\nlog = \"0.4\"\nquick-xml = \"0.37\"\n".to_owned());
    Checker::new(&sources)
}

#[track_caller]
fn assert_finds(findings: &[String], parts: &[&str]) {
    let is_found = findings.iter().any(|finding| parts.iter().all(|part| finding.contains(part)));
    assert!(is_found, "no finding has {parts:?}:\n{}", findings.join("\n"));
}

#[track_caller]
fn assert_none(findings: &[String]) {
    assert!(findings.is_empty(), "{}", findings.join("\n"));
}

/// Findings about rooms without files, and all others.
fn layer_findings(checker: &Checker) -> (Vec<String>, Vec<String>) {
    checker.layers(LAYERS).into_iter().partition(|finding| finding.contains("no file"))
}

#[test]
fn a_circle_through_super_is_found() {
    let checker = checker(&[
        ("src/lib.rs", "mod low;"),
        ("src/low/mod.rs", "mod a; mod b;"),
        ("src/low/a.rs", "use super::b::B;\npub struct A(B);"),
        ("src/low/b.rs", "pub struct B;\nuse super::a as other;\nfn f(_: other::A) {}"),
    ]);
    assert_finds(
        &checker.circles(),
        &["circle of 2: src/low/a.rs, src/low/b.rs", "src/low/a.rs:1: super::b::B", "b.rs:3: other::A"],
    );
}

#[test]
fn a_circle_through_reexports_is_found() {
    let checker = checker(&[
        ("src/lib.rs", "pub mod low; pub use low::*;"),
        ("src/low/mod.rs", "mod a; mod b;\npub use a::A;\npub(crate) use self::b::{B as Renamed};"),
        ("src/low/a.rs", "use crate::{low::{Renamed, self}};"),
        ("src/low/b.rs", "use crate::A;\npub struct B;"),
        // The name is exported; the file is not part of the circle.
        ("src/low/unreached.rs", ""),
    ]);
    assert_none(&checker.circles());
    assert_finds(&checker.unresolved(), &["src/low/mod.rs:2", "pub use a::A"]);
    assert_finds(&checker.unresolved(), &["src/low/unreached.rs: no `mod` line"]);

    let checker = self::checker(&[
        ("src/lib.rs", "pub mod low; pub use low::*;"),
        ("src/low/mod.rs", "mod a; mod b;\npub use a::A;\npub(crate) use self::b::{B as Renamed};"),
        ("src/low/a.rs", "use crate::{low::{Renamed, self}};\npub struct A;"),
        ("src/low/b.rs", "use crate::A;\npub struct B;"),
    ]);
    assert_none(&checker.unresolved());
    assert_finds(
        &checker.circles(),
        &["src/low/a.rs → src/low/b.rs → src/low/a.rs", "src/low/b.rs:1: crate::A"],
    );
}

#[test]
fn a_reexport_and_an_item_beside_it_are_a_circle() {
    let checker = checker(&[
        ("src/lib.rs", "mod low;"),
        ("src/low/mod.rs", "mod a;\npub(crate) use a::A;\npub(crate) enum Shared { One }"),
        ("src/low/a.rs", "fn f() { use super::Shared::One; }\npub(crate) struct A;"),
    ]);
    assert_finds(
        &checker.circles(),
        &["src/low/a.rs:1: super::Shared::One → src/low/mod.rs", "pub use a::A"],
    );
}

#[test]
fn a_circle_through_paths_in_code_is_found() {
    let checker = checker(&[
        (
            "src/lib.rs",
            "mod a; mod b { pub fn f<'a>(_: &'a str, _: char) -> u8 { crate::c::f(0..super::a::N, '\"') } } mod c;",
        ),
        (
            "src/a.rs",
            "pub const N: u8 = self::inner::n();\nmod inner { pub const fn n() -> u8 { super::super::b::f(r#\"\"\"#) } }",
        ),
        ("src/c.rs", "/* /* crate::a::N */ */ pub fn f(n: core::ops::Range<u8>, _: char) -> u8 { n.start }"),
    ]);
    assert_none(&checker.unresolved());
    assert_finds(
        &checker.circles(),
        &["circle of 2: src/a.rs, src/lib.rs", "a.rs:2: super::super::b::f", "lib.rs:1: super::a::N"],
    );
}

#[test]
fn a_circle_through_globs_and_macros_is_found() {
    let checker = checker(&[
        ("src/lib.rs", "mod a; mod b; mod c;"),
        ("src/a.rs", "use super::b::*;\nfn f() -> Made { Made }\npub struct Back;"),
        (
            "src/b.rs",
            "macro_rules! make { () => { pub struct Made; }; }\nmake! {}\nthread_local! { pub static KEY: u8 = 0; }\npub use crate::c::*;",
        ),
        ("src/c.rs", "pub use crate::{a::Back, b::KEY};\nuse log::info;"),
    ]);
    assert_none(&checker.unresolved());
    assert_finds(
        &checker.circles(),
        &["circle of 3", "a.rs:1: super::b::* (Made)", "b.rs:4: pub use crate::c::* (Back) → src/a.rs"],
    );
}

#[test]
fn imports_of_tests_are_none() {
    let checker = checker(&[
        ("src/lib.rs", "pub mod a; pub mod b;"),
        ("src/a.rs", "use crate::b::B;\npub struct A;\n#[cfg(test)]\n#[path = \"a_tests.rs\"]\nmod tests;"),
        ("src/a_tests.rs", "use super::*;\nmod deeper;"),
        ("src/deeper.rs", ""),
        (
            "src/b.rs",
            "#[cfg(test)] use crate::a::A;\npub struct B { #[cfg(test)] a: Vec<(u8, crate::a::A)>, b: u8 }\n\
             impl B { #[cfg(all(test, unix))] fn f<X, Y>() -> Vec<X> where X: Into<Y> { crate::a::A; } }\n\
             #[cfg(test)] mod tests { struct A; use super::super::a::A as Other; }\n\
             fn g() { #[cfg(test)] let x = crate::a::A { y: 1 }; }",
        ),
    ]);
    assert_none(&checker.unresolved());
    assert_none(&checker.circles());
    assert_none(&checker.duplicate_types());
}

#[test]
fn imports_upwards_and_rooms_without_a_layer_are_found() {
    let checker = checker(&[
        ("src/lib.rs", "mod time; mod sys; mod low; mod middle; mod high; mod attic;"),
        ("src/sys/mod.rs", "use crate::low::Low; use crate::time::Instant;"),
        ("src/low/mod.rs", "mod inner; pub(crate) use inner::Low;"),
        (
            "src/low/inner.rs",
            "pub(crate) struct Low; fn f() { super::super::middle::f(); time::Instant::now() } use crate::time;",
        ),
        ("src/time.rs", "pub(crate) struct Instant;"),
        (
            "src/middle.rs",
            "use std::{net::TcpStream, time::Instant as Clock}; use log as l;\nuse crate::low::Low;\npub(crate) fn f() { Clock::now(); l::info!(); }",
        ),
        ("src/high.rs", "use crate::middle::f; use crate::sys;"),
        ("src/attic.rs", ""),
    ]);
    let (empty, findings) = layer_findings(&checker);
    assert_finds(&empty, &["fence_virtd::watch: no file is in this room"]);
    assert_finds(&findings, &["src/sys/mod.rs:1: crate::low::Low", "sys imports nothing of ours"]);
    assert_finds(&findings, &["src/low/inner.rs:1", "upwards from low (layer 0) to middle (layer 1)"]);
    assert_finds(&findings, &["src/attic.rs: attic is in no room"]);
    assert_finds(&findings, &["rooms: circle of 2: low, middle"]);
    assert_eq!(findings.len(), 4, "{findings:?}");
    let impure = checker.impure(LAYERS);
    for path in [
        "src/middle.rs:1: std::net::TcpStream",
        "src/middle.rs:1: std::time::Instant",
        "src/low/inner.rs:1: time::Instant::now",
        "src/middle.rs:3: log::info",
    ] {
        assert_finds(&impure, &[path]);
    }
}

#[test]
fn imports_of_tools_and_of_forbidden_rooms_are_found() {
    let checker = checker(&[
        ("src/lib.rs", "pub mod low; pub mod middle;"),
        ("src/low.rs", "pub struct Low;"),
        ("src/middle.rs", "pub struct Middle;"),
        (
            "src/bin/fence_virtd/main.rs",
            "mod listener; mod watch; mod tools;\nuse tools::check;\nfn main() { check::run() }",
        ),
        (
            "src/bin/fence_virtd/listener.rs",
            "use fence_virt::low::Low;\nuse crate::watch::Watch;\nuse super::tools::check::Check;",
        ),
        ("src/bin/fence_virtd/watch.rs", "pub struct Watch; use fence_virt::middle::Middle;"),
        ("src/bin/fence_virtd/tools/mod.rs", "pub(crate) mod check; mod probe;"),
        ("src/bin/fence_virtd/tools/probe.rs", "use fence_virt::middle::Middle;"),
        ("src/bin/fence_virtd/tools/check.rs", "use crate::watch::Watch; pub struct Check; pub fn run() {}"),
    ]);
    assert_none(&checker.unresolved());
    let (_, findings) = layer_findings(&checker);
    assert_finds(&findings, &["listener.rs:2: crate::watch::Watch", "must not know"]);
    assert_finds(&findings, &["listener.rs:3: super::tools::check::Check", "only main imports tools"]);
    // tools::probe is permitted to.
    assert_finds(&findings, &["watch.rs:1: fence_virt::middle::Middle", "must not know middle"]);
    assert_eq!(findings.len(), 3, "{findings:?}");
}

#[test]
fn paths_that_lead_nowhere_are_found() {
    let checker = checker(&[
        ("src/lib.rs", "mod low; mod missing;\nuse serde::Serialize;\nuse quick_xml::Reader;"),
        (
            "src/low.rs",
            "use super::nothing::X;\nfn f<T: Default>() { T::default(); Vec::<u8>::new(); crate::low::g(); x.y::<u8>() }",
        ),
    ]);
    let findings = checker.unresolved();
    assert_finds(&findings, &["src/lib.rs:1: no file for `mod missing`"]);
    assert_finds(&findings, &["src/lib.rs:2", "serde::Serialize"]);
    assert_finds(&findings, &["src/low.rs:1", "super::nothing::X"]);
    assert_finds(&findings, &["src/low.rs:2", "crate::low::g"]);
    assert_eq!(findings.len(), 4, "{findings:?}");
}

#[test]
fn duplicate_types_are_found() {
    let checker = checker(&[
        ("src/lib.rs", "mod a; mod b; struct Option; fn f() { struct A; }"),
        ("src/a.rs", "struct A;\nstruct Once;\n#[cfg(unix)] type Os = u8;\n#[cfg(not(unix))] type Os = u16;"),
        ("src/b.rs", "const TEXT: &str = \"struct Once\";\nmod inner { pub(super) enum A {} }"),
    ]);
    let findings = checker.duplicate_types();
    assert_finds(&findings, &["A: src/a.rs:1, src/b.rs:2"]);
    assert_finds(&findings, &["Option: src/lib.rs:1"]);
    assert_eq!(findings.len(), 2, "{findings:?}");
}

#[test]
fn unsafe_code_and_heads_that_do_not_forbid_it_are_found() {
    let checker = checker(&[
        ("src/lib.rs", "#![deny(unsafe_code)]\nmod sys; mod low; mod middle;"),
        ("src/sys/mod.rs", "#![allow(unsafe_code)] mod clock;"),
        ("src/sys/clock.rs", "fn f() { unsafe { g() } }"),
        ("src/low.rs", "// unsafe\n#![forbid(unsafe_code)]"),
        ("src/middle.rs", "#[cfg(test)] mod tests { fn f() {\n unsafe { g() } } }"),
        ("src/bin/fence_virt.rs", "fn main() {}"),
    ]);
    let findings = checker.unsafe_code(LAYERS);
    assert_finds(&findings, &["src/middle.rs:2: unsafe code"]);
    assert_finds(&findings, &["src/middle.rs: no `#![forbid(unsafe_code)]`"]);
    assert_finds(&findings, &["src/bin/fence_virt.rs: no `#![forbid(unsafe_code)]`"]);
    assert_eq!(findings.len(), 3, "{findings:?}");
}

#[test]
fn doc_comments_are_counted_by_their_opening() {
    let text = "//! What it is.\n//! What goes on.\n\n/// How far.\n///\n/// Who.\nstruct A; // What\n/// Number.\nstruct B;\n\
                #[cfg(test)]\n/// It.\nfn f() {}\n/// Howl.\nfn g() { let _ = \"/// What\"; }";
    let (all, found) = checker(&[("src/lib.rs", text)]).docs(&["What", "How", "It"]);
    let counts: Vec<usize> = found.iter().map(|(_, places)| places.len()).collect();
    assert_eq!((all, counts), (4, vec![1, 1, 0]));
    assert_finds(&found[1].1, &["src/lib.rs:4: How far."]);
}
