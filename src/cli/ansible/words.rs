//! What messages say to do, in the words of a task: most were written for the options of a command line.

use serde_json::Value;

/// What a message says, and how a task calls it. Whole phrases, because a command or what a worker printed may stand in a
/// message as well, and is not ours to change.
const PHRASES: [(&str, &str); 13] = [
    ("give --config", "give config"),
    ("no --config: only", "no config: only"),
    ("give --no-live", "give live: false"),
    ("leave out --no-live", "leave out live: false"),
    ("so --no-live leaves", "so live: false leaves"),
    (
        "--no-live and --no-persist together",
        "live: false and persist: false together",
    ),
    (
        "start a daemon on it, --start-daemon",
        "start a daemon on it, give start_daemon: true",
    ),
    ("--start-daemon needs the", "start_daemon: true needs the"),
    ("give more --timeout", "give more timeout"),
    ("give no --backup", "give no backup"),
    (
        "say what to run (--cmd, or cmd in a desired state)",
        "say what to run with cmd",
    ),
    ("give --create to add it", "give create: true to add it"),
    (
        "--force writes it all the same",
        "force: true writes it all the same",
    ),
];

/// Puts the arguments of a task in place of options, in a text or a list of texts.
pub fn translate(value: &mut Value) {
    match value {
        Value::String(text) if text.contains("--") => {
            *text = PHRASES
                .iter()
                .fold(std::mem::take(text), |text, (phrase, ours)| {
                    text.replace(phrase, ours)
                });
        }
        Value::Array(items) => items.iter_mut().for_each(translate),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use serde_json::json;

    use super::*;

    fn sources(dir: &Path, text: &mut String) {
        for entry in std::fs::read_dir(dir).unwrap().flatten() {
            let path = entry.path();
            if path.is_dir() {
                sources(&path, text);
            } else if path.extension().is_some_and(|e| e == "rs") {
                let source = std::fs::read_to_string(&path).unwrap();
                // A long text goes on in the next line.
                for part in source.split("\\\n") {
                    text.push_str(part.trim_start());
                }
            }
        }
    }

    #[test]
    fn every_phrase_is_said_somewhere() {
        let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
        let mut text = String::new();
        sources(&src.join("state"), &mut text);
        sources(&src.join("cli/config"), &mut text);
        for (phrase, _) in PHRASES {
            assert!(text.contains(phrase), "nobody says {phrase:?} any more");
        }
    }

    #[test]
    fn only_what_is_said_to_the_user_is_changed() {
        let mut told = json!(["give --no-live", "cmd a -> b --config x --timeout 3", 1]);
        translate(&mut told);
        assert_eq!(
            told,
            json!(["give live: false", "cmd a -> b --config x --timeout 3", 1])
        );
    }
}
