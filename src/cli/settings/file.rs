//! The configuration file: TOML, one key for each setting, all on the top level.
//!
//! Reading goes on behind an error, so that one run shows every problem with its line.

use std::path::Path;

use toml::de::{DeTable, DeValue};

use super::kind::Kind;
use super::table::{SETTINGS, Setting};
use super::{Origin, Problem, not_allowed};

/// The most characters of a wrong value that are shown.
const SHOWN_CHARS_MAX: usize = 60;

/// A key of the file, with values of the right type.
pub struct Entry {
    /// Its row in the table.
    pub row: usize,
    /// Its line, from 1.
    pub line: usize,
    /// The values as text.
    pub values: Vec<String>,
    /// What the file says.
    pub source: String,
}

/// What a file says, in the order of its lines, and what is wrong with it.
pub fn read(path: &Path) -> (Vec<Entry>, Vec<Problem>) {
    let text = match std::fs::read(path) {
        Ok(bytes) => String::from_utf8(bytes),
        Err(error) => {
            let problem = format!("cannot read the configuration: {error}");
            return (Vec::new(), vec![Problem::new(path.display(), problem)]);
        }
    };
    match text {
        Ok(text) => parse(&text, path),
        Err(error) => {
            let line = line_at(error.as_bytes(), error.utf8_error().valid_up_to());
            let place = Origin::File(path.to_owned(), line);
            (Vec::new(), vec![Problem::new(place, "not UTF-8 text")])
        }
    }
}

fn parse(text: &str, path: &Path) -> (Vec<Entry>, Vec<Problem>) {
    let (table, errors) = DeTable::parse_recoverable(text);
    let table = table.into_inner();
    let at = |offset| Origin::File(path.to_owned(), line_at(text.as_bytes(), offset));
    let mut problems = Vec::new();
    for error in &errors {
        let span = error.span().unwrap_or_default();
        problems.push((span.start, Problem::new(at(span.start), wrong_syntax(text, error))));
    }
    // Where a line is no TOML, what was understood of it is not worth a second complaint.
    let broken: Vec<usize> =
        problems.iter().map(|(offset, _)| line_at(text.as_bytes(), *offset)).collect();
    let mut entries = Vec::new();
    for (key, value) in &table {
        let (name, offset) = (key.get_ref().as_ref(), key.span().start);
        let line = line_at(text.as_bytes(), offset);
        let Some(row) = SETTINGS.iter().position(|setting| setting.name == name) else {
            if !broken.contains(&line) {
                problems.push((offset, Problem::new(at(offset), unknown(name, value.get_ref()))));
            }
            continue;
        };
        let source = shown(&text[value.span()]);
        match values(&SETTINGS[row], value.get_ref()) {
            Some(values) => entries.push(Entry { row, line, values, source }),
            None if broken.contains(&line) => {}
            None => {
                let setting = &SETTINGS[row];
                let problem = not_allowed(setting, &at(offset), &source, &expected(setting));
                problems.push((offset, problem));
            }
        }
    }
    entries.sort_by_key(|entry| entry.line);
    problems.sort_by_key(|(offset, _)| *offset);
    (entries, problems.into_iter().map(|(_, problem)| problem).collect())
}

/// The values of a key as text, where their types are right.
fn values(setting: &Setting, value: &DeValue<'_>) -> Option<Vec<String>> {
    if !setting.is_list {
        return Some(vec![scalar(setting.kind, value)?]);
    }
    let values = value.as_array()?.iter();
    values.map(|value| scalar(setting.kind, value.get_ref())).collect()
}

fn scalar(kind: Kind, value: &DeValue<'_>) -> Option<String> {
    match (kind, value) {
        (Kind::Number { .. }, DeValue::Integer(number)) => {
            let number = i128::from_str_radix(number.as_str(), number.radix()).ok()?;
            Some(number.to_string())
        }
        (Kind::Switch, DeValue::Boolean(switch)) => Some(switch.to_string()),
        (Kind::Number { .. } | Kind::Switch, _) => None,
        (_, DeValue::String(text)) => Some(text.to_string()),
        _ => None,
    }
}

/// What is allowed, with the type that the file has to write it in.
fn expected(setting: &Setting) -> String {
    let allowed = setting.allowed();
    let is_text = !matches!(setting.kind, Kind::Number { .. } | Kind::Switch);
    match (setting.is_list, is_text) {
        (true, _) => format!("{allowed}, in quotes, between square brackets"),
        (false, true) => format!("{allowed}, in quotes"),
        (false, false) => format!("{allowed}, without quotes"),
    }
}

/// An error of the syntax; a duplicate is named.
fn wrong_syntax(text: &str, error: &toml::de::Error) -> String {
    let part = error.span().and_then(|span| text.get(span)).map(shown).unwrap_or_default();
    if error.message() == "duplicate key" {
        return format!("`{part}` is given twice: remove one of them");
    }
    format!("not TOML: {}{}", error.message(), if part.is_empty() { "" } else { " at " }) + &part
}

fn unknown(name: &str, value: &DeValue<'_>) -> String {
    if value.is_table() {
        return format!("[{name}] is a table; settings stand at the top level, outside of tables");
    }
    match nearest(name) {
        Some(setting) => format!("there is no setting `{name}`; did you mean `{setting}`?"),
        None => format!(
            "there is no setting `{name}`; `boxoffice check-config --sample` shows all of them"
        ),
    }
}

/// The setting that a mistyped name most likely means.
fn nearest(name: &str) -> Option<&'static str> {
    let name = name.to_ascii_lowercase().replace('-', "_");
    let distances = SETTINGS.iter().flat_map(|setting| {
        // A flag's name leaves out the unit.
        let flag = setting.flag.replace('-', "_");
        [(distance(&name, setting.name), setting.name), (distance(&name, &flag), setting.name)]
    });
    let (least, setting) = distances.min_by_key(|(distance, _)| *distance)?;
    (least <= 1 + name.len() / 4).then_some(setting)
}

/// Levenshtein's distance: how many bytes have to be added, removed or replaced.
fn distance(from: &str, to: &str) -> usize {
    let mut row: Vec<usize> = (0..=to.len()).collect();
    for (i, a) in from.bytes().enumerate() {
        let mut diagonal = std::mem::replace(&mut row[0], i + 1);
        for (j, b) in to.bytes().enumerate() {
            let replaced = diagonal + usize::from(a != b);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(diagonal + 1).min(row[j] + 1);
        }
    }
    row[to.len()]
}

fn shown(source: &str) -> String {
    let source = source.split_whitespace().collect::<Vec<_>>().join(" ");
    match source.char_indices().nth(SHOWN_CHARS_MAX) {
        Some((end, _)) => format!("{}…", &source[..end]),
        None => source,
    }
}

fn line_at(text: &[u8], offset: usize) -> usize {
    text[..offset.min(text.len())].split(|byte| *byte == b'\n').count()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problems(text: &str) -> Vec<String> {
        let (_, problems) = parse(text, Path::new("f"));
        problems.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn values_of_the_right_type_become_text() {
        let text = "shards = 0x10\n\nproxy_protocol = true\ntoken_keys = [\n  'a',\n  \"b\",\n]\n";
        let (entries, problems) = parse(text, Path::new("f"));
        assert_eq!(problems, []);
        let got: Vec<_> =
            entries.iter().map(|e| (SETTINGS[e.row].name, e.line, e.values.join("|"))).collect();
        let expected = [
            ("shards", 1, "16".to_owned()),
            ("proxy_protocol", 3, "true".to_owned()),
            ("token_keys", 4, "a|b".to_owned()),
        ];
        assert_eq!(got, expected);
    }

    #[test]
    fn every_problem_has_its_line() {
        let text = "shards = \"2\"\nshard = 2\nlog = 3\nkeys = ['a']\ntoken_keys = 'a'\n\
                    proxy_protocol = 'true'\nflavour = 'salt'\nconnections = 1.5\n";
        assert_eq!(
            problems(text),
            [
                "f:1: shards = \"2\": expected a whole number from 1 to 256, without quotes",
                "f:2: there is no setting `shard`; did you mean `shards`?",
                "f:3: log = 3: expected error, warn, info, debug or trace, in quotes",
                "f:4: keys = ['a']: expected a path, in quotes",
                "f:5: token_keys = 'a': expected a list; each of it a path, in quotes, between \
                 square brackets",
                "f:6: proxy_protocol = 'true': expected true or false, without quotes",
                "f:7: there is no setting `flavour`; `boxoffice check-config --sample` shows all \
                 of them",
                "f:8: connections = 1.5: expected a whole number from 1 to 1000000, without \
                 quotes",
            ]
        );
    }

    #[test]
    fn broken_lines_and_duplicates_are_told_and_the_rest_is_read() {
        let got = problems("shards = 1\nlog = \nshards = 2\nkeys = 'open\nshrads = 1\n");
        assert_eq!(got.len(), 4, "{got:#?}");
        assert!(got[0].starts_with("f:2: not TOML: "), "{got:#?}");
        assert_eq!(got[1], "f:3: `shards` is given twice: remove one of them");
        assert!(got[2].starts_with("f:4: not TOML: "), "{got:#?}");
        assert_eq!(got[3], "f:5: there is no setting `shrads`; did you mean `shards`?");
    }

    #[test]
    fn a_table_is_no_place_for_settings() {
        assert_eq!(
            problems("[server]\nshards = 1\n"),
            ["f:1: [server] is a table; settings stand at the top level, outside of tables"]
        );
    }

    #[test]
    fn a_mistyped_name_finds_its_setting() {
        for (name, meant) in [
            ("data-dir", Some("data_dir")),
            ("idle-timeout", Some("idle_timeout_s")),
            ("IDLE_TIMEOUT", Some("idle_timeout_s")),
            ("conections", Some("connections")),
            ("bianry", Some("binary")),
            ("colour", None),
        ] {
            assert_eq!(nearest(name), meant, "{name}");
        }
        assert_eq!((distance("", "abc"), distance("kitten", "sitting")), (3, 3));
    }
}
