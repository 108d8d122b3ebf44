//! Which Python runs what a user brings.

use crate::options::{Value, WatcherOptions};
use std::path::Path;

/// The program of the interpreter for a watcher's Python code: that of its virtualenv, else the one that `[circus] python`
/// names, else `python3` on the PATH of the daemon. `cwd` is the daemon's directory.
pub fn interpreter(options: &WatcherOptions, configured: Option<&str>, cwd: &Path) -> String {
    match options.virtualenv() {
        "" => default_interpreter(configured),
        root => {
            let python = cwd.join(root).join("bin/python");
            python.to_string_lossy().into_owned()
        }
    }
}

/// The same for what belongs to no watcher.
pub fn default_interpreter(configured: Option<&str>) -> String {
    configured.unwrap_or("python3").to_string()
}

/// The directories of the watcher's PYTHONPATH: what the user brings may be there.
pub fn python_path(options: &WatcherOptions) -> Vec<String> {
    let path = options.env().and_then(|env| env.get("PYTHONPATH"));
    let path = path.and_then(Value::as_str).unwrap_or("");
    path.split(':')
        .filter(|directory| !directory.is_empty())
        .map(str::to_string)
        .collect()
}

/// Where Python code that a user brings is looked for at last: beside the configuration, and in the daemon's directory.
pub fn last_directories(config: &Path, cwd: &Path) -> Vec<String> {
    let mut paths = vec![config.parent().unwrap_or(cwd), cwd];
    paths.dedup();
    let paths = paths.into_iter();
    paths
        .map(|path| path.to_string_lossy().into_owned())
        .collect()
}

/// The arguments that make an interpreter read the text of its program, and then messages, from a descriptor: the text
/// comes as the first line, as JSON. It finds what follows in `circ_incoming` and answers on `circ_fd`.
pub fn bootstrap(interpreter: &str, fd: i32) -> Vec<String> {
    let start = "import sys, json\n\
                 circ_fd = int(sys.argv[1])\n\
                 circ_incoming = open(circ_fd, 'rb', closefd=False)\n\
                 exec(compile(json.loads(circ_incoming.readline().decode('utf-8')), 'circ', 'exec'))";
    [interpreter, "-u", "-c", start, &fd.to_string()]
        .map(str::to_string)
        .to_vec()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_python_counts() {
        let cwd = Path::new("/srv");
        let mut options = WatcherOptions::ini_defaults("w");
        assert_eq!(interpreter(&options, None, cwd), "python3");
        assert_eq!(interpreter(&options, Some("/opt/py"), cwd), "/opt/py");
        options.set_ini("virtualenv", "env").unwrap();
        assert_eq!(
            interpreter(&options, Some("/opt/py"), cwd),
            "/srv/env/bin/python"
        );
    }
}
