//! Chaussette's back ends: their names, and what each means here. All run on the one front; what is left of a name is what
//! its library did to the application's process.

use crate::wsgi::worker::Patch;

/// A name that `--backend` takes.
#[derive(Debug, Clone, Copy)]
pub struct Backend {
    /// The name.
    pub name: &'static str,
    /// The library that is to make the application's process cooperative.
    pub patch: Option<Patch>,
}

/// A row of the table.
const fn row(name: &'static str, patch: Option<Patch>) -> Backend {
    Backend { name, patch }
}

/// All of them, in the order in which Chaussette lists them.
pub const BACKENDS: [Backend; 11] = [
    row("bjoern", None),
    row("eventlet", Some(Patch::Eventlet)),
    row("fastgevent", Some(Patch::Gevent)),
    row("gevent", Some(Patch::Gevent)),
    row("geventwebsocket", Some(Patch::Gevent)),
    row("geventws4py", Some(Patch::Gevent)),
    // its patch needs its own event loop, which there is none of here
    row("meinheld", None),
    row("socketio", Some(Patch::Gevent)),
    row("tornado", None),
    row("waitress", None),
    row("wsgiref", None),
];

/// Their names.
pub const NAMES: [&str; BACKENDS.len()] = {
    let mut names = [""; BACKENDS.len()];
    let mut at = 0;
    while at < names.len() {
        names[at] = BACKENDS[at].name;
        at += 1;
    }
    names
};

/// The back end of this name.
pub fn named(name: &str) -> Option<Backend> {
    BACKENDS.iter().find(|row| row.name == name).copied()
}

/// What a name comes to today, for the log.
pub fn shown(name: &str, patch: Option<Patch>, workers: usize, threads: usize) -> String {
    let plural = |count: usize| if count == 1 { "" } else { "es" };
    let at_once = match threads {
        1 => "one request at a time".to_string(),
        threads if patch.is_some() => {
            format!("up to {threads} requests at once")
        }
        threads => format!("{threads} threads"),
    };
    let made = patch.map_or_else(String::new, |patch| {
        format!(", made cooperative by {}", patch.library())
    });
    format!(
        "Using circ {} as a backend; {name:?} means {workers} process{} of Python{made}, {at_once}{}",
        env!("CARGO_PKG_VERSION"),
        plural(workers),
        if workers == 1 { "" } else { " in each" },
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_says_what_it_means_today() {
        let version = env!("CARGO_PKG_VERSION");
        assert_eq!(
            shown("gevent", Some(Patch::Gevent), 1, 256),
            format!(
                "Using circ {version} as a backend; \"gevent\" means 1 process of Python, made cooperative by gevent, up to \
                 256 requests at once"
            )
        );
        assert_eq!(
            shown("waitress", None, 2, 1),
            format!(
                "Using circ {version} as a backend; \"waitress\" means 2 processes of Python, one request at a time in each"
            )
        );
    }
}
