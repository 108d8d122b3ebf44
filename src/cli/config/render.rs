//! `circ config render`: the effective configuration as one file.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::ValueEnum;

use super::editing::{self, Leave, Wish};
use super::keys::{self, Known};
use super::opened::Opened;
use crate::cli::output;
use crate::config::render::{self, Rendering};
use crate::config::{Config, convert};

/// Arguments of `circ config render`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The configuration file; - for standard input
    file: PathBuf,
    /// The spelling
    #[arg(long, value_enum, default_value_t = Format::Ini)]
    format: Format,
    /// Also write the defaults of the keys that are not given
    #[arg(long)]
    defaults: bool,
    /// Say of each key which file and line it comes from
    #[arg(long)]
    origin: bool,
    /// Leave the variables of the environment as they are
    #[arg(long)]
    no_expand: bool,
    /// Render the configuration as it would be with this value; may be given several times
    #[arg(long, value_name = "SECTION.KEY=VALUE", allow_hyphen_values = true)]
    set: Vec<String>,
    /// With --set: add sections that do not exist
    #[arg(long, requires = "set")]
    create: bool,
}

/// The spellings of a rendering.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Format {
    /// A circus.ini
    Ini,
    /// A circus.toml
    Toml,
    /// JSON, in the shape of a circus.toml
    Json,
}

/// Runs `circ config render`.
pub fn run(args: &Args) -> ExitCode {
    match work(args) {
        Ok(text) => {
            output::bytes(text.as_bytes());
            ExitCode::SUCCESS
        }
        Err(error) => {
            output::error(&error);
            ExitCode::FAILURE
        }
    }
}

fn work(args: &Args) -> Result<String, String> {
    let mut opened = Opened::open(&args.file)?;
    for assignment in &args.set {
        let (section, key, value) = parts(&opened, assignment)?;
        let wish = Wish::Set(vec![(key, value)]);
        let leave = Leave {
            create: args.create,
            force: false,
        };
        opened = editing::edit(&opened, &section, &wish, leave)?.after;
    }
    let config = opened.load().map_err(|error| error.to_string())?;
    let mut how = Rendering {
        expand: !args.no_expand,
        origin: args.origin,
        defaults: args.defaults,
    };
    let name = opened.shown.display().to_string();
    let mut text = ini(&opened, how)?;
    if how.expand && !means(&opened, &config, "rendering.ini", &text, how) {
        // A variable that stands for something with variables in it, read again by somebody else.
        how.expand = false;
        text = ini(&opened, how)?;
    }
    let impossible = || {
        format!("{name}: this configuration cannot be written as one file with the same meaning")
    };
    if !means(&opened, &config, "rendering.ini", &text, how) {
        return Err(impossible());
    }
    if !how.expand && !args.no_expand {
        output::plain_error(
            "warning: the variables are left as they are: with their values the configuration would mean something else",
        );
    }
    Ok(match args.format {
        Format::Ini => text,
        Format::Toml => {
            let converted = convert::ini_to_toml(text.as_bytes(), &name);
            let toml = converted.map_err(|error| error.to_string())?.text;
            // `yes` has become `true`: of a socket's keys only what they mean can be compared.
            let typed = Rendering {
                defaults: true,
                ..how
            };
            if !means(&opened, &config, "rendering.toml", &toml, typed) {
                return Err(impossible());
            }
            toml
        }
        Format::Json => format!("{:#}\n", render::json(&opened.effective, how)),
    })
}

fn ini(opened: &Opened, how: Rendering) -> Result<String, String> {
    render::ini(&opened.effective, how).map_err(|error| error.to_string())
}

/// Does the rendering read back to the same configuration?
fn means(opened: &Opened, config: &Config, name: &str, text: &str, how: Rendering) -> bool {
    let name = PathBuf::from(name);
    let overlay = BTreeMap::from([(opened.cwd.join(&name), text.as_bytes().to_vec())]);
    Config::load_edited(&name, &opened.environ, &opened.cwd, &overlay)
        .is_ok_and(|again| render::same(config, &again, how.defaults))
}

/// Section, key and value of `SECTION.KEY=VALUE`. Both names may hold dots: the split that leads to an existing section
/// and a known key is the one that is meant.
fn parts(opened: &Opened, assignment: &str) -> Result<(String, String, String), String> {
    let malformed =
        || format!("{assignment:?} is not SECTION.KEY=VALUE, such as web.numprocesses=4");
    let (address, value) = assignment.split_once('=').ok_or_else(malformed)?;
    let splits: Vec<(&str, &str)> = address
        .match_indices('.')
        .map(|(at, _)| (&address[..at], &address[at + 1..]))
        .filter(|(section, key)| !section.is_empty() && !key.is_empty())
        .collect();
    let exists = |&&(section, key): &&(&str, &str)| {
        opened.section(section, &[key]).is_ok_and(|section| {
            keys::known(&section, key) == Known::Yes
                || opened.effective.get(&section, key).is_some()
        })
    };
    let leads = |&&(section, key): &&(&str, &str)| opened.section(section, &[key]).is_ok();
    let known = |&&(section, key): &&(&str, &str)| {
        keys::known(&super::address::canonical(section), key) == Known::Yes
    };
    let (section, key) = splits
        .iter()
        .find(exists)
        .or_else(|| splits.iter().find(leads))
        .or_else(|| splits.iter().find(known))
        .or_else(|| splits.last())
        .ok_or_else(malformed)?;
    Ok(((*section).to_owned(), (*key).to_owned(), value.to_owned()))
}
