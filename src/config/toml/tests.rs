//! circus.toml is read as circus.ini, and edited without a byte too much.

use super::super::error::ConfigError;
use super::TomlDocument;

fn read(text: &str) -> TomlDocument {
    TomlDocument::parse(text.as_bytes(), "t.toml").unwrap_or_else(|error| panic!("{error}"))
}

fn refused(text: &str) -> String {
    match TomlDocument::parse(text.as_bytes(), "t.toml") {
        Ok(_) => panic!("{text:?} was accepted"),
        Err(error) => error.to_string(),
    }
}

/// The sections as circus.ini would say them.
fn reading(text: &str) -> String {
    let mut out = String::new();
    for (section, entries) in read(text).sections() {
        out.push_str(&format!("[{section}]\n"));
        for (key, entry) in entries {
            out.push_str(&format!("{key} = {:?} @{}\n", entry.value, entry.line));
        }
    }
    out
}

#[test]
fn tables_are_sections_and_values_their_text() {
    let text = r#"#:schema x
"$schema" = "https://example.org"
[circus]
endpoint = "tcp://127.0.0.1:5555"
umask = 0o022
warmup_delay = 0.50
debug = true
include = ["a.ini", "conf.d/*.toml"]
[watcher.web]
cmd = "python3"
args = ["-m", "a b", 7]
numprocesses = 1_000
env.HOME = "/h"
hooks.before_start = "m.f"
hooks.after_stop = { call = "m.g", ignore_failure = true }
copy_env = true
[watcher.web.rlimits]
nofile = 100
[watcher."a.b"]
cmd = '''
one
two'''
stdout_stream = { class = "FileStream", "max.x" = -1 }
virtualenv_py_ver = 3.10
x.y.z = 1e2
[env]
A = 1
"B.C" = false
[env."w*,a"]
D = "x"
[plugin.p]
use = "x.Y"
some.key = 3
["watcher:c:d"]
cmd = ""
[socket]
s = { port = 0x50 }
"#;
    let want = r#"[circus]
endpoint = "tcp://127.0.0.1:5555" @4
umask = "022" @5
warmup_delay = "0.50" @6
debug = "True" @7
include = "a.ini conf.d/*.toml" @8
[watcher:web]
cmd = "python3" @10
args = "-m 'a b' 7" @11
numprocesses = "1000" @12
hooks.before_start = "m.f" @14
hooks.after_stop = "m.g,True" @15
copy_env = "True" @16
rlimit_nofile = "100" @18
[watcher:a.b]
cmd = "one\ntwo" @20
stdout_stream.class = "FileStream" @23
stdout_stream.max.x = "-1" @23
virtualenv_py_ver = "3.10" @24
x.y.z = "100.0" @25
[env]
A = "1" @27
B.C = "False" @28
[env:w*,a]
D = "x" @30
[plugin:p]
use = "x.Y" @32
some.key = "3" @33
[watcher:c:d]
cmd = "" @35
[socket:s]
port = "80" @37
[env:web]
HOME = "/h" @13
"#;
    assert_eq!(reading(text), want);
    assert_eq!(read(text).to_string(), text);
}

#[test]
fn a_table_without_keys_is_a_section_and_one_that_only_leads_on_is_not() {
    assert_eq!(
        reading("[watcher.a]\n[watcher.b.env]\n"),
        "[watcher:a]\n[env:b]\n"
    );
    assert_eq!(reading("[watcher]\n[env.x]\n"), "[env:x]\n");
    assert_eq!(reading("watcher.a = {}\n"), "[watcher:a]\n");
    // A name is no pattern, and it may be given apart from the section.
    assert_eq!(
        reading("[watcher.\"a*\".env]\nA = 1\n[watcher.b]\nname = \"c\"\nenv.A = 2\n"),
        "[watcher:b]\nname = \"c\" @4\n[env:a[*]]\nA = \"1\" @2\n[env:c]\nA = \"2\" @5\n"
    );
}

#[test]
fn what_circus_ini_could_not_say_is_told_with_its_line() {
    for (text, want) in [
        (
            "[watcher.a]\nnumprocesses = true",
            "t.toml:2: [watcher.a] numprocesses: true is a truth value; a number",
        ),
        (
            "[watcher.a]\ncmd = [\"x\"]",
            "t.toml:2: [watcher.a] cmd: this is a list; text in quotes",
        ),
        (
            "[watcher.a]\nargs = [1.5]",
            "t.toml:2: [watcher.a] args: 1.5 cannot stand in a list of words",
        ),
        (
            "[watcher.a]\ncmd = 2020-01-01",
            "t.toml:2: [watcher.a] cmd: 2020-01-01 is a date",
        ),
        (
            "[watcher.a.cmd]\nx = 1",
            "t.toml:1: [watcher.a] cmd: cmd has one value",
        ),
        (
            "[watcher.a]\nhooks.x.y = 1",
            "t.toml:2: [watcher.a] hooks.x: a hook is",
        ),
        (
            "[watcher.a]\nhooks.before_start = {x = 1}",
            "t.toml:2: [watcher.a] hooks.before_start: a hook is",
        ),
        (
            "[circus]\numask = 22",
            "t.toml:2: [circus] umask: 22 is not an octal number",
        ),
        (
            "[circus]\ninclude = [\"a b\"]",
            "t.toml:2: [circus] include: \"a b\" cannot stand",
        ),
        (
            "[circus.watcher.a]\n",
            "t.toml:1: [circus] watcher: one value is expected",
        ),
        (
            "[watchers.a]\n",
            "t.toml:1: [watchers] a: there is no such table",
        ),
        (
            "[[watcher]]\n",
            "t.toml:1: watcher: [[…]] makes a list of tables; expected [watcher.NAME]",
        ),
        (
            "[watcher]\ncmd = 1\n",
            "t.toml:2: watcher.cmd: a value stands outside any section; expected [watcher.cmd]",
        ),
        ("cmd = 1\n", "t.toml:1: cmd: a value stands outside"),
        (
            "[watcher.a]\nx = 1\n[\"watcher:a\"]\n",
            "t.toml:3: [watcher.a] and [\"watcher:a\"] are two spellings",
        ),
        (
            "[env.a]\n[watcher.a.env]\n",
            "t.toml:2: [env.a] and [watcher.a.env] are two spellings",
        ),
        (
            "[watcher.a]\n\"hooks.x\" = \"\"\nhooks.x = \"\"\n",
            "t.toml:3: [watcher.a] hooks.x: the key stands on line 2 too",
        ),
        (
            "[watcher.a]\nk = 1\nk = 2\n",
            "t.toml:3: \"k = 2\": duplicate key; the same key or table stands above",
        ),
        (
            "[watcher.a]\n[watcher.a]\n",
            "t.toml:2: \"[watcher.a]\": duplicate key",
        ),
        (
            "[watcher.a]\nk = four\n",
            "t.toml:2: \"k = four\": invalid boolean, expected `false`; write true or false; text stands in quotes",
        ),
        (
            "[watcher:a]\n",
            "t.toml:1: \"[watcher:a]\": invalid unquoted key, expected letters, numbers, `-`, `_`; a section is written with a dot",
        ),
        (
            "[watcher.a]\ncmd = sleep 1\n",
            "t.toml:2: \"cmd = sleep 1\": string values must be quoted; write key = \"text\"",
        ),
        (
            "; c\n",
            "t.toml:1: \"; c\": key with no value, expected `=`; a comment begins with #",
        ),
        (
            "[watcher.\"a,b\".env]\nA = 1\n",
            "t.toml:1: [watcher.\"a,b\"] env: variables of a watcher",
        ),
        (
            "[watcher.a]\n__name__ = \"b\"\n",
            "t.toml:2: [watcher.a] __name__: Circus sets this key",
        ),
    ] {
        let error = refused(text);
        assert!(error.starts_with(want), "{text:?}: {error:?}");
    }
    let both = refused("[watcher.a]\ncmd = []\nshell = 1979-05-27\n");
    assert_eq!(both.lines().count(), 2, "{both}");
    let error = TomlDocument::parse(b"[a]\nk = \"\xff\"", "t.toml").map(|_| ());
    let error = error.map_err(|error| error.to_string()).unwrap_err();
    assert!(
        error.starts_with("t.toml:2: byte 0xff is not UTF-8 here; circus.toml"),
        "{error}"
    );
}

#[test]
fn set_touches_the_value_and_nothing_else() -> Result<(), ConfigError> {
    for (text, section, key, value, want) in [
        (
            "[watcher.a]\nnumprocesses  =  1 # why\n",
            "watcher:a",
            "numprocesses",
            "2",
            "[watcher.a]\nnumprocesses  =  2 # why\n",
        ),
        (
            "[watcher.a]\r\ncmd='x'\r\n",
            "watcher:a",
            "cmd",
            "y",
            "[watcher.a]\r\ncmd=\"y\"\r\n",
        ),
        (
            "[watcher.a]\ncopy_env = \"no\"",
            "watcher:a",
            "copy_env",
            "yes",
            "[watcher.a]\ncopy_env = true",
        ),
        (
            "[watcher.a]\ncopy_env = true",
            "watcher:a",
            "copy_env",
            "1",
            "[watcher.a]\ncopy_env = true",
        ),
        (
            "[watcher.a]\ngraceful_timeout = 30",
            "watcher:a",
            "graceful_timeout",
            "2.5",
            "[watcher.a]\ngraceful_timeout = 2.5",
        ),
        (
            "[watcher.a]\nnumprocesses = 1",
            "watcher:a",
            "numprocesses",
            "$(circus.env.n)",
            "[watcher.a]\nnumprocesses = \"$(circus.env.n)\"",
        ),
        (
            "[watcher.a]\nargs = ['b', \"c d\"]",
            "watcher:a",
            "args",
            "x 'y z'",
            "[watcher.a]\nargs = [\"x\", \"y z\"]",
        ),
        (
            "[watcher.a]\nargs = ['b']",
            "watcher:a",
            "args",
            "x  \"y\"",
            "[watcher.a]\nargs = 'x  \"y\"'",
        ),
        (
            "[watcher.a]\nargs = 'b'",
            "watcher:a",
            "args",
            "x y",
            "[watcher.a]\nargs = \"x y\"",
        ),
        (
            "[watcher.a]\nhooks = {before_stop = 'm.f', after_stop = 'g'}\n",
            "watcher:a",
            "hooks.before_stop",
            "m.g",
            "[watcher.a]\nhooks = {before_stop = \"m.g\", after_stop = 'g'}\n",
        ),
        (
            "[watcher.a]\nhooks.before_stop = { call = 'm.f' }\n",
            "watcher:a",
            "hooks.before_stop",
            "m.f,True",
            "[watcher.a]\nhooks.before_stop = \"m.f,True\"\n",
        ),
        (
            "[watcher.a]\nrlimits.nofile = 1\n",
            "watcher:a",
            "rlimit_nofile",
            "2",
            "[watcher.a]\nrlimits.nofile = 2\n",
        ),
        (
            "[watcher.a]\ncmd = 'x'\n",
            "watcher:a",
            "cmd",
            "one\ntwo",
            "[watcher.a]\ncmd = \"\"\"\none\ntwo\"\"\"\n",
        ),
        ("[env]\nA = 1\n", "env", "A", "2", "[env]\nA = \"2\"\n"),
    ] {
        let mut document = read(text);
        document.set(section, key, value)?;
        assert_eq!(document.to_string(), want, "{text:?} {key} := {value:?}");
    }
    Ok(())
}

#[test]
fn a_new_key_comes_after_the_last_one() -> Result<(), ConfigError> {
    for (text, key, value, want) in [
        (
            "[watcher.a]\ncmd = 'x'\n\n# c\n[watcher.b]\n",
            "numprocesses",
            "2",
            "[watcher.a]\ncmd = 'x'\nnumprocesses = 2\n\n# c\n[watcher.b]\n",
        ),
        ("[watcher.a]", "k", "v", "[watcher.a]\nk = \"v\""),
        (
            "[watcher.a]\r\n  x = 1 # c\r\n",
            "k",
            "v",
            "[watcher.a]\r\n  x = 1 # c\r\n  k = \"v\"\r\n",
        ),
        (
            "[watcher.a]\nx = 1\n[watcher.a.hooks]\nafter_stop = 'y'\n",
            "hooks.after_start",
            "m.f",
            "[watcher.a]\nx = 1\n[watcher.a.hooks]\nafter_stop = 'y'\nafter_start = \"m.f\"\n",
        ),
        (
            "[watcher.a]\nx = 1\n[watcher.a.hooks]\nafter_stop = 'y'\n",
            "cmd",
            "z",
            "[watcher.a]\nx = 1\ncmd = \"z\"\n[watcher.a.hooks]\nafter_stop = 'y'\n",
        ),
        (
            "[watcher.a.hooks]\nafter_stop = 'y'\n",
            "cmd",
            "z",
            "[watcher.a]\ncmd = \"z\"\n\n[watcher.a.hooks]\nafter_stop = 'y'\n",
        ),
        (
            "[watcher.a]\nx = 1\n",
            "hooks.after_start",
            "m.f",
            "[watcher.a]\nx = 1\nhooks.after_start = \"m.f\"\n",
        ),
        (
            "[watcher.a]\nhooks = {after_stop = 'y'}\n",
            "hooks.after_start",
            "m.f",
            "[watcher.a]\nhooks = {after_stop = 'y', after_start = \"m.f\"}\n",
        ),
        (
            "[watcher.a]\nrlimits = { nofile = 1 }\n",
            "rlimit_core",
            "2",
            "[watcher.a]\nrlimits = { nofile = 1, core = 2 }\n",
        ),
        (
            "[watcher.a]\nx = 1\n",
            "rlimit_core",
            "2",
            "[watcher.a]\nx = 1\nrlimit_core = 2\n",
        ),
        (
            "watcher.a.cmd = 'x'\nwatcher.b.cmd = 'y'\n",
            "numprocesses",
            "2",
            "watcher.a.cmd = 'x'\nwatcher.a.numprocesses = 2\nwatcher.b.cmd = 'y'\n",
        ),
        (
            "[watcher]\na = { cmd = 'x' }\n",
            "numprocesses",
            "2",
            "[watcher]\na = { cmd = 'x', numprocesses = 2 }\n",
        ),
        (
            "[watcher]\na = {}\n",
            "numprocesses",
            "2",
            "[watcher]\na = { numprocesses = 2 }\n",
        ),
        (
            "[watcher.a]\nfoo = 1\n",
            "foo.bar",
            "2",
            "[watcher.a]\nfoo = 1\n\"foo.bar\" = \"2\"\n",
        ),
        (
            "[watcher.a]\nx = 1\n",
            "env.FOO",
            "2",
            "[watcher.a]\nx = 1\n\"env.FOO\" = \"2\"\n",
        ),
    ] {
        let mut document = read(text);
        document.set("watcher:a", key, value)?;
        assert_eq!(document.to_string(), want, "{text:?} {key} := {value:?}");
    }
    Ok(())
}

#[test]
fn keys_go_with_their_line() -> Result<(), ConfigError> {
    for (text, key, want) in [
        (
            "[watcher.a]\nx = 1 # c\ny = 2\n",
            "x",
            "[watcher.a]\ny = 2\n",
        ),
        (
            "[watcher.a]\nx = '''\n1\n'''\ny = 2",
            "x",
            "[watcher.a]\ny = 2",
        ),
        ("[watcher.a]\nx = 1", "x", "[watcher.a]"),
        (
            "[watcher]\na = { x = 1, y = 2 }\n",
            "x",
            "[watcher]\na = { y = 2 }\n",
        ),
        ("[watcher]\na = { x = 1 }\n", "x", "[watcher]\na = {}\n"),
        ("watcher.a.x = 1\n", "x", "watcher.a = {}\n"),
        (
            "[watcher.a.hooks]\nx = 'm.f'\n",
            "hooks.x",
            "[watcher.a.hooks]\n",
        ),
    ] {
        let mut document = read(text);
        assert!(document.unset("watcher:a", key)?);
        assert_eq!(
            document.to_string().replace("{ }", "{}"),
            want,
            "{text:?} without {key}"
        );
        assert!(!document.unset("watcher:a", key)?);
    }
    Ok(())
}

#[test]
fn sections_come_and_go() -> Result<(), ConfigError> {
    let text = "[circus]\nx = 1\n\n[watcher.a]\ncmd = \"a\"\n# end of a\n\n# sockets\n[socket.w]\nport = 1\n";
    let mut document = read(text);
    let options = [
        ("cmd", "b"),
        ("args", ""),
        ("numprocesses", "2"),
        ("hooks.after_stop", "m.f"),
        ("x.y z", "1"),
    ];
    document.add_section("watcher:b c", &options)?;
    let with_b = "[circus]\nx = 1\n\n[watcher.a]\ncmd = \"a\"\n# end of a\n\n[watcher.\"b c\"]\ncmd = \"b\"\nargs = \"\"\n\
                  numprocesses = 2\nhooks.after_stop = \"m.f\"\n\"x.y z\" = \"1\"\n\n# sockets\n[socket.w]\nport = 1\n";
    assert_eq!(document.to_string(), with_b);
    assert!(document.add_section("watcher:b c", &[]).is_err());
    assert!(document.remove_section("watcher:b c")?);
    assert_eq!(document.to_string(), text);
    assert!(!document.remove_section("watcher:b c")?);
    document.add_section("env:a", &[("K", "1")])?;
    let with_env = "[circus]\nx = 1\n\n[watcher.a]\ncmd = \"a\"\n# end of a\n\n[watcher.a.env]\nK = \"1\"\n\n\
                    # sockets\n[socket.w]\nport = 1\n";
    assert_eq!(document.to_string(), with_env);
    document.add_section("watcher:c", &[("cmd", "c")])?;
    document.add_section("env:x*", &[("K", "2")])?;
    document.add_section("plugin:p", &[("use", "x")])?;
    document.add_section("env", &[("K", "3")])?;
    let all = "[circus]\nx = 1\n\n[watcher.a]\ncmd = \"a\"\n# end of a\n\n[watcher.a.env]\nK = \"1\"\n\n\
               [watcher.c]\ncmd = \"c\"\n\n# sockets\n[socket.w]\nport = 1\n\n[env.\"x*\"]\nK = \"2\"\n\n\
               [plugin.p]\nuse = \"x\"\n\n[env]\nK = \"3\"\n";
    assert_eq!(document.to_string(), all);
    Ok(())
}

#[test]
fn a_new_table_does_not_cut_another_one() -> Result<(), ConfigError> {
    let mut document = read("[env]\n\"w*\" = { A = 1 }\nB = 1\n\n[circus]\nx = 1\n");
    document.add_section("env:y*", &[("C", "1")])?;
    let want = "[env]\n\"w*\" = { A = 1 }\nB = 1\n\n[env.\"y*\"]\nC = \"1\"\n\n[circus]\nx = 1\n";
    assert_eq!(document.to_string(), want);
    Ok(())
}

#[test]
fn what_stands_inside_a_removed_section_stays() -> Result<(), ConfigError> {
    for (text, want) in [
        (
            "[watcher.a]\ncmd = \"x\"\n[watcher.a.env]\nA = 1\n",
            "[watcher.a.env]\nA = 1\n",
        ),
        (
            "[watcher.a]\ncmd = \"x\"\nenv.A = 1\n",
            "[env.a]\nA = \"1\"\n",
        ),
        (
            "[watcher.a]\nenv = { A = 1 }\ncmd = \"x\"\n[watcher.b]\n",
            "[watcher.b]\n\n[env.a]\nA = \"1\"\n",
        ),
        (
            "[watcher]\na = { cmd = \"x\", env = { A = 1 } }\nb = {}\n",
            "[watcher]\nb = {}\n\n[env.a]\nA = \"1\"\n",
        ),
    ] {
        let mut document = read(text);
        assert!(document.remove_section("watcher:a")?);
        assert_eq!(document.to_string(), want, "{text:?}");
    }
    Ok(())
}

#[test]
fn a_byte_order_mark_stays_where_it_is() -> Result<(), ConfigError> {
    let mut document = read("\u{feff}[watcher.a]\ncmd = \"x\"\n");
    document.set("watcher:a", "cmd", "y")?;
    document.add_section("watcher:b", &[])?;
    let want = "\u{feff}[watcher.a]\ncmd = \"y\"\n\n[watcher.b]\n";
    assert_eq!(document.to_string(), want);
    Ok(())
}

#[test]
fn an_empty_document_is_filled() -> Result<(), ConfigError> {
    let mut document = TomlDocument::empty("new.toml");
    document.add_section("watcher:a", &[("cmd", "x")])?;
    assert_eq!(document.to_string(), "[watcher.a]\ncmd = \"x\"\n");
    Ok(())
}
