//! Random files in every spelling, and random edits of them: an edit is done as asked or not at all, and a plain one
//! is always done.

use proptest::prelude::*;

use super::super::Format;
use super::super::document::Document;
use super::TomlDocument;
use super::literal::canonical;

/// Choices taken one after the other from random bytes.
pub(in super::super) struct Chance<'a>(std::slice::Iter<'a, u8>);

impl<'a> Chance<'a> {
    pub fn new(bytes: &'a [u8]) -> Self {
        Self(bytes.iter())
    }

    fn below(&mut self, limit: usize) -> usize {
        usize::from(self.0.next().copied().unwrap_or_default()) % limit
    }

    fn pick<'t, T: ?Sized>(&mut self, from: &[&'t T]) -> &'t T {
        from[self.below(from.len())]
    }

    fn is_done(&self) -> bool {
        self.0.as_slice().is_empty()
    }
}

const NAMES: &[&str] = &["a", "b", "\"x.y\"", "\"w*\"", "'c d'", "é", "env", "\"\""];
const VALUES: &[&str] = &[
    "1",
    "-7",
    "0.50",
    "true",
    "false",
    "\"x y\"",
    "'lit'",
    "\"\"",
    "\"\"\"\none\n  two\"\"\"",
    "'''x'''",
    "[\"a\", \"b c\"]",
    "[ # c\n 'a',\n]",
    "\"yes\"",
    "1_0",
    "0x1F",
    "\"é\\u0000\"",
];
const KEYS: &[&str] = &[
    "cmd",
    "args",
    "numprocesses",
    "copy_env",
    "hooks.before_start",
    "rlimits.nofile",
    "rlimit_core",
    "env.A",
    "\"q.r\"",
    "x.y.z",
    "stdout_stream.class",
    "hooks . after_stop",
];

/// Entries for the lines below a header; `inline` for those between braces.
fn entry(chance: &mut Chance, inline: bool) -> String {
    let key = chance.pick(KEYS);
    let separator = chance.pick(&[" = ", "=", "  =\t"]);
    let value = match chance.below(8) {
        0 if key == "hooks.before_start" => "{ call = 'm.f', ignore_failure = true }".to_owned(),
        _ => chance.pick(VALUES).to_owned(),
    };
    let comment = if inline {
        ""
    } else {
        chance.pick(&["", "", " # why = 1", "\t"])
    };
    format!("{key}{separator}{value}{comment}")
}

fn braces(chance: &mut Chance) -> String {
    let entries: Vec<String> = (0..chance.below(4)).map(|_| entry(chance, true)).collect();
    let space = chance.pick(&["", " "]);
    format!(
        "{{{space}{}{space}}}",
        entries.join(chance.pick(&[", ", ",", " , "]))
    )
}

/// A file as somebody could write it: much of it right, some of it not.
pub(in super::super) fn file(chance: &mut Chance) -> String {
    let mut text = String::new();
    while !chance.is_done() {
        let line = match chance.below(16) {
            0 => String::new(),
            1 => chance.pick(&["# c", "  # d", "\t"]).to_owned(),
            2..=4 => format!("[watcher.{}]", chance.pick(NAMES)),
            5 => {
                let table = chance.pick(&["env", "hooks", "rlimits", "stdout_stream"]);
                format!("[watcher.{}.{table}]", chance.pick(NAMES))
            }
            6 => {
                let kind = chance.pick(&["socket", "plugin", "env"]);
                format!("[{kind}.{}]", chance.pick(NAMES))
            }
            7 => {
                let whole = [
                    "[circus]",
                    "[env]",
                    "[watcher]",
                    "[socket]",
                    "[DEFAULT]",
                    "[\"watcher:b\"]",
                ];
                chance.pick(&whole).to_owned()
            }
            8 => format!("{} = {}", chance.pick(NAMES), braces(chance)),
            9 => {
                let key = chance.pick(&["hooks", "rlimits", "env", "stdout_stream"]);
                format!("{key} = {}", braces(chance))
            }
            10 => format!("{}.{}", chance.pick(NAMES), entry(chance, false)),
            _ => format!("{}{}", chance.pick(&["", "", "  "]), entry(chance, false)),
        };
        // A line that does not fit is left out, nearly always.
        let longer = format!("{text}{line}\n");
        if chance.below(40) == 0 || read(&longer).is_some() {
            text = longer;
        }
    }
    match chance.below(6) {
        0 => text.replace('\n', "\r\n"),
        1 => text.trim_end_matches('\n').to_owned(),
        _ => text,
    }
}

fn read(text: &str) -> Option<Document> {
    Document::parse_as(Format::Toml, text.as_bytes(), "t.toml").ok()
}

fn values(document: &Document) -> Vec<(String, Vec<(String, String)>)> {
    let mut all: Vec<_> = document
        .sections()
        .map(|section| {
            let entries = document.entries(section).into_iter().flatten();
            let mut entries: Vec<_> = entries
                .map(|(key, entry)| (key.clone(), canonical(section, key, &entry.value)))
                .collect();
            entries.sort();
            (section.to_owned(), entries)
        })
        // An empty section means the same as none.
        .filter(|(_, entries): &(String, Vec<_>)| !entries.is_empty())
        .collect();
    all.sort();
    all
}

/// What can be said of any value in any place.
const PLAIN: &[&str] = &[
    "v",
    "4",
    "True",
    "no",
    "",
    "a b",
    "x \"y\" 'z'",
    "one\ntwo",
    "a ; b",
    " lead",
    "0.5",
    "$(circus.wid)",
];

proptest! {
    #![proptest_config(ProptestConfig { cases: 1000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn an_edit_is_done_as_asked_or_not_at_all(
        bytes in prop::collection::vec(any::<u8>(), 0..60),
        edit in any::<[u8; 4]>(),
        wild in ".{0,6}",
    ) {
        let text = file(&mut Chance::new(&bytes));
        let Some(document) = read(&text) else { return Ok(()) };
        prop_assert_eq!(document.to_string(), text.as_str());
        let mut chance = Chance::new(&edit);
        let known: Vec<String> = document.sections().map(str::to_owned).collect();
        let section = known.get(chance.below(known.len().max(1))).cloned().unwrap_or("watcher:a".into());
        let keys: Vec<String> = document.entries(&section).into_iter().flatten().map(|(k, _)| k.clone()).collect();
        let fresh = ["cmd", "numprocesses", "rlimit_as", "hooks.after_start", "new", "copy_env", "p.q", "two words"];
        let key = match keys.get(chance.below(keys.len() + 3)) {
            Some(key) => key.clone(),
            None => chance.pick(&fresh).to_owned(),
        };
        let plain = chance.below(4) != 0;
        let value = if plain { chance.pick(PLAIN).to_owned() } else { wild.clone() };

        let mut edited = document.clone();
        match edited.set(&section, &key, &value) {
            Ok(changed) => {
                let wanted = canonical(&section, &key, &value);
                prop_assert_eq!(edited.get(&section, &key), Some(wanted.as_str()));
                prop_assert_eq!(changed, edited.to_string() != text);
                // It is the only difference.
                let mut back = edited.clone();
                match document.get(&section, &key) {
                    Some(before) => { back.set(&section, &key, before)?; }
                    None => { back.unset(&section, &key)?; }
                }
                prop_assert_eq!(values(&back), values(&document), "{}", edited);
                prop_assert!(!edited.set(&section, &key, &value)?);
                prop_assert_eq!(edited.to_string().ends_with('\n'), text.ends_with('\n') || text.is_empty());
            }
            Err(error) => {
                prop_assert_eq!(&edited, &document);
                prop_assert!(!document.has_section(&section), "{error}: {text}");
            }
        }

        let mut edited = document.clone();
        match edited.unset(&section, &key) {
            Ok(_) => prop_assert_eq!(edited.get(&section, &key), None),
            Err(error) => prop_assert!(false, "{error}: {text}"),
        }

        let name = if plain { ["watcher:new", "socket:a b", "env:x*", "plugin:p.q", "env:a"][chance.below(5)] } else { &wild };
        let mut edited = document.clone();
        match edited.add_section(name, &[(&key, &value), ("other.key", "1")]) {
            Ok(()) => {
                let wanted = canonical(name, &key, &value);
                prop_assert_eq!(edited.get(name, &key), Some(wanted.as_str()));
                prop_assert!(edited.remove_section(name)?);
                prop_assert_eq!(values(&edited), values(&document));
            }
            Err(error) => {
                prop_assert_eq!(&edited, &document);
                prop_assert!(!plain || document.has_section(name), "{error}: {text}");
            }
        }

        let mut edited = document.clone();
        match edited.remove_section(&section) {
            Ok(removed) => {
                prop_assert_eq!(removed, document.has_section(&section));
                let mut rest = values(&document);
                rest.retain(|(name, _)| *name != section);
                prop_assert_eq!(values(&edited), rest, "{}", edited);
            }
            Err(error) => prop_assert!(false, "{error}: {text}"),
        }
    }

    #[test]
    fn any_bytes_are_read_or_refused(text in "(\\[[a.]{1,3}\\]\n|[ab.]{1,3} *= *[1\"'{}a,\\[\\]]{0,5}\n|\\PC{0,3}\n){0,6}") {
        if let Ok(document) = TomlDocument::parse(text.as_bytes(), "t.toml") {
            prop_assert_eq!(document.to_string(), text);
        }
    }
}

#[test]
fn the_generator_is_neither_too_tame_nor_too_wild() {
    let mut seed: u32 = 1;
    let mut read_well = 0;
    for _ in 0..1000 {
        let bytes: Vec<u8> = (0..30)
            .map(|_| {
                seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                (seed >> 24) as u8
            })
            .collect();
        read_well += usize::from(
            read(&file(&mut Chance::new(&bytes))).is_some_and(|d| d.sections().count() > 1),
        );
    }
    assert!(
        (100..950).contains(&read_well),
        "{read_well} of 1000 files can be read"
    );
}
