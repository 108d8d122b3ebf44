//! What a configuration asks for that this daemon does not do yet: said at the start, never passed over in silence.

use crate::config::Config;
use crate::options::streams::{StreamClass, StreamSpec};
use crate::options::{Map, Value, WatcherOptions};

/// One sentence for each such thing.
pub fn warnings(config: &Config) -> Vec<String> {
    let mut all = Vec::new();
    let circus = &config.circus;
    if circus.httpd {
        all.push("[circus] httpd: there is no web console yet".to_string());
    }
    for watcher in &config.watchers {
        all.extend(
            of_watcher(watcher)
                .into_iter()
                .map(|what| format!("[watcher:{}] {what}", watcher.name)),
        );
    }
    all
}

fn of_watcher(watcher: &WatcherOptions) -> Vec<String> {
    let mut all = Vec::new();
    for (key, stream) in [
        ("stdout_stream", watcher.stdout_stream()),
        ("stderr_stream", watcher.stderr_stream()),
    ] {
        all.extend(stream.and_then(|stream| of_stream(key, stream)));
    }
    all
}

fn of_stream(key: &str, stream: &Map<String, Value>) -> Option<String> {
    let spec = StreamSpec::read(stream).ok()?;
    (spec.class == StreamClass::Foreign).then(|| {
        format!(
            "{key}.class: {} is not run yet; the output goes where the daemon's own goes",
            spec.class_name
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_works_is_not_complained_about() {
        let mut watcher = WatcherOptions::ini_defaults("w");
        assert_eq!(of_watcher(&watcher), Vec::<String>::new());
        watcher
            .set_ini("stdout_stream.class", "StdoutStream")
            .unwrap();
        watcher.set_ini("stderr_stream.filename", "/tmp/x").unwrap();
        assert_eq!(of_watcher(&watcher), Vec::<String>::new());
        watcher
            .set_ini("stderr_stream.class", "mine.Stream")
            .unwrap();
        let text = of_watcher(&watcher).join("\n");
        let word = "stderr_stream.class: mine.Stream is not run yet";
        assert!(text.contains(word), "{word} in {text}");
    }
}
