//! Conversions as a reader sees them, and round trips of random files.

use proptest::prelude::*;

use super::super::document::{Document, Format};
use super::super::toml::canonical;
use super::super::toml::random_tests::{Chance, file};
use super::{Converted, Values, ini_to_toml, toml_to_ini};

fn to_toml(text: &str) -> Converted {
    ini_to_toml(text.as_bytes(), "t.ini").unwrap_or_else(|error| panic!("{error}\n{text}"))
}

fn to_ini(text: &str) -> Converted {
    toml_to_ini(text.as_bytes(), "t.toml").unwrap_or_else(|error| panic!("{error}\n{text}"))
}

/// What a text says, without sections that say nothing.
fn values(format: Format, text: &str) -> Values {
    let document = Document::parse_as(format, text.as_bytes(), "t")
        .unwrap_or_else(|error| panic!("{error}\n{text}"));
    let section = |section: &str| {
        let entries = document.entries(section).into_iter().flatten();
        entries
            .map(|(key, entry)| (key.clone(), canonical(section, key, &entry.value)))
            .collect()
    };
    let all = document
        .sections()
        .map(|name| (name.to_owned(), section(name)));
    all.filter(|(_, keys): &(String, indexmap::IndexMap<_, _>)| !keys.is_empty())
        .collect()
}

#[test]
fn ini_becomes_toml_with_its_comments() {
    let ini = "; the daemon\n[circus]\nendpoint = tcp://127.0.0.1:5555\nwarmup_delay=0.5\numask = 022\n\n\
               # web workers\n[watcher:web] ; here\ncmd = python3 -m x ; why not\nargs = --a 'b c'\nnumprocesses = 4\n\
               copy_env = yes\nmax_age = 1_0\n\nenvy = 1\nhooks.before_start = m.f,True\nmy.own = x\nrlimit_nofile = 10\n\
               stdout_stream.class = FileStream\nlong = one\n  # inside\n  two\n\n[env:web]\nA = 1\n\n[env]\nB = 2\n\
               # the end\n";
    let toml = "# the daemon\n[circus]\nendpoint = \"tcp://127.0.0.1:5555\"\nwarmup_delay = 0.5\numask = \"022\"\n\n\
                # web workers\n[watcher.web]\n# here\ncmd = \"python3 -m x\" # why not\nargs = \"--a 'b c'\"\n\
                numprocesses = 4\ncopy_env = true\nmax_age = \"1_0\"\n\nenvy = \"1\"\nhooks.before_start = \"m.f,True\"\n\
                \"my.own\" = \"x\"\nrlimit_nofile = 10\nstdout_stream.class = \"FileStream\"\n\
                long = \"\"\"\none\n# inside\ntwo\"\"\"\n\n[watcher.web.env]\nA = \"1\"\n\n[env]\nB = \"2\"\n# the end\n";
    let made = to_toml(ini);
    assert_eq!(made.text, toml);
    assert_eq!(made.notes, Vec::<String>::new());
}

#[test]
fn what_comes_twice_is_merged_and_told() {
    let ini = "[watcher:a]\ncmd = x\ncmd = y\n[socket:s]\nport = 1\n# more of a\n[watcher:a]\nshell = True\ncmd = z\n\
               [watcher]\ncmd = n\n[circus]\ninclude = b.ini\n";
    let made = to_toml(ini);
    assert_eq!(
        made.text,
        "[watcher.a]\ncmd = \"x\"\n# cmd = y\n# more of a\nshell = true\n# cmd = z\n[socket.s]\nport = 1\n\
         # [watcher]\n# cmd = n\n[circus]\ninclude = \"b.ini\"\n"
    );
    let lines: Vec<&str> = made
        .notes
        .iter()
        .map(|note| note.split(':').next().unwrap_or_default())
        .collect();
    assert_eq!(
        lines,
        ["line 3", "line 7", "line 9", "line 10", "line 13"],
        "{:#?}",
        made.notes
    );
}

#[test]
fn variables_stand_with_their_watcher_only_if_no_pattern_comes_later() {
    let table = |ini: &str| {
        to_toml(ini)
            .text
            .lines()
            .find(|line| line.contains("env") && line.contains('a'))
            .map(str::to_owned)
    };
    assert_eq!(
        table("[watcher:a]\nx = 1\n[env:*]\nK = 1\n[env:a]\nK = 2\n").as_deref(),
        Some("[watcher.a.env]")
    );
    assert_eq!(
        table("[watcher:a]\nx = 1\n[env:a]\nK = 2\n[env:b,*]\nK = 1\n").as_deref(),
        Some("[env.a]")
    );
    assert_eq!(table("[env:a]\nK = 2\n").as_deref(), Some("[env.a]"));
    assert_eq!(
        table("[watcher:a]\nname = b\n[env:a]\nK = 2\n").as_deref(),
        Some("[env.a]")
    );
}

#[test]
fn toml_becomes_ini_with_its_comments() {
    let toml = "# the daemon\n[circus]\nendpoint = \"tcp://127.0.0.1:5555\" # here\ninclude = [\n  \"a.ini\", # first\n\
                  \"b.ini\",\n]\n\n  # web\n[watcher.web] # workers\ncmd = 'python3'\nargs = [\"-m\", \"a b\"]\n\
                url = \"a;b\" # not inline\nnumprocesses = 2\nenv.A = true\n[watcher.web.hooks] # hooks\n\
                before_start = \"m.f\"\n\n[watcher]\ndb = { cmd = \"x\", env = { B = 1 } } # both\n\n[env.\"*\"]\nC = 1\n# end\n";
    let ini = "# the daemon\n[circus]\nendpoint = tcp://127.0.0.1:5555 ; here\ninclude = a.ini b.ini ; first\n\n\
               # web\n[watcher:web]\n# workers\ncmd = python3\nargs = -m 'a b'\n# not inline\nurl = a;b\nnumprocesses = 2\n\
               # hooks\nhooks.before_start = m.f\n\n# both\n[watcher:db]\ncmd = x\n\n[env:*]\nC = 1\n\n[env:web]\nA = True\n\n\
               [env:db]\nB = 1\n# end\n";
    let made = to_ini(toml);
    assert_eq!(made.text, ini);
    assert_eq!(made.notes.len(), 1, "{:#?}", made.notes);
    assert!(made.notes[0].starts_with("line 4: include: the variables of [env:web]"));
}

#[test]
fn what_circus_ini_cannot_say_is_told() {
    let toml = "\"$schema\" = \"x\"\n[watcher.a]\ncmd = \"a ; b\"\nmine = \"a ; b\"\n\"x=y\" = 1\nz = \"one\\n\\ntwo\"\n[circus]\ninclude_dir = 'd'\n\
                [\"a\\nb\"]\nk = 1\n";
    let made = to_ini(toml);
    assert_eq!(
        made.text,
        "[watcher:a]\ncmd = a ';' b\n# mine = a ; b\n# x=y = 1\n# z = one\\n\\ntwo\n[circus]\ninclude_dir = d\n# [a\\nb]\n# k = 1\n"
    );
    assert_eq!(made.notes.len(), 8, "{:#?}", made.notes);
    assert!(made.notes[1].starts_with(
        "line 3: [watcher:a] cmd: the value \"a ; b\" cannot be written: ` ;` starts"
    ));
}

#[test]
fn line_breaks_are_kept() {
    assert_eq!(
        to_ini("\u{feff}# c\n[a]\nk = \"1\"\n").text,
        "# c\n[a]\nk = 1\n"
    );
    assert_eq!(to_toml("[a]\r\nk = 1\r\n").text, "[a]\r\nk = \"1\"\r\n");
    assert_eq!(
        to_ini("[a]\r\nk = \"\"\"x\r\ny\"\"\"\r\n").text,
        "[a]\r\nk = x\r\n    y\r\n"
    );
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 800, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn toml_comes_back_from_ini(bytes in prop::collection::vec(any::<u8>(), 0..80)) {
        let text = file(&mut Chance::new(&bytes));
        if Document::parse_as(Format::Toml, text.as_bytes(), "t").is_err() {
            return Ok(());
        }
        let ini = to_ini(&text);
        let there = values(Format::Ini, &ini.text);
        if ini.notes.is_empty() {
            prop_assert_eq!(&there, &values(Format::Toml, &text), "{}", ini.text);
        }
        let again = to_toml(&ini.text);
        prop_assert_eq!(&values(Format::Toml, &again.text), &there, "{}\n{}", ini.text, again.text);
        let comments = |text: &str| text.lines().filter(|line| line.trim_start().starts_with('#')).count();
        prop_assert!(comments(&again.text) >= comments(&text), "{}", again.text);
    }

    #[test]
    fn ini_comes_back_from_toml(
        text in "(\\[(watcher:a|watcher:b|env:a|env:\\*|env|circus|x y|DEFAULT|watcher|socket:s)\\][ ;x]{0,3}\n\
                 (([ab=: ;\"\t\r\n\\[\\]#é]|[ab] = |\n |copy_env = (yes|True|x)\n|numprocesses = 0?[0-9]\n|hooks.x = 1\n|rem ){0,12}\n)){0,6}",
    ) {
        if Document::parse_as(Format::Ini, text.as_bytes(), "t").is_err() {
            return Ok(());
        }
        let toml = to_toml(&text);
        let mut meant = values(Format::Ini, &text);
        meant.shift_remove("watcher");
        prop_assert_eq!(&values(Format::Toml, &toml.text), &meant, "{}", toml.text);
        let again = to_ini(&toml.text);
        if again.notes.is_empty() {
            prop_assert_eq!(&values(Format::Ini, &again.text), &meant, "{}\n{}", toml.text, again.text);
        } else {
            // A key below its header may begin with space, which no other place can say.
            let odd = meant.values().flat_map(|keys| keys.keys()).any(|key| key.starts_with([' ', '\t']));
            prop_assert!(odd, "{:?}\n{}", again.notes, text);
        }
    }
}
