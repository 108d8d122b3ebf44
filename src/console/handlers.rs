//! What is answered to each request that was let in.

use super::access::{Client, Role, SESSION, set_cookie};
use super::bodies::{self, Query};
use super::exposition::{self, Format};
use super::feeds::Told;
use super::http::{self as web, Answer};
use super::hub::{AskError, Daemon, PATIENCE, State, object, wall_clock};
use super::logs::{self, Wish};
use super::problem::Problem;
use super::routes::{Action, Reply, Route};
use super::server::Site;
use super::snapshot::Snapshot;
use super::{credentials, edits, openapi, scrape};
use crate::state::secrets;
use crate::wire::command;
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use serde_json::{Map, Value, json};
use std::future::Future;
use std::net::IpAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::{broadcast, mpsc};

/// From one sign of life on a stream of events to the next.
const BEAT: Duration = Duration::from_secs(15);
/// Pieces that may wait for a viewer.
const PIECES: usize = 64;

/// A request that was let in.
pub struct Asked {
    /// Where it leads.
    pub route: &'static Route,
    /// The parts of the path that the route leaves open.
    pub parts: Vec<String>,
    /// GET, HEAD, POST or PUT.
    pub method: Method,
    /// Its headers.
    pub headers: HeaderMap,
    /// Its query.
    pub query: Vec<(String, String)>,
    /// Its body.
    pub body: Bytes,
    /// Who asks.
    pub client: Client,
    /// From where.
    pub peer: Option<IpAddr>,
}

/// 502 or 504.
pub fn unreachable(error: AskError) -> Problem {
    match error {
        AskError::Away(why) => down(why),
        AskError::Late(why) => Problem::new(StatusCode::GATEWAY_TIMEOUT, why),
    }
}

/// 502.
pub fn down(why: String) -> Problem {
    Problem::new(StatusCode::BAD_GATEWAY, why)
}

/// 422: what the daemon says.
pub fn refused(reply: &Map<String, Value>) -> Problem {
    let reason = reply.get("reason").and_then(Value::as_str);
    let problem = Problem::refused(reason.unwrap_or("the daemon refuses and gives no reason"));
    match reply.get("errno").and_then(Value::as_i64) {
        Some(errno) => problem.with("errno", errno),
        None => problem,
    }
}

/// Answers.
///
/// # Errors
/// What is wrong with the request, or with the daemon.
pub async fn answer(site: &Arc<Site>, asked: Asked) -> Result<Answer, Problem> {
    let query = Query::new(asked.route.query, &asked.query)?;
    if asked.method == Method::HEAD && asked.route.reply == Reply::Events {
        return Ok(web::text(StatusCode::OK, "text/event-stream", ""));
    }
    let daemon = || find_daemon(site, &asked);
    match asked.route.action {
        Action::Session => Ok(web::json(&session(site, &asked.client))),
        Action::Login => login(site, &asked).await,
        Action::Logout => {
            let nobody = Client {
                role: Role::Nobody,
                csrf: None,
            };
            let mut answer = web::json(&session(site, &nobody));
            give_cookie(&mut answer, &asked.headers, None);
            Ok(answer)
        }
        Action::Daemons => Ok(web::json(&daemons(site).await)),
        Action::Watchers => {
            let daemon = daemon()?;
            let snapshot = daemon.look().await.map_err(unreachable)?;
            let snapshot = shown(&snapshot, query.flag("processes", true));
            let state = State::Up(Box::new(snapshot.identity.clone()));
            let mut told = json!({"daemon": daemon.told(&state)});
            if let (Value::Object(told), Value::Object(more)) = (&mut told, json!(snapshot)) {
                told.extend(more);
            }
            Ok(web::json(&told))
        }
        Action::Watcher => {
            let daemon = daemon()?;
            watcher(&daemon, part(&asked, 1)).await
        }
        Action::Log => log(site, daemon()?, &query, part(&asked, 1)).await,
        Action::Preview | Action::Change => {
            let check = asked.route.action == Action::Preview;
            let change = bodies::change(body(&asked)?)?;
            let daemon = daemon()?;
            let Ok(_turn) = site.edits.acquire().await else {
                return Err(down("the console ends".into()));
            };
            let report = edits::carry_out(&daemon, part(&asked, 1).to_owned(), change, check);
            Ok(web::json(&report.await?))
        }
        Action::Command => {
            let daemon = daemon()?;
            let timeout = query.seconds("timeout").map(Duration::from_secs_f64);
            send(&daemon, &asked, timeout.unwrap_or(PATIENCE)).await
        }
        Action::Events => {
            let daemon = daemon()?;
            let receiver = daemon.events();
            let state = daemon.events_state();
            stream(site, |viewer| async move {
                follow(&viewer, receiver, state, |event: &Value| {
                    ("event", event.clone())
                })
                .await;
            })
        }
        Action::Stats => {
            let daemon = daemon()?;
            let receiver = daemon.stats();
            let state = daemon.stats_state();
            let processes = query.flag("processes", true);
            stream(site, move |viewer| async move {
                let told = |snapshot: &Snapshot| ("stats", json!(shown(snapshot, processes)));
                follow(&viewer, receiver, state, told).await;
            })
        }
        Action::OpenApi => Ok(web::json(&openapi::document())),
        Action::Metrics => {
            let accept = asked.headers.get(header::ACCEPT);
            let accept = accept.and_then(|accept| accept.to_str().ok());
            let format = Format::accepted(accept.unwrap_or_default());
            let text = exposition::render(&scrape::all(&site.hub).await, format);
            Ok(web::text(StatusCode::OK, format.content_type(), text))
        }
        Action::Health => Ok(web::text(StatusCode::OK, PLAIN, "ok\n")),
        Action::Ready => {
            for daemon in site.hub.daemons() {
                if let State::Down(_) = daemon.state().await {
                    let status = StatusCode::SERVICE_UNAVAILABLE;
                    return Ok(web::text(status, PLAIN, "a daemon does not answer\n"));
                }
            }
            Ok(web::text(StatusCode::OK, PLAIN, "ok\n"))
        }
    }
}

const PLAIN: &str = "text/plain; charset=utf-8";

fn part(asked: &Asked, at: usize) -> &str {
    asked.parts.get(at).map_or("", String::as_str)
}

fn body(asked: &Asked) -> Result<Map<String, Value>, Problem> {
    let kind = asked.headers.get(header::CONTENT_TYPE);
    bodies::object(kind.and_then(|kind| kind.to_str().ok()), &asked.body)
}

fn find_daemon(site: &Site, asked: &Asked) -> Result<Arc<Daemon>, Problem> {
    let id = part(asked, 0);
    site.hub.find(id).ok_or_else(|| {
        let daemons = site.hub.daemons();
        let known: Vec<&str> = daemons.iter().map(|daemon| daemon.id.as_str()).collect();
        Problem::not_found(format!(
            "there is no daemon {id:?}; there are {}",
            known.join(", ")
        ))
    })
}

fn shown(snapshot: &Snapshot, processes: bool) -> Snapshot {
    match processes {
        true => snapshot.clone(),
        false => snapshot.without_processes(),
    }
}

fn session(site: &Site, client: &Client) -> Value {
    let login = site.rules.credentials.has_password();
    json!({
        "login": login && client.role == Role::Nobody,
        "authenticated": client.role > Role::Nobody,
        "read_only": client.role != Role::Operator && (site.rules.read_only || client.role == Role::Viewer),
        "csrf": client.csrf,
        "version": env!("CARGO_PKG_VERSION"),
    })
}

fn give_cookie(answer: &mut Answer, headers: &HeaderMap, session: Option<&str>) {
    if let Ok(value) = HeaderValue::from_str(&set_cookie(headers, session)) {
        answer.headers_mut().insert(header::SET_COOKIE, value);
    }
}

async fn login(site: &Arc<Site>, asked: &Asked) -> Result<Answer, Problem> {
    let body = body(asked)?;
    let password = bodies::password(&body)?.to_owned();
    if !site.rules.credentials.has_password() {
        return Err(Problem::bad_request(
            "this console has no password: nobody has to log in",
        ));
    }
    let early = site.guesses().guess(asked.peer, Instant::now()).err();
    if let Some(wait) = early {
        let seconds = wait.as_secs_f64().ceil() as u64;
        let detail = format!("too many wrong passwords: try again in {seconds} s");
        let mut problem = Problem::new(StatusCode::TOO_MANY_REQUESTS, detail);
        problem.retry_after = Some(seconds);
        return Err(problem);
    }
    // one at a time: each takes memory and a processor
    let Ok(_turn) = site.logins.acquire().await else {
        return Err(down("the console ends".into()));
    };
    let own = site.clone();
    let check = move || own.rules.credentials.is_password(&password);
    let right = tokio::task::spawn_blocking(check).await.unwrap_or(false);
    if !right {
        tracing::warn!("a wrong password from {}", peer(asked.peer));
        return Err(Problem::new(
            StatusCode::UNAUTHORIZED,
            "the password is wrong",
        ));
    }
    site.guesses().right(asked.peer);
    let failed = |why| Problem::new(StatusCode::INTERNAL_SERVER_ERROR, why);
    let chance = credentials::random().map_err(failed)?;
    let until = wall_clock() as u64 + SESSION;
    let (cookie, csrf) = site.rules.credentials.key().issue(until, chance);
    let role = if site.rules.read_only {
        Role::Viewer
    } else {
        Role::Operator
    };
    let client = Client {
        role,
        csrf: Some(csrf),
    };
    let mut answer = web::json(&session(site, &client));
    give_cookie(&mut answer, &asked.headers, Some(&cookie));
    Ok(answer)
}

fn peer(peer: Option<IpAddr>) -> String {
    peer.map_or("a Unix socket".to_owned(), |peer| peer.to_string())
}

async fn daemons(site: &Site) -> Value {
    let mut looks = tokio::task::JoinSet::new();
    for (at, daemon) in site.hub.daemons().into_iter().enumerate() {
        looks.spawn(async move {
            let state = daemon.state().await;
            (at, daemon.told(&state))
        });
    }
    let mut told = looks.join_all().await;
    told.sort_by_key(|(at, _)| *at);
    let told: Vec<Value> = told.into_iter().map(|(_, told)| told).collect();
    json!({"daemons": told})
}

async fn watcher(daemon: &Daemon, name: &str) -> Result<Answer, Problem> {
    let snapshot = daemon.look().await.map_err(unreachable)?;
    let Some(watcher) = snapshot.watcher(name) else {
        return Err(Problem::not_found(format!("there is no watcher {name:?}")));
    };
    let reply = daemon.ask("options", object(json!({"name": name}))).await;
    let reply = reply.map_err(unreachable)?;
    let Some(Value::Object(options)) = reply.get("options") else {
        return Err(refused(&reply));
    };
    let mut told = json!(watcher);
    told["options"] = Value::Object(secrets::masked_map(options));
    Ok(web::json(&told))
}

async fn send(daemon: &Daemon, asked: &Asked, timeout: Duration) -> Result<Answer, Problem> {
    let name = part(asked, 1);
    let spec = command::COMMANDS.iter().find(|spec| spec.name == name);
    let spec = spec.filter(|spec| spec.name != "listen");
    let spec = spec.ok_or_else(|| Problem::not_found(format!("there is no command {name:?}")))?;
    if asked.client.role < Role::Operator && !spec.only_looks() {
        return Err(Problem::forbidden(
            "who may only look may not send this command",
        ));
    }
    let properties = body(asked)?;
    bodies::command(spec, &properties)?;
    let reply = daemon.ask_within(spec.name, properties, timeout).await;
    let mut reply = reply.map_err(unreachable)?;
    if reply.get("status").and_then(Value::as_str) == Some("error") {
        return Err(refused(&reply));
    }
    reply.remove("id");
    if asked.client.role < Role::Operator
        && let Some(Value::Object(options)) = reply.get_mut("options")
    {
        *options = secrets::masked_map(options);
    }
    Ok(web::json(&Value::Object(reply)))
}

async fn log(
    site: &Arc<Site>,
    daemon: Arc<Daemon>,
    query: &Query<'_>,
    watcher: &str,
) -> Result<Answer, Problem> {
    let wish = Wish {
        watcher: watcher.to_owned(),
        stream: query.text("stream", "stdout").to_owned(),
        tail: usize::try_from(query.number("tail", 100)).unwrap_or(100),
        follow: query.flag("follow", true),
    };
    let snapshot_of = daemon.ask("status", object(json!({"name": watcher}))).await;
    if snapshot_of.map_err(unreachable)?.get("errno").is_some() {
        return Err(Problem::not_found(format!(
            "there is no watcher {watcher:?}"
        )));
    }
    let source = logs::source(&daemon, &wish).await?;
    let open = site.open_log;
    stream(site, move |viewer| async move {
        if viewer.state(&Ok(())).await {
            logs::tell(daemon, wish, source, open, viewer).await;
        }
    })
}

/// Somebody who watches a stream of events.
pub struct Viewer(mpsc::Sender<Bytes>);

impl Viewer {
    /// Tells something; false if nobody is there any more.
    pub async fn tell(&self, event: &str, data: &Value) -> bool {
        self.0.send(web::event(event, data)).await.is_ok()
    }

    /// Tells how the daemon is; false if nobody is there any more.
    pub async fn state(&self, state: &Result<(), String>) -> bool {
        let told = match state {
            Ok(()) => json!({"state": "up", "reason": null}),
            Err(reason) => json!({"state": "down", "reason": reason}),
        };
        self.tell("state", &told).await
    }

    /// Whether anybody is there.
    pub fn is_there(&self) -> bool {
        !self.0.is_closed()
    }
}

/// An answer that goes on as long as `work` does, somebody reads it, and the console runs.
fn stream<F>(site: &Arc<Site>, work: impl FnOnce(Viewer) -> F) -> Result<Answer, Problem>
where
    F: Future<Output = ()> + Send + 'static,
{
    let Ok(permit) = site.streams.clone().try_acquire_owned() else {
        return Err(Problem::new(
            StatusCode::SERVICE_UNAVAILABLE,
            "too many viewers: close some pages",
        ));
    };
    let (sender, pieces) = mpsc::channel(PIECES);
    let work = work(Viewer(sender.clone()));
    let mut ending = site.ending.clone();
    tokio::spawn(async move {
        let _permit = permit;
        let mut work = pin!(work);
        let mut beat = tokio::time::interval_at(tokio::time::Instant::now() + BEAT, BEAT);
        loop {
            tokio::select! {
                () = &mut work => return,
                () = sender.closed() => return,
                _ = ending.wait_for(|ending| *ending) => return,
                _ = beat.tick() => {
                    // one that does not read has enough to read already
                    let _ = sender.try_send(web::heartbeat());
                }
            }
        }
    });
    Ok(web::events(pieces))
}

async fn follow<T>(
    viewer: &Viewer,
    mut receiver: broadcast::Receiver<Told<T>>,
    state: Option<Result<(), String>>,
    told: impl Fn(&T) -> (&'static str, Value),
) {
    if let Some(state) = state
        && !viewer.state(&state).await
    {
        return;
    }
    loop {
        let there = match receiver.recv().await {
            Ok(Told::State(state)) => viewer.state(&state).await,
            Ok(Told::Item(item)) => {
                let (event, data) = told(&item);
                viewer.tell(event, &data).await
            }
            Err(broadcast::error::RecvError::Lagged(count)) => {
                viewer.tell("lost", &json!({"count": count})).await
            }
            Err(broadcast::error::RecvError::Closed) => return,
        };
        if !there {
            return;
        }
    }
}
