//! Who wants the configuration to be read, and the thread that does what may hang for it. One wish after the other is
//! fulfilled; the daemon never waits.

use super::answers::{Shape, Then};
use super::prepare::{self, Errand, Finding};
use super::reload::{Reload, refuse};
use super::router::Client;
use super::shell::Shell;
use crate::config::Config;
use crate::options::Value;
use crate::supervisor::Command;
use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant};
use tokio::sync::mpsc;

/// What the configuration is read for.
pub(super) enum Purpose {
    /// To take it over, or tell what that would mean.
    Reload(Reload),
    /// Somebody wants everything to be restarted: nobody is stopped for a configuration that cannot be used.
    Restart {
        /// The client waits until it is done.
        patient: bool,
    },
    /// All watchers have stopped: to take it over and start them.
    Afresh,
}

/// Somebody's wish.
pub(super) struct Order {
    pub client: Option<(Client, Value)>,
    pub purpose: Purpose,
}

/// A wish, and why it will not be fulfilled.
pub(super) type Unfulfilled = (Box<Order>, String);

/// The wishes, one after the other: what is prepared for one counts on what the one before has left.
pub(super) struct Reloads {
    waiting: VecDeque<Box<Order>>,
    /// The one at hand, and until when its thread may work.
    current: Option<(Box<Order>, Instant)>,
    /// Its number; what older ones find comes too late.
    number: u64,
    /// So long a disk or a name server may take to answer before a reload is given up.
    patience: Duration,
    sender: mpsc::UnboundedSender<(u64, Finding)>,
    findings: mpsc::UnboundedReceiver<(u64, Finding)>,
}

impl Reloads {
    /// No wish yet. A thread may work for so long.
    pub fn new(patience: Duration) -> Reloads {
        let (sender, findings) = mpsc::unbounded_channel();
        Reloads {
            waiting: VecDeque::new(),
            current: None,
            number: 0,
            patience,
            sender,
            findings,
        }
    }

    /// What the thread at work has found; nothing while none works.
    pub async fn finding(&mut self) -> Option<(u64, Finding)> {
        self.findings.recv().await
    }

    /// When the thread at work is given up.
    pub fn late_at(&self) -> Option<Instant> {
        self.current.as_ref().map(|(_, end)| *end)
    }
}

/// So long a disk, a name server or the import of a hook's module may take before a reload is given up.
const PATIENCE: Duration = Duration::from_secs(60);

/// [`PATIENCE`], or another number of seconds, for tests: taken out of the environment, so that no worker inherits it.
pub(super) fn patience(environ: &mut BTreeMap<String, String>) -> Duration {
    let given = environ.remove("CIRC_RELOAD_PATIENCE");
    let given = given.and_then(|text| Duration::try_from_secs_f64(text.parse().ok()?).ok());
    given.unwrap_or(PATIENCE)
}
/// Wishes that may wait.
const MOST_WAITING: usize = 64;

impl Shell {
    /// Reads the configuration again and changes what has changed.
    pub(super) fn reload_config(&mut self, client: Option<(Client, Value)>, reload: Reload) {
        self.wish(client, Purpose::Reload(reload));
    }

    /// All watchers have stopped: take over the configuration and start them.
    pub(super) fn start_afresh(&mut self, client: Option<(Client, Value)>) {
        self.wish(client, Purpose::Afresh);
    }

    /// Somebody wants everything to be restarted.
    pub(super) fn restart_everything(&mut self, client: Option<(Client, Value)>, patient: bool) {
        self.wish(client, Purpose::Restart { patient });
    }

    fn wish(&mut self, client: Option<(Client, Value)>, purpose: Purpose) {
        if self.core.closing() {
            refuse(client.as_ref(), "the daemon is stopping");
            return;
        }
        let order = Box::new(Order { client, purpose });
        match order.purpose {
            // nothing runs until it is done
            Purpose::Afresh => self.reloads.waiting.push_front(order),
            _ if self.reloads.waiting.len() >= MOST_WAITING => {
                refuse(
                    order.client.as_ref(),
                    "too many reloads are waiting already; try again",
                );
            }
            _ => self.reloads.waiting.push_back(order),
        }
        self.next_order();
    }

    /// Takes up the next wish, if none is at hand.
    fn next_order(&mut self) {
        while self.reloads.current.is_none() {
            let Some(order) = self.reloads.waiting.pop_front() else {
                return;
            };
            let errand = Errand::Read {
                path: self.config_path.clone(),
                environ: self.environ.clone(),
                cwd: self.cwd.clone(),
            };
            self.send_out(order, errand);
        }
    }

    fn send_out(&mut self, order: Box<Order>, errand: Errand) {
        self.reloads.number += 1;
        match prepare::send_out(errand, self.reloads.number, &self.reloads.sender) {
            Ok(()) => self.reloads.current = Some((order, Instant::now() + self.reloads.patience)),
            Err(reason) => self.given_up(*order, &reason),
        }
    }

    /// A thread has come back.
    pub(super) fn found(&mut self, number: u64, finding: Finding) {
        if number != self.reloads.number {
            return;
        }
        let Some((order, _)) = self.reloads.current.take() else {
            return;
        };
        let next = match finding {
            Finding::Read(Ok(config)) => self.read(order, *config),
            Finding::Prepared(Ok(prepared)) => self.prepared(order, *prepared),
            Finding::Read(Err(reason)) | Finding::Prepared(Err(reason)) => Err((order, reason)),
        };
        if let Err((order, reason)) = next {
            self.given_up(*order, &reason);
        }
        self.next_order();
    }

    /// Gives up a thread that does not come back.
    pub(super) fn give_up_reload(&mut self) {
        if self
            .reloads
            .late_at()
            .is_some_and(|end| end <= Instant::now())
            && let Some((order, _)) = self.reloads.current.take()
        {
            self.reloads.number += 1;
            let reason = format!(
                "it was not done after {} s: a disk or a name server does not answer, or the module of a hook takes long",
                self.reloads.patience.as_secs_f64()
            );
            self.given_up(*order, &reason);
            self.next_order();
        }
    }

    /// The files have been read.
    fn read(&mut self, order: Box<Order>, config: Config) -> Result<(), Unfulfilled> {
        if self.core.closing() {
            return Err((order, "the daemon is stopping".to_string()));
        }
        let (only, check) = match &order.purpose {
            Purpose::Reload(reload) => (reload.only.as_deref(), reload.check),
            Purpose::Afresh => (None, false),
            Purpose::Restart { patient } => {
                let names = self.names();
                self.give(
                    order.client,
                    *patient,
                    Command::StopMany(names),
                    Shape::Plain,
                    Then::StartAfresh,
                );
                return Ok(());
            }
        };
        let wanted = self
            .target(config, only)
            .and_then(|target| self.wanted(target, check));
        match wanted {
            Ok(wanted) => {
                self.send_out(order, Errand::Prepare(Box::new(wanted)));
                Ok(())
            }
            Err(reason) => Err((order, reason)),
        }
    }

    /// It will not be done, and nothing has changed.
    fn given_up(&mut self, order: Order, reason: &str) {
        match order.purpose {
            Purpose::Reload(reload) => {
                if !reload.check {
                    tracing::error!("the configuration was not taken over: {reason}");
                }
                refuse(order.client.as_ref(), reason);
            }
            Purpose::Restart { .. } => {
                tracing::error!("nothing was restarted: {reason}");
                refuse(order.client.as_ref(), reason);
            }
            Purpose::Afresh if self.core.closing() => refuse(order.client.as_ref(), reason),
            Purpose::Afresh => {
                let text = format!("restarted with the configuration as it was: {reason}");
                tracing::error!("{text}");
                self.start_again(order.client, Some(text));
            }
        }
    }
}
