use super::*;

const YAML: &str = "
version: 1
disable_existing_loggers: false
formatters:
  simple:
    format: '%(levelname)s %(message)s'
handlers:
  logfile:
    class: logging.FileHandler
    filename: out.txt
    level: DEBUG
    formatter: simple
  console:
    class: logging.StreamHandler
    stream: ext://sys.stdout
    level: 30
loggers:
  circus:
    level: DEBUG
    handlers: [logfile]
    propagate: no
root:
  level: ERROR
  handlers: [console]
";

fn outputs(setup: &Setup) -> Vec<Output> {
    setup
        .destinations
        .iter()
        .map(|d| d.output.clone())
        .collect()
}

#[test]
fn the_logger_and_the_root() {
    let setup = read("x.yaml", YAML).unwrap();
    assert_eq!(outputs(&setup), [Output::File("out.txt".into())]);
    assert_eq!((setup.level, setup.fixed), (LevelFilter::DEBUG, true));
    assert_eq!(setup.warnings, [""; 0]);
    let setup = read("x.YAML", &YAML.replace("propagate: no", "propagate: yes")).unwrap();
    assert_eq!(
        outputs(&setup),
        [Output::File("out.txt".into()), Output::Stdout]
    );
    assert_eq!(setup.destinations[1].level, LevelFilter::WARN);
    // without a level of its own the logger has the root's, and its handlers if it propagates
    let setup = read("x.yaml", &YAML.replace("  circus:\n", "  other:\n")).unwrap();
    assert_eq!(
        (outputs(&setup), setup.level),
        (vec![Output::Stdout], LevelFilter::ERROR)
    );
}

#[test]
fn the_same_in_the_older_format() {
    let setup = read(
        "x.ini",
        "[loggers]\nkeys=root, circus\n[handlers]\nkeys=a,b,c\n[formatters]\nkeys=f\n\
         [logger_root]\nlevel=INFO\nhandlers=a\n\
         [logger_circus]\nqualname=circus\nlevel=NOTSET\nhandlers=b,c\n\
         [handler_a]\nclass=StreamHandler\nargs=(sys.stderr,)\nformatter=f\nlevel=ERROR\n\
         [handler_b]\nclass=handlers.RotatingFileHandler\nargs=('b.log', 'a', 1000, 3)\n\
         [handler_c]\nclass=handlers.SysLogHandler\nargs=(('h', 99), handlers.SysLogHandler.LOG_LOCAL1)\n\
         [formatter_f]\nformat=%(asctime)s ; %(message)s\ndatefmt=%H:%M\n",
    )
    .unwrap();
    let Output::Syslog(syslog) = &setup.destinations[1].output else {
        panic!("{setup:?}");
    };
    assert_eq!(
        (&syslog.address, syslog.facility),
        (&Address::Udp("h".into(), 99), 17)
    );
    assert_eq!(setup.destinations[0].output, Output::File("b.log".into()));
    let rotation = setup.destinations[0].rotation.as_ref().unwrap();
    assert_eq!((rotation.max_bytes, rotation.backup_count), (1000, 3));
    assert_eq!(setup.destinations[2].output, Output::Stderr);
    assert_eq!(
        (setup.level, setup.destinations[2].level),
        (LevelFilter::INFO, LevelFilter::ERROR)
    );
}

#[test]
fn what_only_python_can_do_is_said() {
    let json = json!({
        "version": 1,
        "formatters": {"j": {"()": "pythonjsonlogger.jsonlogger.JsonFormatter"}},
        "handlers": {
            "mail": {"class": "logging.handlers.SMTPHandler", "mailhost": "x"},
            "out": {"class": "logging.StreamHandler", "formatter": "j", "filters": ["f"]},
            "timed": {"class": "logging.handlers.TimedRotatingFileHandler", "filename": "t", "when": "midnight"},
        },
        "root": {"level": "INFO", "handlers": ["mail", "out", "timed"]},
    });
    let setup = read("x.json", &json.to_string()).unwrap();
    assert_eq!(outputs(&setup), [Output::Stderr, Output::File("t".into())]);
    assert_eq!(setup.destinations[0].format, Format::Json);
    assert!(setup.destinations[1].rotation.is_some());
    let told = setup.warnings.join("\n");
    assert!(
        told.contains("handlers.mail: logging.handlers.SMTPHandler is Python's alone"),
        "{told}"
    );
    assert!(told.contains("handlers.out: its filters"), "{told}");

    let setup = read("x.json", r#"{"version": 1}"#).unwrap();
    assert_eq!(outputs(&setup), [Output::Stderr]);
    assert!(setup.warnings[0].contains("standard error"));
}

#[test]
fn what_is_wrong_is_said_with_its_place() {
    for (file, text, reason) in [
        ("x.toml", "", "must end in .ini, .json or .yaml"),
        ("x.json", "{", "line 1"),
        ("x.json", "[]", "no dictionary"),
        ("x.json", r#"{"version": 2}"#, "version"),
        (
            "x.json",
            r#"{"root": {"level": "LOUD"}}"#,
            r#"root: level "LOUD""#,
        ),
        (
            "x.json",
            r#"{"root": {"handlers": ["h"]}}"#,
            "no handler 'h'",
        ),
        (
            "x.json",
            r#"{"root": {"handlers": ["h"]}, "handlers": {"h": {"class": "logging.FileHandler"}}}"#,
            "handlers.h: it has no filename",
        ),
        (
            "x.json",
            r#"{"root": {"handlers": ["h"]}, "formatters": {"f": {"format": "%(x)s"}},
                       "handlers": {"h": {"class": "logging.StreamHandler", "formatter": "f"}}}"#,
            "formatters.f: 'x' is no attribute",
        ),
        ("x.yaml", "a: [", "line"),
        ("x.ini", "[x]\na=1\n", "no section [loggers]"),
        (
            "x.ini",
            "[loggers]\nkeys=root\n",
            "no section [logger_root]",
        ),
    ] {
        let error = read(file, text).unwrap_err();
        assert!(error.contains(reason), "{file} {text}: {error}");
    }
}
