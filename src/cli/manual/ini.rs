//! `circus.ini(5)`: the dialect of the file and everything that may stand in it.

use clap_mangen::roff::{Roff, roman};

use super::options;
use super::page::{self, Block, code, heading, terms, text};

/// The man page.
pub fn man_page() -> String {
    let mut page = Roff::new();
    page.control(
        "TH",
        [
            "circus.ini",
            "5",
            super::NO_DATE,
            super::SOURCE,
            super::MANUAL,
        ],
    );
    page.control("SH", ["NAME"]);
    page.text([roman(
        "circus.ini - configuration of circ daemon and of Circus's circusd",
    )]);
    let mut blocks = vec![heading("Description"), text(WHAT)];
    blocks.push(code(EXAMPLE));
    blocks.extend(dialect());
    blocks.extend(files());
    blocks.extend(options::sections());
    blocks.extend(variables());
    blocks.extend([
        heading("Mistakes"),
        text(
            "The whole configuration is read and checked before anything starts or changes. Every \
             mistake is told with its file, line, section and key. A mistake found at a reload leaves \
             the daemon as it is. What is allowed but probably not meant, such as a key that nobody \
             reads in `[circus]`, is logged as a warning.",
        ),
        heading("See also"),
        text("`circ`(1), `circ-daemon`(1), `circ-state-ensure`(1)"),
    ]);
    page::roff(&mut page, &blocks);
    super::tidied(&page.render())
}

const WHAT: &str = "The file tells the daemon which commands to run, how many workers of each, and \
                    which sockets they share. The daemon reads it when it starts, at `reloadconfig`, \
                    at SIGHUP, and at `restart` without a name.";

const EXAMPLE: &str = "\
[circus]
endpoint = tcp://127.0.0.1:5555

[watcher:web]
cmd = /usr/bin/python3 worker.py --fd $(circus.sockets.web)
numprocesses = 2
use_sockets = True
copy_env = True

[socket:web]
host = 127.0.0.1
port = 8000

[env:web]
LOG_LEVEL = info";

fn dialect() -> Vec<Block> {
    vec![
        heading("Form of the file"),
        text(
            "The file is text in UTF-8. It is read as Circus 0.19 reads it, which differs from other \
             files of this kind:",
        ),
        terms([
            (
                "Sections",
                "A line `[NAME]` begins a section; the last `]` of the line ends the name. A section \
                 that comes again goes on where it stopped. Names of sections and keys are \
                 case-sensitive; commands find watchers in any case.",
            ),
            (
                "Keys",
                "A line `KEY = VALUE` or `KEY: VALUE`; the first `=` or `:` ends the key. If a key \
                 comes again in its section, the first value counts.",
            ),
            (
                "Comments",
                "A line with `#` or `;` in its first column, or with `rem` as its first word. Behind a \
                 value, `;` after white space begins a comment if it is the first `;` of the value. \
                 `#` begins no comment behind a value.",
            ),
            (
                "Long values",
                "A line that begins with white space continues the value before it, also after blank \
                 lines and comments. The lines are joined with line feeds.",
            ),
            ("Empty values", "Nothing, or `\"\"`."),
            (
                "Defaults",
                "Keys of the section `[DEFAULT]` stand in for missing ones in every section.",
            ),
        ]),
    ]
}

fn files() -> Vec<Block> {
    vec![
        heading("Further files"),
        text(
            "`include` and `include_dir` in `[circus]` name further files. All of them are read like \
             one file that begins with the main one: sections of the same name merge, and the first \
             value of a key counts. Includes inside included files are not followed. A file that \
             cannot be read, and a pattern that leads to no file, are warned of.",
        ),
    ]
}

fn variables() -> Vec<Block> {
    vec![
        heading("Variables"),
        text(
            "`$(circus.NAME)` and `((circus.NAME))` are replaced in values. Names do not distinguish \
             case. A variable that is not known stays as it is written.",
        ),
        terms([
            (
                "`circus.env.NAME`",
                "A variable of the environment: the daemon's with `[env]` over it, and in a watcher \
                 the watcher's own. In the values of all sections but `[env:PATTERN]`, except signals, \
                 hooks and resource limits.",
            ),
            (
                "`circus.wid`",
                "The number of the worker, in `cmd`, `args` and `shell_args`; `$WID` means the same.",
            ),
            (
                "`circus.sockets.NAME`",
                "The file descriptor of a socket, in `cmd`, `args` and `shell_args`. The older \
                 spelling `${socket:NAME}` means the same.",
            ),
            (
                "`circus.OPTION`",
                "The value of another option of the watcher, such as `circus.numprocesses`, in `cmd`, \
                 `args` and `shell_args`.",
            ),
        ]),
    ]
}

/// What signals do to the daemon; for its man page.
pub fn signals() -> Vec<Block> {
    vec![
        heading("Signals"),
        terms([
            (
                "SIGTERM, SIGINT, SIGQUIT",
                "Stop the watchers, those of the lowest priority first, and end.",
            ),
            (
                "SIGHUP",
                "Read the configuration again and change what has changed.",
            ),
        ]),
    ]
}
