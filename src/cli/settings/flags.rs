//! The flags of the settings, made from the table.

use std::path::PathBuf;

use clap::{Arg, ArgAction, ArgMatches, Command};

use super::table::{SETTINGS, Setting};
use super::{Resolved, Settings};

/// A file and flags: what a program that needs the settings of a server takes.
#[derive(Clone, Debug, clap::Args)]
pub struct SettingsArgs {
    /// A TOML file with settings; the environment and flags count more
    /// [default: the one that `BOXOFFICE_CONFIG` names, or none].
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    #[command(flatten)]
    flags: Flags,
}

impl SettingsArgs {
    /// The settings in force.
    pub fn resolve(&self) -> Resolved {
        Resolved::from_environment(self.config.as_deref(), &self.flags)
    }
}

/// The settings that were given by flags.
#[derive(Clone, Debug, Default)]
pub struct Flags(Vec<(usize, Vec<String>)>);

impl Flags {
    /// Rows of the table with their values, in the table's order.
    pub fn values(&self) -> impl Iterator<Item = (usize, &[String])> {
        self.0.iter().map(|(row, values)| (*row, &values[..]))
    }
}

impl clap::FromArgMatches for Flags {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        let mut flags = Self::default();
        flags.update_from_arg_matches(matches)?;
        Ok(flags)
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        for (row, setting) in SETTINGS.iter().enumerate() {
            if let Some(values) = matches.get_many::<String>(setting.name) {
                self.0.retain(|(known, _)| *known != row);
                self.0.push((row, values.cloned().collect()));
            }
        }
        Ok(())
    }
}

impl clap::Args for Flags {
    fn augment_args(command: Command) -> Command {
        command.args(SETTINGS.iter().map(argument))
    }

    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command)
    }
}

fn argument(setting: &'static Setting) -> Arg {
    let parse = move |text: &str| {
        let given = [text.to_owned()];
        setting
            .take(&mut Settings::default(), &given)
            .map(|()| text.to_owned())
            // A flag takes one value at a time, also where it can be repeated.
            .map_err(|_| format!("expected {}", setting.kind.allowed()))
    };
    let repeated = if setting.is_list { "; may be repeated" } else { "" };
    let doc = setting.doc.trim_end_matches('.');
    let argument = Arg::new(setting.name)
        .long(setting.flag)
        .value_name(setting.placeholder)
        .value_parser(parse)
        .help(format!("{doc}{repeated} [default: {}]", setting.default_text().trim_matches('"')));
    match (setting.is_list, setting.kind) {
        (true, _) => argument.action(ArgAction::Append),
        (false, super::kind::Kind::Switch) => {
            argument.num_args(0..=1).default_missing_value("true")
        }
        (false, _) => argument,
    }
}
