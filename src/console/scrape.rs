//! Gathers the numbers of all daemons at once.

use super::exposition::Seen;
use super::hub::{Daemon, Hub};
use crate::state::agent::{address, control};
use serde_json::Value;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::task::JoinSet;

/// How long one daemon may take: those who scrape wait ten seconds.
const PATIENCE: Duration = Duration::from_secs(5);
/// How long an agent may take.
const AGENT: Duration = Duration::from_secs(1);

/// Looks at every daemon.
pub async fn all(hub: &Hub) -> Vec<Seen> {
    let mut looks = JoinSet::new();
    for (at, daemon) in hub.daemons().into_iter().enumerate() {
        looks.spawn(async move { (at, one(&daemon).await) });
    }
    let mut seen = looks.join_all().await;
    seen.sort_by_key(|(at, _)| *at);
    seen.into_iter().map(|(_, seen)| seen).collect()
}

async fn one(daemon: &Arc<Daemon>) -> Seen {
    let begin = Instant::now();
    let (look, agent) = tokio::join!(
        tokio::time::timeout(PATIENCE, daemon.look()),
        agent_of(daemon)
    );
    Seen {
        daemon: daemon.id.clone(),
        endpoint: daemon.address.clone(),
        snapshot: match look {
            Ok(Ok(snapshot)) => Ok(snapshot),
            Ok(Err(error)) => Err(error.to_string()),
            Err(_) => Err(format!(
                "{} did not answer within {} s",
                daemon.address,
                PATIENCE.as_secs()
            )),
        },
        took: begin.elapsed().as_secs_f64(),
        agent,
    }
}

/// The status of the daemon's agent: an agent listens on the machine that it is on.
async fn agent_of(daemon: &Daemon) -> Option<Value> {
    if !daemon.is_local() {
        return None;
    }
    let endpoint = daemon.endpoint.clone();
    let asking = tokio::task::spawn_blocking(move || {
        let cwd = std::env::current_dir().unwrap_or_else(|_| PathBuf::from("/"));
        let place = address::place(&endpoint, &cwd);
        control::ask(&place, control::Request::Status, Some(AGENT)).ok()
    });
    asking.await.ok().flatten()
}
