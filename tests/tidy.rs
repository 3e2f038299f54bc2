//! The taste of the house as a test: layers, lengths, names, left-overs, dead files.
//!
//! It reads the sources under `src`, `bench` and `tests`, and the scripts and documents beside
//! them, and fails with file, line, rule and what to do. Which layer may import which is read
//! from the map in the docs of `src/lib.rs`. Each rule has a canary: a planted house in which the
//! checker must find that one thing and nothing else.

#[path = "support/tidy_layers.rs"]
mod tidy_layers;
#[path = "support/tidy_shape.rs"]
mod tidy_shape;
#[path = "support/tidy_source.rs"]
mod tidy_source;

use std::fmt::Write as _;
use std::path::Path;

use tidy_layers::{Imports, Map};
use tidy_shape::{COLUMNS_MAX, FILE_LINES_MAX, FUNCTION_LINES_MAX};
use tidy_source::{Finding, House, Rule, Source, Syntax};

/// Everything that is wrong in a house, in the order of files and lines.
fn inspect(house: &House) -> Vec<Finding> {
    let map = Map::parse(&house.map);
    let mut findings = Vec::new();
    let mut parsed = Vec::new();
    for source in &house.sources {
        findings.extend(tidy_shape::inspect_words(source));
        if source.is_rust() {
            match Syntax::parse(source) {
                Ok(syntax) => parsed.push((source, syntax)),
                Err(finding) => findings.push(finding),
            }
        }
    }
    for (source, syntax) in &parsed {
        findings.extend(tidy_shape::inspect_shape(source, syntax));
        findings.extend(tidy_layers::inspect(house, &map, source, syntax));
    }
    findings.extend(tidy_shape::inspect_reach(house, &parsed));
    findings.sort();
    findings
}

/// The root of the crate, whose docs draw the map.
const ROOT: &str = include_str!("../src/lib.rs");

fn real_house() -> House {
    House::read(Path::new(env!("CARGO_MANIFEST_DIR")))
}

#[test]
fn the_house_is_tidy() {
    let findings = inspect(&real_house());
    let report = findings.iter().fold(String::new(), |mut report, finding| {
        writeln!(report, "{finding}").expect("a string takes all");
        report
    });
    assert!(findings.is_empty(), "{} to put right:\n{report}", findings.len());
}

/// The arrows that must stay undrawn whatever else changes on the map.
#[test]
fn the_map_keeps_its_walls() {
    let map = Map::parse(ROOT);
    for layer in ["canary", "model"] {
        assert_eq!(map.imports(layer), Some(&Imports::Only([].into())), "{layer} imports nothing");
    }
    let canary = Imports::Only(["canary".to_owned()].into());
    assert_eq!(map.imports("runtime"), Some(&canary), "runtime knows no tickets");
    let walls = [
        ("engine", "wal"),
        ("wal", "engine"),
        ("protocol", "engine"),
        ("audit", "engine"),
        ("client", "runtime"),
        ("client", "server"),
        ("load", "server"),
        ("load", "engine"),
        ("load", "wal"),
        ("server", "control"),
        ("server", "cli"),
        ("bench/main.rs", "server"),
        ("bench/main.rs", "engine"),
        ("bench/main.rs", "wal"),
    ];
    for (from, to) in walls {
        assert!(map.imports(from).is_some(), "{from} is on the map");
        assert!(!map.allows(from, to), "{from} never imports {to}");
    }
    for (from, to) in [("server", "engine"), ("control", "wal"), ("cli", "audit")] {
        assert!(map.allows(from, to), "{from} imports {to}");
    }
}

/// A small house in which nothing is wrong, with some files put in or replaced.
fn planted(files: &[(&str, &str)]) -> House {
    const MANIFEST: &str = "[package]\nname = \"boxoffice\"\n\
        [lib]\npath = \"src/lib.rs\"\n\
        [[bin]]\nname = \"boxoffice\"\npath = \"src/main.rs\"\n\
        [[bin]]\nname = \"boxoffice-bench\"\npath = \"bench/main.rs\"\n\
        [[bench]]\nname = \"memory\"\npath = \"bench/memory.rs\"\n\
        [[bench]]\nname = \"undrawn\"\npath = \"bench/undrawn.rs\"\n";
    let mut lib = "//! The root.\n".to_owned();
    for layer in Map::parse(ROOT).layers() {
        writeln!(lib, "pub mod {layer};").expect("a string takes all");
    }
    let mut sources = vec![
        ("src/lib.rs", lib.as_str()),
        ("src/main.rs", "//! Program.\nfn main() { boxoffice::cli::run(); }\n"),
        ("bench/main.rs", "//! Generator.\nmod rush;\nfn main() { boxoffice::load::run(); }\n"),
        ("bench/rush.rs", "//! Module of the generator.\nuse boxoffice::client::Client;\n"),
        ("bench/memory.rs", "//! Bench.\nuse boxoffice::{engine::Engine, model};\n"),
        ("tests/theme.rs", "//! Test.\n#[path = \"support/disk.rs\"]\nmod disk;\n"),
        ("tests/support/disk.rs", "//! Support.\nuse boxoffice::engine::Engine;\n"),
        ("src/engine/mod.rs", "//! Engine.\nmod limits;\nuse crate::model::Record;\n"),
        ("src/engine/limits.rs", "//! Limits.\nuse super::super::model::{self, Item};\n"),
        ("src/audit.rs", "//! Audit.\nuse crate::{model::Record, wal::{Frame, Lsn}};\n"),
        ("src/runtime/mod.rs", "//! Ring.\nfn f() { unsafe { g() } }\nmod mailbox;\n"),
        ("src/runtime/mailbox.rs", "//! Mailbox.\nmod tests { use super::*; }\n"),
    ];
    for (path, text) in files {
        sources.retain(|(known, _)| known != path);
        sources.push((path, text));
    }
    let own = |(path, text): &(&str, &str)| Source { path: (*path).into(), text: (*text).into() };
    House {
        manifest: MANIFEST.to_owned(),
        map: ROOT.to_owned(),
        sources: sources.iter().map(own).collect(),
    }
}

/// What the checker finds in the planted house, without the advice.
fn found(files: &[(&str, &str)]) -> Vec<(String, usize, Rule)> {
    let findings = inspect(&planted(files));
    findings.into_iter().map(|finding| (finding.path, finding.line, finding.rule)).collect()
}

/// For each rule, sources that break it and nothing else, and the line at which they do.
fn canaries() -> Vec<(Rule, &'static str, String, usize)> {
    let lines = |count: usize| "\n".repeat(count);
    let engine = "src/engine/mod.rs";
    let code = |text: &str| format!("//! Engine.\nmod limits;\n{text}\n");
    vec![
        (Rule::Arrow, engine, code("use crate::wal::Frame;"), 3),
        (Rule::Arrow, engine, code("use crate::{model, wal::{Frame, Lsn}};"), 3),
        (Rule::Arrow, engine, code("use super::wal::Frame;"), 3),
        (Rule::Arrow, engine, code("use super::{wal, model};"), 3),
        (Rule::Arrow, engine, code("use self::super::wal::Frame;"), 3),
        (Rule::Arrow, engine, code("fn f() -> crate::wal::Frame { g() }"), 3),
        (Rule::Arrow, engine, code("fn f() { assert!(crate::wal::is_open()); }"), 3),
        (Rule::Arrow, engine, code("macro_rules! m { () => { $crate::wal::f() } }"), 3),
        (Rule::Arrow, engine, code("#[derive(Debug)]\n#[with(crate::wal::Tag)]\nstruct S;"), 4),
        (Rule::Arrow, engine, code("mod tests {\n use super::super::wal;\n}"), 4),
        (Rule::Arrow, "src/audit.rs", "//! Audit.\nuse crate::engine::Engine;\n".into(), 2),
        (Rule::Arrow, "src/runtime/mailbox.rs", "//! Box.\nuse crate::model::Item;\n".into(), 2),
        (Rule::Arrow, "bench/rush.rs", "//! Rush.\nuse boxoffice::engine::Engine;\n".into(), 2),
        (Rule::Arrow, "bench/memory.rs", "//! Bench.\nuse boxoffice::server;\n".into(), 2),
        (Rule::NotDrawn, engine, code("use crate::ledger::Entry;"), 3),
        (Rule::NotDrawn, "src/lib.rs", undrawn_root(), 16),
        (Rule::NotDrawn, "bench/undrawn.rs", "//! Bench.\nfn main() {}\n".into(), 1),
        (Rule::Escape, engine, code("#[path = \"../wal/frame.rs\"]\nmod frame;"), 3),
        (Rule::Escape, engine, code("include!(\"../wal/frame.rs\");"), 3),
        (Rule::Escape, engine, code("use crate as root;"), 3),
        (Rule::Escape, engine, code("use crate::{self as root};"), 3),
        (Rule::Escape, engine, code("use super::*;"), 3),
        (Rule::Escape, engine, code("use crate::*;"), 3),
        (Rule::Escape, engine, code("extern crate self as root;"), 3),
        (Rule::Escape, "src/main.rs", "//! Main.\n#[path = \"wal.rs\"]\nmod wal;\n".into(), 2),
        (Rule::LongFunction, engine, code(&format!("fn f() {{{}}}", lines(FUNCTION_LINES_MAX))), 3),
        (Rule::LongFunction, engine, code(&format!("m! {{ fn f() {{{}}} }}", lines(70))), 3),
        (Rule::LongFile, engine, code(&lines(FILE_LINES_MAX - 2)), FILE_LINES_MAX + 1),
        (Rule::WideLine, engine, code(&"/".repeat(COLUMNS_MAX + 1)), 3),
        (Rule::NoOpening, engine, "mod limits;\n//\n".into(), 1),
        (Rule::Undone, engine, code(concat!("// TO", "DO: limits")), 3),
        (Rule::Undone, engine, code(concat!("fn f() { to", "do!() }")), 3),
        (Rule::Undone, "README.md", concat!("FIX", "ME\n").into(), 1),
        (Rule::Unsafe, engine, code("fn f() { unsafe { g() } }"), 3),
        (Rule::Unsafe, "tests/other.rs", "//! T.\nunsafe fn f() {}\n".into(), 2),
        (Rule::VagueName, engine, code("mod helpers { }"), 3),
        (Rule::DeadFile, "src/engine/forgotten.rs", "//! Nobody.\n".into(), 1),
        (Rule::DeadFile, "tests/support/forgotten.rs", "//! Nobody.\n".into(), 1),
        (Rule::Debugging, engine, code("fn f() { dbg!(1); }"), 3),
        (Rule::MachinePath, engine, code(concat!("const P: &str = \"/t", "mp/log\";")), 3),
        (Rule::MachinePath, "README.md", concat!("see /ho", "me/me/notes\n").into(), 1),
        (Rule::OutsideDocument, engine, code(concat!("// see ../sha", "red/notes")), 3),
        (Rule::OutsideDocument, "README.md", concat!("see `DESI", "GN.md`\n").into(), 1),
        (Rule::Unparsed, "src/wal.rs", "//! Log.\nfn f( {}\n".into(), 2),
    ]
}

/// The root of the planted house with one layer more than the map has, at line 16.
fn undrawn_root() -> String {
    let layers = ["audit", "engine", "runtime"].map(|layer| format!("mod {layer};\n")).concat();
    format!("//! Root.\n{layers}{}mod ledger;\n", "\n".repeat(11))
}

#[test]
fn a_planted_house_without_fault_is_tidy() {
    assert_eq!(found(&[]), []);
}

#[test]
fn each_canary_is_found_and_nothing_else() {
    for (rule, path, text, line) in canaries() {
        assert_eq!(found(&[(path, &text)]), [(path.to_owned(), line, rule)], "canary:\n{text}");
    }
}

#[test]
fn each_rule_has_a_canary() {
    for rule in Rule::ALL {
        assert!(canaries().iter().any(|(canary, ..)| *canary == rule), "{rule:?} has no canary");
    }
}

/// A file named after nothing is found too; it takes two files, as someone must declare it.
#[test]
fn a_vague_file_name_is_found() {
    let files =
        [("src/audit.rs", "//! Audit.\nmod utils;\n"), ("src/audit/utils.rs", "//! All sorts.\n")];
    assert_eq!(found(&files), [("src/audit/utils.rs".to_owned(), 1, Rule::VagueName)]);
}

/// Every arrow between two layers, drawn or not, is judged as the map says.
#[test]
fn every_pair_of_layers_is_judged_by_the_map() {
    let map = Map::parse(ROOT);
    for from in map.layers() {
        for to in map.layers() {
            let path = format!("src/{from}.rs");
            let text = format!("//! Layer.\nuse crate::{to}::Thing;\n");
            let mut files = vec![(path.as_str(), text.as_str())];
            let folder = format!("src/{from}/mod.rs");
            if ["engine", "runtime"].contains(&from) {
                files = vec![(folder.as_str(), text.as_str())];
                files.push(("src/engine/limits.rs", "//! Limits.\n"));
            }
            let arrows = found(&files).iter().filter(|(.., rule)| *rule == Rule::Arrow).count();
            assert_eq!(arrows, usize::from(!map.allows(from, to)), "{from} -> {to}");
        }
    }
}

/// What looks like a fault and is none.
#[test]
fn the_innocent_are_left_alone() {
    let engine = "src/engine/mod.rs";
    let full = format!("//! E.\nmod limits;\nfn f() {{{}}}\n", "\n".repeat(FUNCTION_LINES_MAX - 1));
    let tests = format!("//! E.\nmod limits;\n#[cfg(test)]\nmod tests {{{}}}\n", "\n".repeat(700));
    let wide = format!("//! E.\nmod limits;\n//{}\n", "é".repeat(COLUMNS_MAX - 2));
    let innocents = [
        full.as_str(),
        tests.as_str(),
        wide.as_str(),
        "//! E. See [`crate::wal::Frame`].\nmod limits;\npub(crate) fn f() {}\n",
        "//! E.\nmod limits;\npub(in crate::engine) fn f(g: fn(u8)) { super::engine::g() }\n",
        "//! E.\nmod limits;\nconst TODOS: &str = \"/workload /tmpfs a/work/b ~/tmp\";\n",
        "//! E.\n#![deny(unsafe_code)]\nmod limits;\nfn todo() { dbg(); }\n",
        "//! E.\nmod limits;\nmod deep { mod tests { use super::*; use super::super::*; } }\n",
    ];
    for text in innocents {
        assert_eq!(found(&[(engine, text)]), [], "innocent:\n{text}");
    }
}

/// The line of a finding says where, what, and what to do.
#[test]
fn a_finding_reads_as_advice() {
    let text = "//! Audit.\nuse crate::engine::Engine;\n";
    let finding = &inspect(&planted(&[("src/audit.rs", text)]))[0];
    assert_eq!(
        finding.to_string(),
        "src/audit.rs:2: Arrow: `audit` may not import `engine`: move the code to a layer that \
         may, or pass it in as an argument (the map is the table in src/lib.rs)"
    );
}
