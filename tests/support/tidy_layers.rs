//! The layers: who may import whom, read from the map in the docs of `src/lib.rs`, and every
//! path of the sources held against it.
//!
//! Paths are read from tokens, not from the tree, so that those inside of macros and attributes
//! count too. `super` is resolved through the modules of the file, so that it is an escape only
//! where it really climbs to the crate's root. Doc comments are not code and may name anything.

use std::collections::{BTreeMap, BTreeSet};

use proc_macro2::{Delimiter, Group, TokenTree};

use crate::tidy_source::{Finding, House, Rule, Source, Syntax};

/// The map: for each layer and each bench, what it may import.
pub struct Map(BTreeMap<String, Imports>);

/// What one layer may import.
#[derive(Debug, PartialEq, Eq)]
pub enum Imports {
    /// Every layer.
    Anything,
    /// These.
    Only(BTreeSet<String>),
}

impl Map {
    /// Reads the rows behind `| layer | owns | may import |` in the docs of the crate.
    pub fn parse(lib: &str) -> Self {
        let mut rows = BTreeMap::new();
        let table = lib
            .lines()
            .map_while(|line| line.strip_prefix("//!"))
            .map(str::trim)
            .skip_while(|line| *line != "| layer | owns | may import |")
            .skip(2)
            .take_while(|line| line.starts_with('|'));
        for row in table {
            let cells: Vec<&str> = row.trim_matches('|').split('|').map(str::trim).collect();
            let [layer, _, imports] = cells[..] else {
                panic!("a row of the map in src/lib.rs has three cells, unlike {row}");
            };
            let imports = match (imports, imports.strip_suffix(" and what it may")) {
                ("anything", _) => Imports::Anything,
                ("nothing", _) => Imports::Only(BTreeSet::new()),
                (_, Some(head)) => inherited(&rows, &unquoted(head)),
                (names, None) => Imports::Only(names.split(',').map(unquoted).collect()),
            };
            rows.insert(unquoted(layer), imports);
        }
        Self(rows)
    }

    /// The names of the layers of `src`, without the benches.
    pub fn layers(&self) -> impl Iterator<Item = &str> {
        self.0.keys().map(String::as_str).filter(|name| !name.contains('/'))
    }

    /// Whether `from` may import `to`; every layer may import itself.
    pub fn allows(&self, from: &str, to: &str) -> bool {
        match self.0.get(from) {
            _ if from == to => true,
            Some(Imports::Anything) => true,
            Some(Imports::Only(names)) => names.contains(to),
            None => false,
        }
    }

    /// The row of this layer.
    pub fn imports(&self, layer: &str) -> Option<&Imports> {
        self.0.get(layer)
    }
}

/// What a layer may import that may import `head` and all that `head` may.
fn inherited(rows: &BTreeMap<String, Imports>, head: &str) -> Imports {
    let Some(Imports::Only(names)) = rows.get(head) else {
        panic!("the map in src/lib.rs draws `{head}` before the layer that refers to its row");
    };
    let mut names = names.clone();
    names.insert(head.to_owned());
    Imports::Only(names)
}

fn unquoted(name: &str) -> String {
    name.trim().trim_matches('`').to_owned()
}

/// A path that leads to the root of the crate: to a layer, or to the root as a whole.
#[derive(Debug)]
struct Reach {
    line: usize,
    /// The name behind the root; `None` where the root itself is renamed or globbed.
    layer: Option<String>,
}

/// Which words start a path to the library's root.
#[derive(Clone, Copy, PartialEq)]
enum Seen {
    /// The file is a part of the library: `crate` and `super` too.
    FromInside,
    /// The file belongs to another target: only `boxoffice`.
    FromOutside,
}

/// Looks for arrows that the map does not draw.
pub fn inspect(house: &House, map: &Map, source: &Source, syntax: &Syntax) -> Vec<Finding> {
    match source.parts()[..] {
        ["src", "lib.rs"] => inspect_root(map, source, syntax),
        ["src", "main.rs"] => {
            let mut findings = inspect_escapes(source, syntax);
            findings.extend(inspect_layer(map, source, syntax, "cli", &[], Seen::FromOutside));
            findings
        }
        ["src", first, ..] => {
            let layer = first.trim_end_matches(".rs");
            let mut module = vec![layer];
            module.extend(source.parts()[2..].iter().map(|part| part.trim_end_matches(".rs")));
            module.retain(|part| *part != "mod");
            let mut findings = inspect_escapes(source, syntax);
            if map.imports(layer).is_some() {
                let seen = Seen::FromInside;
                findings.extend(inspect_layer(map, source, syntax, layer, &module, seen));
            }
            findings
        }
        ["bench", ..] => inspect_bench(house, map, source, syntax),
        _ => Vec::new(),
    }
}

/// The crate's root declares layers and does nothing else, so that no name can slip past the map.
fn inspect_root(map: &Map, source: &Source, syntax: &Syntax) -> Vec<Finding> {
    use syn::spanned::Spanned;
    let mut findings = Vec::new();
    for item in &syntax.file.items {
        match item {
            syn::Item::Mod(module) if module.content.is_none() => {
                let name = module.ident.to_string();
                if map.imports(&name).is_none() {
                    findings.push(not_drawn(source, module.ident.span().start().line, &name));
                }
            }
            _ => findings.push(source.finding(
                item.span().start().line,
                Rule::Escape,
                "src/lib.rs only declares layers (`pub mod x;`): move this into its layer",
            )),
        }
    }
    findings.extend(inspect_escapes(source, syntax));
    findings
}

/// A micro-bench has a row of its own; every other file of `bench` is the generator's.
fn inspect_bench(house: &House, map: &Map, source: &Source, syntax: &Syntax) -> Vec<Finding> {
    let is_micro = house.targets().get(&source.path).is_some_and(|kind| kind == "bench");
    let row = if is_micro { &source.path } else { "bench/main.rs" };
    if map.imports(row).is_none() {
        return vec![not_drawn(source, 1, row)];
    }
    inspect_layer(map, source, syntax, row, &[], Seen::FromOutside)
}

fn not_drawn(source: &Source, line: usize, name: &str) -> Finding {
    source.finding(
        line,
        Rule::NotDrawn,
        format!("`{name}` is not on the map: draw it first, as a row of the table in src/lib.rs"),
    )
}

/// Holds every path of one file against the row of its layer.
fn inspect_layer(
    map: &Map,
    source: &Source,
    syntax: &Syntax,
    layer: &str,
    module: &[&str],
    seen: Seen,
) -> Vec<Finding> {
    let mut reader = Reader { seen, module: module.iter().map(|part| (*part).into()).collect() };
    let mut reaches = Vec::new();
    reader.read(&syntax.tokens, &mut reaches);
    let mut findings = Vec::new();
    for reach in reaches {
        match reach.layer {
            None => findings.push(source.finding(
                reach.line,
                Rule::Escape,
                "this takes the root of the crate as a whole: import each layer by its name",
            )),
            Some(name) if map.imports(&name).is_none() => {
                findings.push(not_drawn(source, reach.line, &name));
            }
            Some(name) if !map.allows(layer, &name) => findings.push(source.finding(
                reach.line,
                Rule::Arrow,
                format!(
                    "`{layer}` may not import `{name}`: move the code to a layer that may, or \
                     pass it in as an argument (the map is the table in src/lib.rs)"
                ),
            )),
            Some(_) => {}
        }
    }
    findings
}

/// Finds `#[path]`, `include!` and `extern crate`, which would put a file in two places or give
/// the crate another name.
fn inspect_escapes(source: &Source, syntax: &Syntax) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut pending: Vec<Vec<TokenTree>> = vec![syntax.tokens.clone()];
    while let Some(tokens) = pending.pop() {
        for (index, token) in tokens.iter().enumerate() {
            let next = tokens.get(index + 1);
            let is_escape = match token {
                TokenTree::Ident(word) if word == "include" => is_punct(next, '!'),
                TokenTree::Ident(word) if word == "extern" => is_ident(next, "crate"),
                TokenTree::Punct(hash) if hash.as_char() == '#' => names_a_path(next),
                _ => false,
            };
            if is_escape {
                findings.push(source.finding(
                    token.span().start().line,
                    Rule::Escape,
                    "a module lies where its name says: no `#[path]`, `include!` or \
                     `extern crate` in src",
                ));
            }
            if let TokenTree::Group(group) = token {
                pending.push(group.stream().into_iter().collect());
            }
        }
    }
    findings
}

/// Whether this is the `[path = …]` of an attribute.
fn names_a_path(token: Option<&TokenTree>) -> bool {
    let Some(TokenTree::Group(group)) = token else { return false };
    let inside: Vec<TokenTree> = group.stream().into_iter().collect();
    is_ident(inside.first(), "path") && is_punct(inside.get(1), '=')
}

/// Reads the paths of a token tree, knowing in which module it is.
struct Reader {
    seen: Seen,
    module: Vec<String>,
}

impl Reader {
    fn read(&mut self, tokens: &[TokenTree], reaches: &mut Vec<Reach>) {
        let mut index = 0;
        while let Some(token) = tokens.get(index) {
            index += 1;
            match token {
                TokenTree::Group(group) => self.read_group(group, reaches),
                TokenTree::Ident(word) if word == "mod" => {
                    if let (Some(TokenTree::Ident(name)), Some(TokenTree::Group(body))) =
                        (tokens.get(index), tokens.get(index + 1))
                    {
                        self.module.push(name.to_string());
                        self.read_group(body, reaches);
                        self.module.pop();
                        index += 2;
                    }
                }
                TokenTree::Ident(word) => {
                    let module = match word.to_string().as_str() {
                        "boxoffice" => Some(Vec::new()),
                        "crate" if self.seen == Seen::FromInside => Some(Vec::new()),
                        "super" if self.seen == Seen::FromInside => Some(parent(&self.module)),
                        _ => None,
                    };
                    if let Some(module) = module {
                        index += follow(&module, &tokens[index..], reaches);
                    }
                }
                TokenTree::Punct(_) | TokenTree::Literal(_) => {}
            }
        }
    }

    fn read_group(&mut self, group: &Group, reaches: &mut Vec<Reach>) {
        let inside: Vec<TokenTree> = group.stream().into_iter().collect();
        self.read(&inside, reaches);
    }
}

/// Follows a path that has come to `module`; `rest` stands behind that. Returns how many tokens
/// belong to the part of the path that is settled.
fn follow(module: &[String], rest: &[TokenTree], reaches: &mut Vec<Reach>) -> usize {
    if is_ident(rest.first(), "as") && module.is_empty() {
        reaches.push(Reach { line: rest[0].span().start().line, layer: None });
        return 1;
    }
    if !(is_punct(rest.first(), ':') && is_punct(rest.get(1), ':')) {
        return 0;
    }
    2 + arrive(module, &rest[2..], reaches)
}

/// Takes the next segment of a path that has come to `module`.
fn arrive(module: &[String], rest: &[TokenTree], reaches: &mut Vec<Reach>) -> usize {
    let line = rest.first().map_or(0, |token| token.span().start().line);
    match rest.first() {
        Some(TokenTree::Ident(word)) if word == "super" => {
            1 + follow(&parent(module), &rest[1..], reaches)
        }
        Some(TokenTree::Ident(word)) if word == "self" => 1 + follow(module, &rest[1..], reaches),
        Some(TokenTree::Ident(word)) => {
            if module.is_empty() {
                reaches.push(Reach { line, layer: Some(word.to_string()) });
            }
            1
        }
        Some(TokenTree::Group(group)) if group.delimiter() == Delimiter::Brace => {
            let inside: Vec<TokenTree> = group.stream().into_iter().collect();
            for branch in inside.split(|token| is_punct(Some(token), ',')) {
                arrive(module, branch, reaches);
            }
            1
        }
        Some(TokenTree::Punct(star)) if star.as_char() == '*' => {
            if module.is_empty() {
                reaches.push(Reach { line, layer: None });
            }
            1
        }
        _ => 0,
    }
}

fn parent(module: &[String]) -> Vec<String> {
    module[..module.len().saturating_sub(1)].to_vec()
}

fn is_ident(token: Option<&TokenTree>, word: &str) -> bool {
    matches!(token, Some(TokenTree::Ident(ident)) if ident == word)
}

fn is_punct(token: Option<&TokenTree>, sign: char) -> bool {
    matches!(token, Some(TokenTree::Punct(punct)) if punct.as_char() == sign)
}
