//! What the tidy test reads and what it says: sources, the manifest's targets, findings.
//!
//! A [`House`] is a value: the real one is read from disk, a canary's is written in the test.
//! Nothing here judges; the rules are in the files beside this one.

use std::collections::BTreeMap;
use std::fmt;
use std::fs;
use std::path::Path;

use proc_macro2::{TokenStream, TokenTree};

/// A rule of the house. Each has a canary in `tests/tidy.rs`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Rule {
    /// A layer imports one that the map does not let it import.
    Arrow,
    /// A module, or a micro-bench, that the map does not know.
    NotDrawn,
    /// A file of `src` that is pulled in from elsewhere.
    Escape,
    /// A function of more than 70 lines.
    LongFunction,
    /// A file of more than 600 lines before its tests.
    LongFile,
    /// A line of more than 100 columns.
    WideLine,
    /// A file that does not say at its top what it owns.
    NoOpening,
    /// A marker for work that was left undone.
    Undone,
    /// `unsafe` outside `src/runtime`.
    Unsafe,
    /// A module named after nothing.
    VagueName,
    /// A source file that no target reaches.
    DeadFile,
    /// A left-over debugging print.
    Debugging,
    /// A path of some developer's machine.
    MachinePath,
    /// A document that is not in this repository.
    OutsideDocument,
    /// A source file that is not Rust.
    Unparsed,
}

impl Rule {
    /// Every rule.
    pub const ALL: [Self; 15] = [
        Self::Arrow,
        Self::NotDrawn,
        Self::Escape,
        Self::LongFunction,
        Self::LongFile,
        Self::WideLine,
        Self::NoOpening,
        Self::Undone,
        Self::Unsafe,
        Self::VagueName,
        Self::DeadFile,
        Self::Debugging,
        Self::MachinePath,
        Self::OutsideDocument,
        Self::Unparsed,
    ];
}

/// A place that breaks a rule, and what to do about it.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Finding {
    /// The file, from the top of the repository.
    pub path: String,
    /// The line, from 1.
    pub line: usize,
    /// The rule.
    pub rule: Rule,
    /// What is wrong and what to do next.
    pub advice: String,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: {:?}: {}", self.path, self.line, self.rule, self.advice)
    }
}

/// One text file.
pub struct Source {
    /// Its path from the top of the repository, with `/`.
    pub path: String,
    /// What it says.
    pub text: String,
}

impl Source {
    /// A finding in this file.
    pub fn finding(&self, line: usize, rule: Rule, advice: impl Into<String>) -> Finding {
        Finding { path: self.path.clone(), line, rule, advice: advice.into() }
    }

    /// Whether it is Rust.
    pub fn is_rust(&self) -> bool {
        Path::new(&self.path).extension().is_some_and(|extension| extension == "rs")
    }

    /// The path's parts.
    pub fn parts(&self) -> Vec<&str> {
        self.path.split('/').collect()
    }
}

/// A Rust file as tokens, which see into macros, and as a tree, which knows items.
pub struct Syntax {
    /// The top level of the token tree.
    pub tokens: Vec<TokenTree>,
    /// The items.
    pub file: syn::File,
}

impl Syntax {
    /// Parses a source, or says at which line it is not Rust.
    pub fn parse(source: &Source) -> Result<Self, Finding> {
        let unparsed = |line, why: &dyn fmt::Display| {
            source.finding(line, Rule::Unparsed, format!("this is not Rust: {why}"))
        };
        let stream: TokenStream = source
            .text
            .parse()
            .map_err(|error: proc_macro2::LexError| unparsed(error.span().start().line, &error))?;
        let file = syn::parse2(stream.clone())
            .map_err(|error| unparsed(error.span().start().line, &error))?;
        Ok(Self { tokens: stream.into_iter().collect(), file })
    }
}

/// All that the rules look at.
pub struct House {
    /// The text of `Cargo.toml`.
    pub manifest: String,
    /// The text of `src/lib.rs`, whose docs draw the map.
    pub map: String,
    /// Every text file of the house.
    pub sources: Vec<Source>,
}

/// The folders that are read whole.
const FOLDERS: [&str; 5] = [".ci", "bench", "src", "systemd", "tests"];

/// The single files that are read beside them.
const FILES: [&str; 2] = ["Cargo.toml", "README.md"];

/// What counts as text written by hand. Data files of the tests are not.
const EXTENSIONS: [&str; 7] = ["md", "py", "rs", "service", "sh", "socket", "toml"];

impl House {
    /// Reads the repository at `top`.
    pub fn read(top: &Path) -> Self {
        let mut sources = Vec::new();
        for folder in FOLDERS {
            read_folder(top, &top.join(folder), &mut sources);
        }
        for file in FILES {
            sources.push(read_file(top, &top.join(file)));
        }
        let text_of = |path: &str| {
            let source = sources.iter().find(|source| source.path == path);
            source.unwrap_or_else(|| panic!("{path} is missing")).text.clone()
        };
        Self { manifest: text_of("Cargo.toml"), map: text_of("src/lib.rs"), sources }
    }

    /// The files at which a target of the manifest starts, with the kind of the target: `lib`,
    /// `bin`, `bench`, `test`.
    pub fn targets(&self) -> BTreeMap<String, String> {
        let mut targets = BTreeMap::new();
        let mut table = "";
        for line in self.manifest.lines().map(str::trim) {
            if line.starts_with('[') {
                table = line.trim_matches(['[', ']']);
            } else if let Some(("path", value)) =
                line.split_once('=').map(|(key, value)| (key.trim(), value.trim()))
                && ["lib", "bin", "bench", "test", "example"].contains(&table)
            {
                targets.insert(value.trim_matches('"').to_owned(), table.to_owned());
            }
        }
        for source in self.sources.iter().filter(|source| source.is_rust()) {
            if matches!(
                source.parts()[..],
                ["tests", _] | ["tests", _, "main.rs"] | ["tests", "fuzz", _]
            ) {
                targets.insert(source.path.clone(), "test".to_owned());
            }
        }
        targets
    }
}

/// Reads the text files of `folder` and of what it holds, in the order of their names. A folder
/// that is not there holds nothing, and what cargo builds below `target` is nobody's text.
fn read_folder(top: &Path, folder: &Path, sources: &mut Vec<Source>) {
    let Ok(entries) = fs::read_dir(folder) else { return };
    let mut paths: Vec<_> =
        entries.map(|entry| entry.expect("the folder can be listed").path()).collect();
    paths.sort();
    for path in paths {
        let extension = path.extension().and_then(|extension| extension.to_str());
        if path.is_dir() {
            if !path.ends_with("target") {
                read_folder(top, &path, sources);
            }
        } else if extension.map_or(folder == top.join(".ci"), |known| EXTENSIONS.contains(&known)) {
            sources.push(read_file(top, &path));
        }
    }
}

fn read_file(top: &Path, path: &Path) -> Source {
    let text = fs::read_to_string(path)
        .unwrap_or_else(|error| panic!("{} cannot be read: {error}", path.display()));
    let path = path.strip_prefix(top).expect("the file is inside the repository");
    Source { path: path.to_str().expect("names are UTF-8").to_owned(), text }
}
