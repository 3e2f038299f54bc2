//! `boxoffice check-config`: the settings in force, where each came from, and what is wrong.

use std::fmt;

use super::exit::ExitCode;
use super::settings::check::check;
use super::settings::flags::SettingsArgs;
use super::settings::sample::sample;
use super::settings::table::Setting;
use super::settings::{Origin, Problem, Resolved, Settings};
use super::{Failed, print, print_line};

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    settings: SettingsArgs,
    /// Print JSON.
    #[arg(long)]
    json: bool,
    /// Print a commented configuration file with every setting, and nothing else.
    #[arg(long)]
    sample: bool,
}

pub(super) fn run(args: &Args) -> Result<(), Failed> {
    if args.sample {
        return print_line(sample().trim_end());
    }
    let resolved = args.settings.resolve();
    let mut problems = resolved.problems.clone();
    problems.extend(check(&resolved));
    let report = Report::new(&resolved, problems);
    print(&report, args.json)?;
    match &report.problems[..] {
        [] => Ok(()),
        [only] => Err(Failed::new(ExitCode::Configuration, only)),
        [first, ..] => {
            let count = report.problems.len();
            let message = format!("{first}; this is the first of {count} problems listed above");
            Err(Failed::new(ExitCode::Configuration, message))
        }
    }
}

/// Refuses to go on with a setting that cannot be used.
pub(super) fn refuse(problems: &[Problem]) -> Result<(), Failed> {
    let Some((first, more)) = problems.split_first() else { return Ok(()) };
    let more = match more.len() {
        0 => String::new(),
        count => format!("; and {count} more: `boxoffice check-config` lists them"),
    };
    Err(Failed::new(ExitCode::Configuration, format_args!("{first}{more}")))
}

#[derive(serde::Serialize)]
struct Report {
    settings: Vec<Row>,
    problems: Vec<Problem>,
}

#[derive(serde::Serialize)]
struct Row {
    name: &'static str,
    /// A number, a switch, a text, or a list of texts; null where it is unset.
    value: serde_json::Value,
    /// `default`, `file`, `environment` or `flag`.
    origin: &'static str,
    /// The file and its line, the variable, or the flag.
    #[serde(skip_serializing_if = "Option::is_none")]
    place: Option<String>,
    #[serde(skip)]
    text: String,
}

impl Report {
    fn new(resolved: &Resolved, problems: Vec<Problem>) -> Self {
        let rows = resolved.rows();
        let settings =
            rows.map(|(setting, origin)| Row::new(setting, origin, &resolved.settings)).collect();
        Self { settings, problems }
    }
}

impl Row {
    fn new(setting: &Setting, origin: &Origin, settings: &Settings) -> Self {
        let toml = setting.toml(settings);
        // What TOML and JSON have in common is all that a setting's value is made of.
        let value = toml.as_deref().map_or(serde_json::Value::Null, |toml| {
            serde_json::from_str(toml).expect("a setting's TOML is JSON as well")
        });
        let kind = match origin {
            Origin::Default => "default",
            Origin::File(..) => "file",
            Origin::Environment(_) => "environment",
            Origin::Flag(_) => "flag",
        };
        let place = (*origin != Origin::Default).then(|| origin.to_string());
        let line = match toml {
            Some(toml) => format!("{} = {toml}", setting.name),
            None => format!("# {}: {}", setting.name, setting.default_text()),
        };
        Self {
            name: setting.name,
            value,
            origin: kind,
            place,
            text: format!("{line:<48}  # {origin}"),
        }
    }
}

/// TOML, so that it can be kept as a file, and behind it one line for each problem.
impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for row in &self.settings {
            writeln!(f, "{}", row.text)?;
        }
        for problem in &self.problems {
            writeln!(f, "# problem: {problem}")?;
        }
        Ok(())
    }
}
