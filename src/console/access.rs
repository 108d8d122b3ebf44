//! Who may do what. Pure: headers, rules and the time come in, a decision goes out.
//!
//! A request is let in if it names a host of this console, does not come from another page, and shows a token or the cookie
//! of a session; with a cookie, whatever is not a GET shows the token of that session as well, which only a page of the same
//! origin can have read.

use super::credentials::{Credentials, SessionKey};
use super::problem::Problem;
use http::{HeaderMap, Method, StatusCode, header};
use std::net::IpAddr;

/// How long a session lasts, in seconds.
pub const SESSION: u64 = 12 * 3600;

/// The header with the token of a cookie's session.
pub const CSRF_HEADER: &str = "x-circ-csrf";

/// What this console asks of its clients.
#[derive(Debug)]
pub struct Rules {
    /// What they have to know.
    pub credentials: Credentials,
    /// Nobody may change anything.
    pub read_only: bool,
    /// The names under which it is reached, in lower case, besides addresses and `localhost`.
    pub hosts: Vec<String>,
}

/// What a client may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Role {
    /// Nothing: who it is has to be said first.
    Nobody,
    /// Look.
    Viewer,
    /// Everything.
    Operator,
}

/// Who asks.
#[derive(Debug, Clone, PartialEq)]
pub struct Client {
    /// What it may do.
    pub role: Role,
    /// The token of its session, if it has one.
    pub csrf: Option<String>,
}

fn text(headers: &HeaderMap, name: impl header::AsHeaderName) -> Option<&str> {
    headers.get(name).and_then(|value| value.to_str().ok())
}

/// The host of `HOST:PORT` or `[ADDRESS]:PORT`, and its port.
fn host_and_port(authority: &str) -> (&str, Option<&str>) {
    let end = authority.rfind(']').unwrap_or(0);
    match authority.get(end..).and_then(|rest| rest.rfind(':')) {
        Some(colon) => {
            let (host, port) = authority.split_at(end + colon);
            (host, port.get(1..))
        }
        None => (authority, None),
    }
}

impl Rules {
    /// Whether the request is one for this console, and from a page of its own if from a page at all.
    ///
    /// # Errors
    /// Why not.
    pub fn check_place(&self, method: &Method, headers: &HeaderMap) -> Result<(), Problem> {
        let hosts: Vec<_> = headers.get_all(header::HOST).iter().collect();
        let host = match hosts.as_slice() {
            [host] => host.to_str().unwrap_or_default().to_ascii_lowercase(),
            _ => {
                let detail = "a request names one host in its Host header";
                return Err(Problem::bad_request(detail));
            }
        };
        if !self.is_ours(host_and_port(&host).0) {
            return Err(Problem::forbidden(
                "this console is not known under the host of the request; if it should be, start it with --allow-host",
            ));
        }
        if let Some(origin) = headers.get(header::ORIGIN) {
            let origin = origin.to_str().unwrap_or_default().to_ascii_lowercase();
            let authority = origin.split_once("://").map(|(_, authority)| authority);
            if authority != Some(&host) {
                return Err(Problem::forbidden(
                    "the request comes from a page of another origin",
                ));
            }
        }
        let site = text(headers, "sec-fetch-site").unwrap_or("none");
        let safe = matches!(*method, Method::GET | Method::HEAD);
        let navigates = safe && text(headers, "sec-fetch-mode") == Some("navigate");
        if !matches!(site, "none" | "same-origin") && !navigates {
            return Err(Problem::forbidden(
                "the request comes from a page of another site",
            ));
        }
        Ok(())
    }

    fn is_ours(&self, host: &str) -> bool {
        let bare = host.trim_start_matches('[').trim_end_matches(']');
        // nobody can point the name of another page at an address
        bare.parse::<IpAddr>().is_ok()
            || host == "localhost"
            || self.hosts.iter().any(|name| name == host)
    }

    /// Who asks. `now` is in seconds since the epoch.
    ///
    /// # Errors
    /// A token that is wrong; the token of the session is missing.
    pub fn client(
        &self,
        method: &Method,
        headers: &HeaderMap,
        now: u64,
    ) -> Result<Client, Problem> {
        let open = self.credentials.is_open();
        let bearer = text(headers, header::AUTHORIZATION)
            .and_then(|value| value.split_once(' '))
            .filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer"))
            .map(|(_, token)| token.trim());
        if let Some(token) = bearer.filter(|_| !open) {
            let Some(may_change) = self.credentials.token(token) else {
                let detail = "the token is not one of this console";
                return Err(Problem::new(StatusCode::UNAUTHORIZED, detail));
            };
            let role = if may_change {
                Role::Operator
            } else {
                Role::Viewer
            };
            return Ok(self.limited(role, None));
        }
        if open {
            return Ok(self.limited(Role::Operator, None));
        }
        let Some(csrf) = self.session(headers, now) else {
            return Ok(self.limited(Role::Nobody, None));
        };
        if !matches!(*method, Method::GET | Method::HEAD) {
            let shown = text(headers, CSRF_HEADER).unwrap_or_default();
            if !SessionKey::same(shown, &csrf) {
                return Err(Problem::forbidden(format!(
                    "the header {CSRF_HEADER} with the csrf value of GET /api/v1/session is missing or old"
                )));
            }
        }
        Ok(self.limited(Role::Operator, Some(csrf)))
    }

    fn limited(&self, role: Role, csrf: Option<String>) -> Client {
        let most = if self.read_only {
            Role::Viewer
        } else {
            Role::Operator
        };
        Client {
            role: role.min(most),
            csrf,
        }
    }

    /// The token of the session that a cookie of the request proves.
    fn session(&self, headers: &HeaderMap, now: u64) -> Option<String> {
        let name = cookie_name(headers);
        let cookies = headers.get_all(header::COOKIE).iter();
        let mut pairs = cookies
            .filter_map(|value| value.to_str().ok())
            .flat_map(|value| value.split(';'))
            .filter_map(|pair| pair.trim().split_once('='));
        pairs.find_map(|(key, value)| {
            let value = (key == name).then_some(value)?;
            self.credentials.key().session(value, now)
        })
    }
}

/// The name of the cookie: browsers do not tell the ports of a host apart, and there may be a console at each.
fn cookie_name(headers: &HeaderMap) -> String {
    let host = text(headers, header::HOST).unwrap_or_default();
    format!("circ_session_{}", host_and_port(host).1.unwrap_or("80"))
}

/// The header that gives a browser the cookie of a session, or takes it away.
pub fn set_cookie(headers: &HeaderMap, session: Option<&str>) -> String {
    let (value, age) = session.map_or(("", 0), |session| (session, SESSION));
    let name = cookie_name(headers);
    format!("{name}={value}; Max-Age={age}; Path=/; HttpOnly; SameSite=Strict")
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::{HeaderName, HeaderValue};

    fn rules(password: Option<&str>, tokens: &str) -> Rules {
        Rules {
            credentials: Credentials::of(password, tokens).unwrap(),
            read_only: false,
            hosts: vec!["box.example".into()],
        }
    }

    fn headers(pairs: &[(&str, &str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in pairs {
            let name = HeaderName::try_from(*name).unwrap();
            headers.append(name, HeaderValue::from_str(value).unwrap());
        }
        headers
    }

    #[test]
    fn only_hosts_of_the_console() {
        let rules = rules(None, "");
        let ok = |host: &str| {
            rules
                .check_place(&Method::GET, &headers(&[("host", host)]))
                .is_ok()
        };
        for host in [
            "127.0.0.1:8080",
            "localhost:1",
            "LOCALHOST",
            "[::1]:8080",
            "10.0.0.7",
            "box.example:80",
        ] {
            assert!(ok(host), "{host}");
        }
        for host in [
            "evil.example",
            "localhost.evil.example",
            "",
            "127.0.0.1.nip.io:8080",
            "box.example.org",
        ] {
            assert!(!ok(host), "{host}");
        }
        assert!(rules.check_place(&Method::GET, &headers(&[])).is_err());
        let two = headers(&[("host", "localhost"), ("host", "evil.example")]);
        assert!(rules.check_place(&Method::GET, &two).is_err());
    }

    #[test]
    fn only_pages_of_the_console() {
        let rules = rules(None, "");
        let ok = |method: Method, more: &[(&str, &str)]| {
            let mut all = vec![("host", "localhost:8080")];
            all.extend_from_slice(more);
            rules.check_place(&method, &headers(&all)).is_ok()
        };
        assert!(ok(Method::POST, &[]));
        assert!(ok(
            Method::POST,
            &[
                ("origin", "http://localhost:8080"),
                ("sec-fetch-site", "same-origin")
            ]
        ));
        assert!(ok(Method::POST, &[("origin", "https://LOCALHOST:8080")]));
        for origin in [
            "http://localhost:3000",
            "http://evil.example",
            "null",
            "http://localhost:8080.evil.example",
            "",
        ] {
            assert!(!ok(Method::POST, &[("origin", origin)]), "{origin}");
            assert!(!ok(Method::GET, &[("origin", origin)]), "{origin}");
        }
        for site in ["cross-site", "same-site"] {
            assert!(!ok(Method::GET, &[("sec-fetch-site", site)]));
            assert!(ok(
                Method::GET,
                &[("sec-fetch-site", site), ("sec-fetch-mode", "navigate")]
            ));
            assert!(!ok(
                Method::POST,
                &[("sec-fetch-site", site), ("sec-fetch-mode", "navigate")]
            ));
        }
    }

    #[test]
    fn tokens_and_sessions() {
        let mut rules = rules(
            Some("secret words"),
            "aaaaaaaaaaaaaaaa\nbbbbbbbbbbbbbbbb read-only\n",
        );
        let ask = |rules: &Rules, method: Method, more: &[(&str, &str)]| {
            let mut all = vec![("host", "localhost:8080")];
            all.extend_from_slice(more);
            rules.client(&method, &headers(&all), 1000)
        };
        let role = |rules: &Rules, more: &[(&str, &str)]| {
            ask(rules, Method::GET, more).map(|c| c.role).ok()
        };
        assert_eq!(role(&rules, &[]), Some(Role::Nobody));
        assert_eq!(
            role(&rules, &[("authorization", "Bearer aaaaaaaaaaaaaaaa")]),
            Some(Role::Operator)
        );
        assert_eq!(
            role(&rules, &[("authorization", "bearer bbbbbbbbbbbbbbbb")]),
            Some(Role::Viewer)
        );
        assert_eq!(
            role(&rules, &[("authorization", "Bearer aaaaaaaaaaaaaaab")]),
            None
        );
        let (session, csrf) = rules.credentials.key().issue(1000 + SESSION, [7; 16]);
        let cookie = format!("other=1; circ_session_8080={session}");
        let client = ask(&rules, Method::GET, &[("cookie", &cookie)]).unwrap();
        assert_eq!(
            (client.role, client.csrf.as_ref()),
            (Role::Operator, Some(&csrf))
        );
        assert!(ask(&rules, Method::POST, &[("cookie", &cookie)]).is_err());
        assert!(
            ask(
                &rules,
                Method::POST,
                &[("cookie", &cookie), (CSRF_HEADER, "x")]
            )
            .is_err()
        );
        assert!(
            ask(
                &rules,
                Method::POST,
                &[("cookie", &cookie), (CSRF_HEADER, &csrf)]
            )
            .is_ok()
        );
        let other_port = format!("circ_session_80={session}");
        assert_eq!(role(&rules, &[("cookie", &other_port)]), Some(Role::Nobody));
        rules.read_only = true;
        assert_eq!(role(&rules, &[("cookie", &cookie)]), Some(Role::Viewer));
    }

    #[test]
    fn without_secrets_everybody_may() {
        let client =
            rules(None, "").client(&Method::POST, &headers(&[("authorization", "Bearer x")]), 0);
        assert_eq!(client.unwrap().role, Role::Operator);
    }
}
