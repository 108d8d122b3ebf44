//! Everything that can be asked for: one table. The server finds its way by it, and the OpenAPI document is made of it.

use super::http::decoded;
use http::Method;

/// What is done about a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// Who the client is.
    Session,
    /// A password.
    Login,
    /// The end of a session.
    Logout,
    /// The daemons.
    Daemons,
    /// A daemon with its watchers.
    Watchers,
    /// One watcher.
    Watcher,
    /// What its workers say.
    Log,
    /// What a change would do.
    Preview,
    /// A change.
    Change,
    /// A command of the wire.
    Command,
    /// What is published.
    Events,
    /// A sample a second.
    Stats,
    /// The document.
    OpenApi,
    /// Numbers for Prometheus.
    Metrics,
    /// Whether the console lives.
    Health,
    /// Whether the daemons answer.
    Ready,
}

/// What the body of an answer is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reply {
    /// JSON by this schema of the document.
    Json(&'static str),
    /// Server-sent events.
    Events,
    /// A text of this type.
    Text(&'static str),
}

/// A parameter of the query.
#[derive(Debug)]
pub struct Param {
    /// Its name.
    pub name: &'static str,
    /// What it means.
    pub doc: &'static str,
    /// What it may be.
    pub values: Values,
}

/// What a parameter may be.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Values {
    /// true or false.
    Flag,
    /// A whole number in these bounds.
    Number(u64, u64),
    /// Seconds in these bounds.
    Seconds(f64, f64),
    /// One of these.
    OneOf(&'static [&'static str]),
}

/// One thing that can be asked for.
#[derive(Debug)]
pub struct Route {
    /// GET, POST or PUT.
    pub method: &'static str,
    /// The path; parts in braces stand for anything.
    pub path: &'static str,
    /// What is done.
    pub action: Action,
    /// One line of what it is for.
    pub doc: &'static str,
    /// What the query may have.
    pub query: &'static [Param],
    /// The schema of the body, if there is one.
    pub body: Option<&'static str>,
    /// The answer.
    pub reply: Reply,
    /// The statuses of problems that it may have, besides those that any request may.
    pub problems: &'static [u16],
    /// Who may ask.
    pub who: Who,
}

/// Who may ask.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Who {
    /// Anybody.
    Anybody,
    /// Who may look.
    Viewer,
    /// Who may change something. A command that only looks is for viewers as well.
    Operator,
}

const PROCESSES: Param = Param {
    name: "processes",
    doc: "With the processes of each watcher [default: true]",
    values: Values::Flag,
};
const TIMEOUT: Param = Param {
    name: "timeout",
    doc: "Seconds to wait for the daemon [default: 10]",
    values: Values::Seconds(0.1, 600.0),
};

const fn get(path: &'static str, action: Action, doc: &'static str, reply: Reply) -> Route {
    Route {
        method: "GET",
        path,
        action,
        doc,
        query: &[],
        body: None,
        reply,
        problems: &[],
        who: Who::Viewer,
    }
}

/// The table.
pub static ROUTES: &[Route] = &[
    Route {
        who: Who::Anybody,
        ..get(
            "/api/v1/session",
            Action::Session,
            "Who the client is, and what it needs",
            Reply::Json("Session"),
        )
    },
    Route {
        method: "POST",
        body: Some("Login"),
        problems: &[401, 413, 415, 429],
        who: Who::Anybody,
        ..get(
            "/api/v1/login",
            Action::Login,
            "Begin a session with a password",
            Reply::Json("Session"),
        )
    },
    Route {
        method: "POST",
        who: Who::Anybody,
        ..get(
            "/api/v1/logout",
            Action::Logout,
            "End the session",
            Reply::Json("Session"),
        )
    },
    get(
        "/api/v1/daemons",
        Action::Daemons,
        "The daemons of this console",
        Reply::Json("Daemons"),
    ),
    Route {
        query: &[PROCESSES],
        problems: &[404, 502, 504],
        ..get(
            "/api/v1/daemons/{daemon}/watchers",
            Action::Watchers,
            "A daemon with its watchers, their processes, and its sockets",
            Reply::Json("Watchers"),
        )
    },
    Route {
        problems: &[404, 422, 502, 504],
        ..get(
            "/api/v1/daemons/{daemon}/watchers/{watcher}",
            Action::Watcher,
            "A watcher, with its options",
            Reply::Json("WatcherWithOptions"),
        )
    },
    Route {
        query: &[
            Param {
                name: "tail",
                doc: "How many lines from before to begin with [default: 100]",
                values: Values::Number(0, 10_000),
            },
            Param {
                name: "follow",
                doc: "Go on as more is said [default: true]",
                values: Values::Flag,
            },
            Param {
                name: "stream",
                doc: "Which output [default: stdout]",
                values: Values::OneOf(&["stdout", "stderr"]),
            },
        ],
        problems: &[404, 422, 502, 503, 504],
        ..get(
            "/api/v1/daemons/{daemon}/watchers/{watcher}/log",
            Action::Log,
            "What the workers of a watcher say",
            Reply::Events,
        )
    },
    Route {
        method: "POST",
        body: Some("Change"),
        problems: &[404, 413, 415, 422, 502, 503, 504],
        ..get(
            "/api/v1/daemons/{daemon}/watchers/{watcher}/preview",
            Action::Preview,
            "What a change of options would do to file and daemon; nothing is changed",
            Reply::Json("Report"),
        )
    },
    Route {
        method: "PUT",
        body: Some("Change"),
        problems: &[404, 413, 415, 422, 502, 503, 504],
        who: Who::Operator,
        ..get(
            "/api/v1/daemons/{daemon}/watchers/{watcher}/options",
            Action::Change,
            "Change options of a watcher in file and daemon, or add a watcher",
            Reply::Json("Report"),
        )
    },
    Route {
        method: "POST",
        query: &[TIMEOUT],
        body: Some("Properties"),
        problems: &[404, 413, 415, 422, 502, 504],
        who: Who::Operator,
        ..get(
            "/api/v1/daemons/{daemon}/commands/{command}",
            Action::Command,
            "Send a command of the wire",
            Reply::Json("Reply"),
        )
    },
    Route {
        problems: &[404, 502, 503, 504],
        ..get(
            "/api/v1/daemons/{daemon}/events",
            Action::Events,
            "What the daemon publishes",
            Reply::Events,
        )
    },
    Route {
        query: &[PROCESSES],
        problems: &[404, 502, 503, 504],
        ..get(
            "/api/v1/daemons/{daemon}/stats",
            Action::Stats,
            "The watchers and what they use, a sample a second",
            Reply::Events,
        )
    },
    get(
        "/api/v1/openapi.json",
        Action::OpenApi,
        "This document",
        Reply::Json("Document"),
    ),
    get(
        "/metrics",
        Action::Metrics,
        "Numbers for Prometheus, as OpenMetrics if it is asked for",
        Reply::Text("text/plain"),
    ),
    Route {
        who: Who::Anybody,
        ..get(
            "/healthz",
            Action::Health,
            "Whether the console lives",
            Reply::Text("text/plain"),
        )
    },
    Route {
        who: Who::Anybody,
        problems: &[503],
        ..get(
            "/readyz",
            Action::Ready,
            "Whether every daemon answers",
            Reply::Text("text/plain"),
        )
    },
];

/// What a path leads to.
#[derive(Debug)]
pub enum Found {
    /// A route, and the texts that its braces stand for.
    Route(&'static Route, Vec<String>),
    /// There is such a path, for these methods.
    OtherMethods(Vec<&'static str>),
    /// There is none.
    Nothing,
}

/// Finds the route of a request. HEAD is as GET.
pub fn find(method: &Method, path: &str) -> Found {
    let method = match method.as_str() {
        "HEAD" => "GET",
        method => method,
    };
    let mut others = Vec::new();
    for route in ROUTES {
        let Some(parts) = parts(route.path, path) else {
            continue;
        };
        if route.method == method {
            return Found::Route(route, parts);
        }
        others.push(route.method);
    }
    match others.is_empty() {
        true => Found::Nothing,
        false => Found::OtherMethods(others),
    }
}

fn parts(pattern: &str, path: &str) -> Option<Vec<String>> {
    let mut found = Vec::new();
    let mut given = path.split('/');
    for part in pattern.split('/') {
        let text = given.next()?;
        if part.starts_with('{') {
            found.push(decoded(text, false).filter(|text| !text.is_empty())?);
        } else if part != text {
            return None;
        }
    }
    given.next().is_none().then_some(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_lead_to_actions() {
        let action = |method: Method, path: &str| match find(&method, path) {
            Found::Route(route, parts) => Some((route.action, parts.join(" "))),
            _ => None,
        };
        let cases = [
            (Method::GET, "/api/v1/daemons", Action::Daemons, ""),
            (Method::HEAD, "/metrics", Action::Metrics, ""),
            (
                Method::GET,
                "/api/v1/daemons/a%2Fb/watchers",
                Action::Watchers,
                "a/b",
            ),
            (
                Method::PUT,
                "/api/v1/daemons/d/watchers/w/options",
                Action::Change,
                "d w",
            ),
        ];
        for (method, path, expected, parts) in cases {
            assert_eq!(action(method, path), Some((expected, parts.to_string())));
        }
        for path in [
            "/",
            "/api/v1",
            "/api/v1/daemons/",
            "/api/v1/daemons//watchers",
            "/metrics/",
        ] {
            assert!(matches!(find(&Method::GET, path), Found::Nothing), "{path}");
        }
        match find(&Method::DELETE, "/api/v1/daemons/d/watchers/w/options") {
            Found::OtherMethods(methods) => assert_eq!(methods, ["PUT"]),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn what_changes_something_is_for_operators() {
        for route in ROUTES {
            let looks = [Action::Login, Action::Logout, Action::Preview];
            if route.method != "GET" && !looks.contains(&route.action) {
                assert_eq!(route.who, Who::Operator, "{}", route.path);
            }
        }
    }
}
