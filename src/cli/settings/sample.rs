//! The commented sample of a configuration file.

use super::table::{SETTINGS, Setting};

const OPENING: &str = "\
# The settings of Boxoffice, with their defaults.
#
# Name this file by --config or BOXOFFICE_CONFIG; by convention it is
# /etc/boxoffice/boxoffice.toml. A variable of the environment counts more than this file, and a
# flag more than both. `boxoffice check-config` shows what is in force and where it came from.
# Relative paths start at the working directory. No secret stands here: keys are in files.
";

/// The widest line of a comment, in characters.
const COLUMNS: usize = 98;

/// The whole file. Every setting is in it, commented out.
pub fn sample() -> String {
    SETTINGS.iter().fold(OPENING.to_owned(), |text, setting| text + "\n" + &entry(setting))
}

fn entry(setting: &Setting) -> String {
    let mut text = wrapped(setting.doc);
    text += &wrapped(&format!("Allowed: {}.", setting.allowed()));
    text += &wrapped(&format!("Default: {}.", setting.default_text()));
    let value = match setting.unset {
        Some((_, example)) => example.to_owned(),
        None => setting.default_text(),
    };
    text + &format!("#{} = {value}\n", setting.name)
}

fn wrapped(text: &str) -> String {
    let mut lines = String::new();
    let mut line = "#".to_owned();
    for word in text.split(' ') {
        if line.chars().count() + 1 + word.chars().count() > COLUMNS {
            lines += &line;
            lines.push('\n');
            "#".clone_into(&mut line);
        }
        line.push(' ');
        line += word;
    }
    lines + &line + "\n"
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::super::Resolved;
    use super::super::flags::Flags;
    use super::*;

    #[test]
    fn the_repository_has_this_very_sample() {
        assert_eq!(include_str!("../../../systemd/boxoffice.toml"), sample());
    }

    #[test]
    fn the_sample_is_a_good_file_once_its_values_are_uncommented() {
        let is_value = |line: &str| {
            let name = line.split(' ').next().unwrap_or_default();
            SETTINGS.iter().any(|setting| format!("#{}", setting.name) == name)
        };
        let text = sample();
        let values: Vec<&str> =
            text.lines().filter(|line| is_value(line)).map(|line| &line[1..]).collect();
        assert_eq!(values.len(), SETTINGS.len());
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("sample.toml");
        fs::write(&path, values.join("\n")).expect("it writes");
        let resolved = Resolved::new(Some(&path), &Flags::default(), |_| None);
        assert_eq!(resolved.problems, []);
        for (setting, origin) in resolved.rows() {
            assert!(origin.to_string().starts_with(&*path.to_string_lossy()), "{}", setting.name);
        }
    }

    #[test]
    fn the_readme_has_every_setting() {
        let readme = include_str!("../../../README.md");
        let rows: Vec<&str> = readme
            .lines()
            .skip_while(|line| *line != "| setting | flag | default | meaning |")
            .skip(2)
            .take_while(|line| line.starts_with('|'))
            .collect();
        let cell = |text: &str| text.trim_end_matches('.').replace('|', "\\|");
        let expected: Vec<String> = SETTINGS
            .iter()
            .map(|setting| {
                let flag = cell(&format!("--{} {}", setting.flag, setting.placeholder));
                let default = cell(&setting.default_text());
                let default =
                    if setting.unset.is_some() { default } else { format!("`{default}`") };
                format!("| `{}` | `{flag}` | {default} | {} |", setting.name, cell(setting.doc))
            })
            .collect();
        assert_eq!(rows, expected, "the table should be:\n{}", expected.join("\n"));
    }
}
