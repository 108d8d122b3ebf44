//! Entering a Python virtualenv: its `bin` goes on `PATH`, its packages on `PYTHONPATH`. Source:
//! `circus.util.load_virtualenv`, except that without `virtualenv_py_ver` the version is looked up in
//! the virtualenv, where Circus takes that of the Python that runs it.

use std::path::{Path, PathBuf};

use super::load::Environ;
use crate::options::{OptionError, Value, WatcherOptions};

/// Puts a virtualenv into `env`. `version` is like `3.11`.
///
/// # Errors
/// There is no `site-packages` below `root`; says where it was looked for.
pub(super) fn enter(
    root: &str,
    version: Option<&str>,
    cwd: &Path,
    env: &mut Environ,
) -> Result<(), String> {
    let site = site_packages(root, version, cwd)?;
    let bin = Path::new(root).join("bin");
    if cwd.join(&bin).exists() {
        let old = env.get("PATH").cloned().unwrap_or_default();
        env.insert("PATH".to_owned(), format!("{}:{old}", bin.display()));
    }
    let site = site.to_string_lossy().into_owned();
    let mut path = linked_packages(&cwd.join(&site));
    path.extend(
        env.get("PYTHONPATH")
            .filter(|old| !old.is_empty())
            .cloned()
            .map(|old| old.split(':').map(str::to_owned).collect::<Vec<_>>())
            .unwrap_or_default(),
    );
    if !path.contains(&site) {
        path.push(site);
    }
    env.insert("PYTHONPATH".to_owned(), path.join(":"));
    Ok(())
}

/// Enters the virtualenv of a watcher that does not come from a file, if its options name one: changes its `env`.
///
/// # Errors
/// The virtualenv is not there, or the watcher has no `copy_env`, without which Circus has none either.
pub fn enter_virtualenv(options: &mut WatcherOptions, cwd: &Path) -> Result<(), OptionError> {
    let root = options.virtualenv().to_owned();
    if root.is_empty() {
        return Ok(());
    }
    let fail = |reason: String| OptionError::new("virtualenv", reason);
    if !options.copy_env() {
        return Err(fail("needs copy_env = True as well".to_owned()));
    }
    let given = options.env().into_iter().flatten();
    let mut env: Environ = given
        .map(|(name, value)| (name.clone(), value.as_str().unwrap_or_default().to_owned()))
        .collect();
    let version = options.get("virtualenv_py_ver").and_then(Value::as_str);
    enter(&root, version, cwd, &mut env).map_err(fail)?;
    let env = env.into_iter().map(|(name, value)| (name, value.into()));
    options.put("env", Value::Object(env.collect()))
}

fn site_packages(root: &str, version: Option<&str>, cwd: &Path) -> Result<PathBuf, String> {
    let lib = Path::new(root).join("lib");
    let names: Vec<String> = match version {
        Some(version) => ["python", "pypy"]
            .iter()
            .map(|name| format!("{name}{version}"))
            .collect(),
        None => {
            let mut names: Vec<String> = std::fs::read_dir(cwd.join(&lib))
                .into_iter()
                .flatten()
                .flatten()
                .filter_map(|entry| entry.file_name().into_string().ok())
                .filter(|name| name.starts_with("python") || name.starts_with("pypy"))
                .collect();
            names.sort();
            names
        }
    };
    let tried = names
        .iter()
        .map(|name| lib.join(name).join("site-packages"));
    tried
        .clone()
        .find(|path| cwd.join(path).exists())
        .ok_or_else(|| {
            let tried: Vec<String> = tried.map(|path| path.display().to_string()).collect();
            let place = if tried.is_empty() {
                lib.join("python*/site-packages").display().to_string()
            } else {
                tried.join(" and ")
            };
            format!("is not a virtualenv: {place} does not exist")
        })
}

/// The directories that the `.pth` files of a `site-packages` add, sorted.
fn linked_packages(site: &Path) -> Vec<String> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(site).into_iter().flatten().flatten() {
        let path = entry.path();
        if path.extension().is_none_or(|extension| extension != "pth") {
            continue;
        }
        let Ok(text) = std::fs::read_to_string(&path) else {
            continue;
        };
        for line in text.lines().map(str::trim_end) {
            if line.is_empty() || line.starts_with('#') || line.starts_with("import") {
                continue;
            }
            let package = site.join(line);
            if package.exists() {
                found.push(package.to_string_lossy().into_owned());
            }
        }
    }
    found.sort();
    found.dedup();
    found
}
