//! All files of a configuration together, before any value is converted: what counts, where it stands, and what its
//! variables become. It can be had of a configuration whose values are wrong, so that they can be looked at and put
//! right.

use std::cell::OnceCell;
use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};

use indexmap::IndexMap;

use super::document::{DEFAULT_SECTION, NAME_KEY};
use super::error::ConfigError;
use super::expand::Variables;
use super::load::{Environ, Loader};
use super::merged::{Item, SourceFile};
use super::watchers::{self, Draft, OwnVariables};

/// A value that counts, and where it stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stated {
    /// The text, before any variable in it is replaced.
    pub value: String,
    /// The file, spelled as the user spelled it.
    pub file: PathBuf,
    /// The file's absolute path.
    pub path: PathBuf,
    /// The line, counted from 1.
    pub line: usize,
    /// The section lacks the key; this is what `DEFAULT` says.
    pub by_default: bool,
}

/// A main file with everything it includes: the first value of a key counts.
pub struct Effective {
    loader: Loader,
    /// The watchers by their sections, made when the first variable is asked for.
    drafts: OnceCell<HashMap<String, Draft>>,
}

impl Effective {
    /// Reads `path` and the files it includes. The arguments are those of
    /// [`Config::load_edited`](super::Config::load_edited).
    ///
    /// # Errors
    /// A file cannot be read or is not in the dialect. Wrong values are no error here.
    pub fn read(
        path: &Path,
        environ: &BTreeMap<String, String>,
        cwd: &Path,
        edited: &BTreeMap<PathBuf, Vec<u8>>,
    ) -> Result<Self, ConfigError> {
        let environ: Environ = environ
            .iter()
            .map(|(k, v)| (k.clone(), v.clone()))
            .collect();
        let mut loader = Loader::read(path, environ, cwd, edited)?;
        loader.read_environment();
        let drafts = OnceCell::new();
        Ok(Self { loader, drafts })
    }

    /// Included files that could not be found or read.
    pub fn warnings(&self) -> &[String] {
        &self.loader.warnings
    }

    /// The files that were read, as the user spelled them and absolute; the main file comes first.
    pub fn files(&self) -> impl Iterator<Item = (&Path, &Path)> {
        let files = self.loader.merged.files.iter();
        files.map(|file| (file.shown.as_path(), file.path.as_path()))
    }

    /// The names of all sections but `DEFAULT`, in the order of their headers.
    pub fn sections(&self) -> impl Iterator<Item = &str> {
        self.loader.merged.sections.keys().map(String::as_str)
    }

    /// Is there a section of this name? `DEFAULT` is there when it has a key.
    pub fn has_section(&self, section: &str) -> bool {
        let merged = &self.loader.merged;
        merged.sections.contains_key(section)
            || section == DEFAULT_SECTION && !merged.defaults.is_empty()
    }

    /// Does the section hold the variables of one watcher, written with it in a circus.toml? Such sections come after
    /// every `[env:PATTERN]`, wherever they stand.
    pub(super) fn comes_last(&self, section: &str) -> bool {
        let own = self.loader.merged.sections.get(section);
        own.is_some_and(|own| own.of_watcher)
    }

    /// Where the section begins: file as spelled, absolute path, line (from 1).
    pub fn section_place(&self, section: &str) -> Option<(&Path, &Path, usize)> {
        let own = self.loader.merged.sections.get(section)?;
        let file = self.loader.merged.files.get(own.file)?;
        Some((&file.shown, &file.path, own.line))
    }

    /// The value of a key that counts, be it in the section itself or in `DEFAULT`.
    pub fn get(&self, section: &str, key: &str) -> Option<Stated> {
        let merged = &self.loader.merged;
        if section == DEFAULT_SECTION {
            return self.stated(merged.defaults.get(key)?, false);
        }
        let own = merged.sections.get(section)?.items.get(key);
        match own {
            Some(item) => self.stated(item, false),
            None => self.stated(merged.defaults.get(key)?, true),
        }
    }

    /// Every key of a section: those of `DEFAULT` first, then the section's own, without the `__name__` that Circus's
    /// parser adds.
    pub fn items(&self, section: &str) -> IndexMap<String, Stated> {
        let merged = &self.loader.merged;
        let none = IndexMap::new();
        let own = match section {
            DEFAULT_SECTION => &merged.defaults,
            section => match merged.sections.get(section) {
                Some(own) => &own.items,
                None => return IndexMap::new(),
            },
        };
        let defaults = match section {
            DEFAULT_SECTION => &none,
            _ => &merged.defaults,
        };
        let keys = defaults.keys().chain(own.keys());
        keys.filter(|key| *key != NAME_KEY)
            .filter_map(|key| Some((key.clone(), self.get(section, key)?)))
            .collect()
    }

    fn drafts(&self) -> &HashMap<String, Draft> {
        self.drafts.get_or_init(|| {
            let drafts = watchers::drafts(&self.loader).into_iter();
            drafts.map(|draft| (draft.section.clone(), draft)).collect()
        })
    }

    fn stated(&self, item: &Item, by_default: bool) -> Option<Stated> {
        let file: &SourceFile = self.loader.merged.files.get(item.file)?;
        Some(Stated {
            value: item.value.clone(),
            file: file.shown.clone(),
            path: file.path.clone(),
            line: item.line,
            by_default,
        })
    }

    /// The value of a key with every variable replaced that is known before anything runs: those of the environment.
    /// What only a worker has (`$(circus.wid)`, sockets) stays as it is.
    pub fn expanded(&self, section: &str, key: &str) -> Option<String> {
        let value = self.get(section, key)?.value;
        Some(self.expand(section, key, &value))
    }

    /// As [`Effective::expanded`], for a text that could be this key's value.
    pub fn expand(&self, section: &str, key: &str, text: &str) -> String {
        let loader = &self.loader;
        if section.starts_with("watcher:") {
            // A watcher's name is taken as it is written.
            if key == "name" {
                return text.to_owned();
            }
            if !Variables::may_be_in(text) {
                return text.to_owned();
            }
            let none = Environ::new();
            let env = self.drafts().get(section).map_or(&none, |draft| &draft.env);
            let own = OwnVariables::new(&loader.global_env, env);
            return watchers::expanded(key, text, &loader.variables, &own);
        }
        if section.starts_with("env:") {
            return watchers::with_dollar_names(text, &loader.environ).into_owned();
        }
        if section == "env" {
            let outside = super::load::variables_of(&loader.environ);
            let text = outside.expand(text);
            return watchers::with_dollar_names(&text, &loader.environ).into_owned();
        }
        if section == DEFAULT_SECTION {
            // Where a default is used decides which variables it may hold.
            return text.to_owned();
        }
        loader.variables.expand(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Effective {
        let environ = BTreeMap::from([("HOME".to_owned(), "/h".to_owned())]);
        let edited = BTreeMap::from([(PathBuf::from("/x/c.ini"), text.as_bytes().to_vec())]);
        match Effective::read(Path::new("c.ini"), &environ, Path::new("/x"), &edited) {
            Ok(effective) => effective,
            Err(error) => panic!("{error}"),
        }
    }

    #[test]
    fn what_counts_and_where_it_stands() {
        let effective = read(
            "[DEFAULT]\nuid = 5\n[watcher:a]\ncmd = x\nnumprocesses = four\ncmd = y\n[watcher:a]\nuid = 6\n[watcher:b]\n",
        );
        let place = |section, key| {
            let stated = effective.get(section, key)?;
            Some((stated.value, stated.line, stated.by_default))
        };
        assert_eq!(place("watcher:a", "cmd"), Some(("x".into(), 4, false)));
        assert_eq!(place("watcher:a", "uid"), Some(("6".into(), 8, false)));
        assert_eq!(place("watcher:b", "uid"), Some(("5".into(), 2, true)));
        assert_eq!(place("DEFAULT", "uid"), Some(("5".into(), 2, false)));
        assert_eq!(place("watcher:c", "uid"), None);
        let keys: Vec<String> = effective.items("watcher:a").into_keys().collect();
        assert_eq!(keys, ["uid", "cmd", "numprocesses"]);
        assert!(effective.has_section("DEFAULT") && !effective.has_section("circus"));
    }

    #[test]
    fn variables_become_what_a_daemon_makes_of_them() {
        let effective = read(
            "[env]\nA = $(circus.env.HOME)/a\n[circus]\npidfile = $(circus.env.A)/p\n[env:w]\nB = $HOME/b$NOPE\n\
             [watcher:w]\ncmd = x $(circus.env.b) $(circus.wid)\nrlimit_as = $(circus.env.A)\n\
             name = $(circus.env.A)\n",
        );
        for (section, key, want) in [
            ("env", "A", "/h/a"),
            ("circus", "pidfile", "/h/a/p"),
            ("env:w", "B", "/h/b"),
            ("watcher:w", "rlimit_as", "$(circus.env.A)"),
            ("watcher:w", "name", "$(circus.env.A)"),
        ] {
            assert_eq!(
                effective.expanded(section, key).as_deref(),
                Some(want),
                "{section} {key}"
            );
        }
    }
}
