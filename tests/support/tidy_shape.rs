//! The shape of the sources: lengths, openings, names, words that do not belong, dead files.
//!
//! Functions are found in the tokens, so that those inside of macros count too. The words that
//! these rules look for are put together here, since this file is held to the rules as well.

use std::collections::BTreeSet;
use std::path::{Component, Path, PathBuf};

use proc_macro2::{Delimiter, TokenTree};
use syn::visit::Visit;

use crate::tidy_source::{Finding, House, Rule, Source, Syntax};

/// The most lines of a function, from `fn` to its closing brace.
pub const FUNCTION_LINES_MAX: usize = 70;

/// The most lines of a file before its `#[cfg(test)]` module.
pub const FILE_LINES_MAX: usize = 600;

/// The most columns of a line.
pub const COLUMNS_MAX: usize = 100;

/// Names that tell nothing about what is inside.
const VAGUE_NAMES: [&str; 6] = ["common", "helper", "helpers", "misc", "util", "utils"];

/// Markers of work left undone.
const UNDONE_WORDS: [&str; 4] =
    [concat!("TO", "DO"), concat!("FIX", "ME"), concat!("XX", "X"), concat!("HA", "CK")];

/// Macros that stand for work left undone.
const UNDONE_MACROS: [&str; 2] = ["todo", "unimplemented"];

/// Where the files of some developer's machine lie.
const MACHINE_PATHS: [&str; 4] =
    [concat!("/wo", "rk"), concat!("/ho", "me"), concat!("/ro", "ot"), concat!("/t", "mp")];

/// Documents that a reader of this repository does not have.
const OUTSIDE_DOCUMENTS: [&str; 4] = [
    concat!("sha", "red/"),
    concat!("DESI", "GN.md"),
    concat!("STY", "LE.md"),
    concat!("AP", "I.md"),
];

/// Looks at the text of any file.
pub fn inspect_words(source: &Source) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (index, text) in source.text.lines().enumerate() {
        let line = index + 1;
        for word in UNDONE_WORDS.into_iter().filter(|word| has_word(text, word)) {
            findings.push(source.finding(
                line,
                Rule::Undone,
                format!("`{word}`: do it now, or take it out of the code"),
            ));
        }
        for path in MACHINE_PATHS.into_iter().filter(|path| has_path(text, path)) {
            findings.push(source.finding(
                line,
                Rule::MachinePath,
                format!("`{path}` is one machine's: take the path as an argument, or use tempfile"),
            ));
        }
        for name in OUTSIDE_DOCUMENTS.into_iter().filter(|name| has_path(text, name)) {
            findings.push(source.finding(
                line,
                Rule::OutsideDocument,
                format!("`{name}` is not in this repository: say here what a reader needs"),
            ));
        }
        if source.is_rust() && text.chars().count() > COLUMNS_MAX {
            findings.push(source.finding(
                line,
                Rule::WideLine,
                format!("more than {COLUMNS_MAX} columns: break the line"),
            ));
        }
    }
    findings
}

/// Looks at the shape of a Rust file.
pub fn inspect_shape(source: &Source, syntax: &Syntax) -> Vec<Finding> {
    let mut findings = Vec::new();
    if !source.text.starts_with("//!") {
        findings.push(source.finding(
            1,
            Rule::NoOpening,
            "open the file with `//!`: what it owns, its invariants, what it lacks on purpose",
        ));
    }
    let lines = lines_before_tests(source, syntax);
    if lines > FILE_LINES_MAX {
        findings.push(source.finding(
            lines,
            Rule::LongFile,
            format!("{lines} lines before the tests, {FILE_LINES_MAX} at most: split the story"),
        ));
    }
    for part in source.parts() {
        if VAGUE_NAMES.contains(&part.trim_end_matches(".rs")) {
            findings.push(vague_name(source, 1, part));
        }
    }
    inspect_tokens(source, &syntax.tokens, &mut findings);
    findings
}

/// The lines before the first test module; all lines where there is none.
fn lines_before_tests(source: &Source, syntax: &Syntax) -> usize {
    let tests = syntax.file.items.iter().find_map(|item| match item {
        syn::Item::Mod(module) => module.attrs.iter().find(|attribute| is_cfg_test(attribute)),
        _ => None,
    });
    match tests {
        Some(attribute) => attribute.pound_token.spans[0].start().line - 1,
        None => source.text.lines().count(),
    }
}

/// Whether this is `#[cfg(test)]`.
fn is_cfg_test(attribute: &syn::Attribute) -> bool {
    attribute.path().is_ident("cfg")
        && attribute.parse_args::<syn::Path>().is_ok_and(|path| path.is_ident("test"))
}

fn vague_name(source: &Source, line: usize, name: &str) -> Finding {
    source.finding(
        line,
        Rule::VagueName,
        format!("`{name}` says nothing: name the module after what it owns"),
    )
}

/// Looks at the tokens of one nesting level, and at those inside.
fn inspect_tokens(source: &Source, tokens: &[TokenTree], findings: &mut Vec<Finding>) {
    for (index, token) in tokens.iter().enumerate() {
        match token {
            TokenTree::Group(group) => {
                let inside: Vec<TokenTree> = group.stream().into_iter().collect();
                inspect_tokens(source, &inside, findings);
            }
            TokenTree::Ident(word) => {
                let rest = &tokens[index + 1..];
                findings.extend(inspect_word(source, word, rest));
            }
            TokenTree::Punct(_) | TokenTree::Literal(_) => {}
        }
    }
}

/// Looks at one word of the code; `rest` stands behind it on the same nesting level.
fn inspect_word(source: &Source, word: &proc_macro2::Ident, rest: &[TokenTree]) -> Option<Finding> {
    let line = word.span().start().line;
    let name = word.to_string();
    let is_macro = matches!(rest.first(), Some(TokenTree::Punct(bang)) if bang.as_char() == '!');
    match name.as_str() {
        "fn" => long_function(source, line, rest),
        "unsafe" if !source.path.starts_with("src/runtime") => Some(source.finding(
            line,
            Rule::Unsafe,
            "only src/runtime may: give it a safe function there and call that",
        )),
        "dbg" if is_macro => {
            Some(source.finding(line, Rule::Debugging, "take the debugging print out"))
        }
        _ if is_macro && UNDONE_MACROS.contains(&name.as_str()) => Some(source.finding(
            line,
            Rule::Undone,
            format!("`{name}!`: do it now, or take it out of the code"),
        )),
        "mod" => match rest.first() {
            Some(TokenTree::Ident(module))
                if VAGUE_NAMES.contains(&module.to_string().as_str())
                    && matches!(rest.get(1), Some(TokenTree::Group(_))) =>
            {
                Some(vague_name(source, line, &module.to_string()))
            }
            _ => None,
        },
        _ => None,
    }
}

/// Measures a function whose `fn` stands at `line`, up to the brace that closes its body.
fn long_function(source: &Source, line: usize, rest: &[TokenTree]) -> Option<Finding> {
    // `fn(u8)` is a type; a function has a name.
    let Some(TokenTree::Ident(name)) = rest.first() else { return None };
    let body = rest.iter().find_map(|token| match token {
        TokenTree::Group(group) if group.delimiter() == Delimiter::Brace => Some(Some(group)),
        TokenTree::Punct(end) if end.as_char() == ';' => Some(None),
        _ => None,
    })??;
    let lines = body.span_close().end().line - line + 1;
    (lines > FUNCTION_LINES_MAX).then(|| {
        source.finding(
            line,
            Rule::LongFunction,
            format!(
                "`{name}` has {lines} lines, {FUNCTION_LINES_MAX} at most: keep the branches, \
                 move the leaves out"
            ),
        )
    })
}

/// Whether `text` has `word` with nothing of a word around it.
fn has_word(text: &str, word: &str) -> bool {
    let in_word = |sign: char| sign.is_alphanumeric() || sign == '_';
    text.match_indices(word).any(|(start, _)| {
        !text[..start].chars().next_back().is_some_and(in_word)
            && !text[start + word.len()..].chars().next().is_some_and(in_word)
    })
}

/// Whether `text` has `path` as the start of a path, not in the middle of a longer one.
fn has_path(text: &str, path: &str) -> bool {
    let in_path = |sign: char| sign.is_alphanumeric() || "_-.~}$".contains(sign);
    let in_name = |sign: char| sign.is_alphanumeric() || "_-".contains(sign);
    text.match_indices(path).any(|(start, _)| {
        let before = text[..start].trim_end_matches("../");
        let is_start = !before.chars().next_back().is_some_and(in_path);
        let after = text[start + path.len()..].chars().next();
        is_start && (path.ends_with('/') || !after.is_some_and(in_name))
    })
}

/// Looks for source files that no target reaches through its `mod` lines.
pub fn inspect_reach(house: &House, parsed: &[(&Source, Syntax)]) -> Vec<Finding> {
    let mut reached = BTreeSet::new();
    let mut pending: Vec<String> = house.targets().into_keys().collect();
    while let Some(path) = pending.pop() {
        let Some((source, syntax)) = parsed.iter().find(|(source, _)| source.path == path) else {
            continue;
        };
        if reached.insert(path) {
            let is_target = house.targets().contains_key(&source.path);
            pending.extend(declared_modules(source, syntax, is_target));
        }
    }
    let dead = parsed.iter().filter(|(source, _)| !reached.contains(&source.path));
    dead.map(|(source, _)| {
        source.finding(
            1,
            Rule::DeadFile,
            "no `mod` line and no target of Cargo.toml reaches this file: declare or delete it",
        )
    })
    .collect()
}

/// Where the modules lie that this file declares. Both forms, `x.rs` and `x/mod.rs`, are named;
/// only one exists.
fn declared_modules(source: &Source, syntax: &Syntax, is_target: bool) -> Vec<String> {
    let path = Path::new(&source.path);
    let folder = path.parent().expect("a source lies in a folder");
    let owns_folder = is_target || path.ends_with("mod.rs");
    let home =
        if owns_folder { folder.to_owned() } else { folder.join(path.file_stem().expect("name")) };
    let mut declarations =
        Declarations { folder: folder.to_owned(), home, found: Vec::new(), inline: false };
    declarations.visit_file(&syntax.file);
    declarations.found
}

/// Gathers the `mod x;` lines of a file, also those in inline modules.
struct Declarations {
    /// The folder of the file: where a `#[path]` starts from.
    folder: PathBuf,
    /// The folder of the module that is being read: where `mod x;` looks.
    home: PathBuf,
    found: Vec<String>,
    inline: bool,
}

impl<'ast> Visit<'ast> for Declarations {
    fn visit_item_mod(&mut self, module: &'ast syn::ItemMod) {
        let name = module.ident.to_string();
        if module.content.is_some() {
            let outside = (self.home.clone(), self.inline);
            self.home.push(&name);
            self.inline = true;
            syn::visit::visit_item_mod(self, module);
            (self.home, self.inline) = outside;
            return;
        }
        if let Some(path) = module.attrs.iter().find_map(named_path) {
            let start = if self.inline { &self.home } else { &self.folder };
            self.found.push(settled(&start.join(path)));
        } else {
            self.found.push(settled(&self.home.join(format!("{name}.rs"))));
            self.found.push(settled(&self.home.join(name).join("mod.rs")));
        }
    }
}

/// The text of a `#[path = "…"]`.
fn named_path(attribute: &syn::Attribute) -> Option<String> {
    let syn::Meta::NameValue(pair) = &attribute.meta else { return None };
    match &pair.value {
        syn::Expr::Lit(syn::ExprLit { lit: syn::Lit::Str(text), .. })
            if pair.path.is_ident("path") =>
        {
            Some(text.value())
        }
        _ => None,
    }
}

/// The path without `.` and `..`.
fn settled(path: &Path) -> String {
    let mut parts: Vec<&str> = Vec::new();
    for component in path.components() {
        match component {
            Component::ParentDir => {
                parts.pop();
            }
            Component::Normal(part) => parts.push(part.to_str().expect("names are UTF-8")),
            _ => {}
        }
    }
    parts.join("/")
}
