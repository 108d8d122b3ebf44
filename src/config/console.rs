//! The web console of `httpd = True`: a listening socket and the watcher that serves it, both called `circushttpd`, as
//! `circus.arbiter.Arbiter` makes them. The program is circ itself, as `circ web`.

use super::error::ProblemKind;
use super::load::Loader;
use super::model::{CircusOptions, SocketConfig, SocketFamily};
use super::plugins::{THIS_PROGRAM, endpoint_from_anywhere, output_from_anywhere};
use super::{shlex, watchers};
use crate::options::{Map, Value, WatcherOptions};
use std::net::IpAddr;

/// The name of the watcher and of the socket.
pub const CONSOLE: &str = "circushttpd";
/// What stands for its section, which there is none of.
pub(super) const SECTION: &str = "watcher:circushttpd";

/// The socket and the watcher, if they are wanted. Problems go into the loader.
pub(super) fn build(
    loader: &mut Loader,
    circus: &CircusOptions,
    sockets: &[SocketConfig],
) -> Option<(SocketConfig, WatcherOptions)> {
    if !circus.httpd {
        return None;
    }
    if sockets.iter().any(|socket| socket.name == CONSOLE) {
        let what = "with httpd = True, [circus] has a socket of this name for the web console; rename this one";
        let section = format!("socket:{CONSOLE}");
        let problem = loader.merged.section_problem(&section, what);
        loader.problems.push(problem);
    }
    let Ok(port) = u16::try_from(circus.httpd_port) else {
        if let Some(item) = loader.merged.get("circus", "httpd_port") {
            let what = "a port from 0 to 65535 is expected";
            let kind = ProblemKind::Value;
            let problem = loader
                .merged
                .problem(kind, "circus", "httpd_port", item, what);
            loader.problems.push(problem);
        }
        return None;
    };
    let host = circus.httpd_host.clone();
    let address: Option<IpAddr> = host.parse().ok();
    let here = host == "localhost" || address.is_some_and(|address| address.is_loopback());
    if !here && circus.httpd_password_file.is_none() && circus.httpd_token_file.is_none() {
        loader.warnings.push(
            "[circus] httpd_host: the web console does not start on an address that other machines reach without \
             httpd_password_file or httpd_token_file"
                .to_owned(),
        );
    }
    let family = match address {
        Some(IpAddr::V6(_)) => SocketFamily::Inet6,
        _ => SocketFamily::Inet,
    };
    let socket = SocketConfig {
        family,
        ..SocketConfig::stream(CONSOLE, &host, port)
    };
    Some((socket, watcher(loader, circus)))
}

/// A watcher cannot have the name of the console's.
pub(super) fn check_name(loader: &mut Loader, watchers: &[(String, WatcherOptions)]) {
    let same = |(_, watcher): &&(String, WatcherOptions)| watcher.name.to_lowercase() == CONSOLE;
    if let Some((section, _)) = watchers.iter().find(same) {
        let what = "with httpd = True, [circus] has a watcher of this name for the web console; rename this one";
        let problem = loader.merged.section_problem(section, what);
        loader.problems.push(problem);
    }
}

fn watcher(loader: &Loader, circus: &CircusOptions) -> WatcherOptions {
    let mut watcher = WatcherOptions::ini_defaults(CONSOLE);
    let environ = loader.environ.iter();
    let env: Map<String, Value> = environ
        .map(|(name, value)| (name.clone(), Value::from(value.as_str())))
        .collect();
    let own: [(&str, Value); 8] = [
        ("cmd", command(loader, circus).into()),
        ("executable", THIS_PROGRAM.into()),
        ("singleton", true.into()),
        ("use_sockets", true.into()),
        ("copy_env", true.into()),
        ("copy_path", true.into()),
        ("working_dir", loader.own_directory()),
        ("env", Value::Object(env)),
    ];
    for (key, value) in own {
        watchers::put(&mut watcher, key, value);
    }
    watcher
}

fn command(loader: &Loader, circus: &CircusOptions) -> String {
    let mut words = vec!["circ".to_owned(), "web".to_owned()];
    let mut add = |option: &str, value: &str| {
        words.push(format!("--{option}"));
        words.push(shlex::quote(value));
    };
    add(
        "endpoint",
        &endpoint_from_anywhere(&circus.endpoint, &loader.cwd),
    );
    for (option, file) in [
        ("password-file", &circus.httpd_password_file),
        ("token-file", &circus.httpd_token_file),
    ] {
        if let Some(file) = file {
            add(option, &loader.cwd.join(file).to_string_lossy());
        }
    }
    for name in circus
        .httpd_allow_hosts
        .iter()
        .flat_map(|names| names.split_whitespace())
    {
        add("allow-host", name);
    }
    if let Some(level) = &circus.loglevel {
        add("log-level", level);
    }
    if let Some(output) = output_from_anywhere(circus, &loader.cwd) {
        add("log-output", &output);
    }
    if let Some(format) = &circus.log_format {
        add("log-format", format);
    }
    if circus.httpd_read_only {
        words.push("--read-only".to_owned());
    }
    words.push("--with-daemon".to_owned());
    // the daemon puts the number in
    words.push(format!("--fd $(circus.sockets.{CONSOLE})"));
    words.join(" ")
}

#[cfg(test)]
mod tests {
    use super::super::{Config, tests::loaded};

    fn load(text: &str) -> Result<Config, String> {
        loaded(text, &[], Some(std::path::Path::new("/srv")))
    }

    #[test]
    fn httpd_is_a_socket_and_a_watcher() {
        let config = load(
            "[circus]\nendpoint = ipc://c.sock\nhttpd = True\nhttpd_host = 0.0.0.0\nhttpd_port = 81\n\
             httpd_password_file = a b\nhttpd_read_only = yes\nhttpd_allow_hosts = x y\n[watcher:w]\ncmd = x\n",
        )
        .unwrap();
        let socket = &config.sockets[0];
        assert_eq!(
            (socket.name.as_str(), socket.host.as_str(), socket.port),
            ("circushttpd", "0.0.0.0", 81)
        );
        let all: Vec<(&str, &str)> = config
            .services_by_section()
            .map(|(s, w)| (s, w.cmd()))
            .collect();
        assert_eq!(all[1].0, "watcher:circushttpd");
        assert_eq!(
            all[1].1,
            "circ web --endpoint ipc:///srv/c.sock --password-file '/srv/a b' --allow-host x --allow-host y --read-only \
             --with-daemon --fd $(circus.sockets.circushttpd)"
        );
        assert!(config.warnings.is_empty(), "{:?}", config.warnings);
        assert!(
            load("[circus]\nhttpd_port = 81\n")
                .unwrap()
                .console_watcher
                .is_none()
        );
    }

    #[test]
    fn what_is_wrong_with_it_is_said() {
        for (text, want) in [
            (
                "[circus]\nhttpd = 1\nhttpd_port = 70000\n",
                "circus.ini:3: [circus] httpd_port",
            ),
            (
                "[circus]\nhttpd = 1\n[watcher:CircusHttpd]\ncmd = x\n",
                "circus.ini:3: [watcher:CircusHttpd]",
            ),
            (
                "[circus]\nhttpd = 1\n[socket:circushttpd]\nport = 1\n",
                "circus.ini:3: [socket:circushttpd]",
            ),
        ] {
            let error = load(text).unwrap_err();
            assert!(error.contains(want), "{error}");
        }
        let config = load("[circus]\nhttpd = 1\nhttpd_host = 0.0.0.0\n").unwrap();
        assert!(
            config.warnings[0].contains("httpd_password_file"),
            "{:?}",
            config.warnings
        );
    }
}
