//! The events of a daemon, over its absences: a thread that listens, and finds it again when it was away.

use std::sync::mpsc::SyncSender;
use std::time::{Duration, Instant};

use super::line::Event;
use crate::cli::status::asking::{self, now};
use crate::cli::{EXIT_REFUSED, EXIT_UNREACHABLE, connection};
use crate::wire::{Client, Followed, follow};

/// Pauses between two attempts to find the daemon.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(2);

/// What is heard.
#[derive(Debug, Clone, PartialEq)]
pub enum Heard {
    /// From here on nothing is missed.
    Connected,
    /// An event, or that the daemon is lost or back.
    Event(Event),
    /// There was no daemon to begin with: exit code and why.
    Nobody(u8, String),
}

/// Listens until nobody takes what is heard. Only a daemon that was there once is waited for.
pub fn listen<T: From<Heard> + Send + 'static>(connection: connection::Args, news: SyncSender<T>) {
    std::thread::spawn(move || {
        let mut lost: Option<Instant> = None;
        let mut pause = FIRST_PAUSE;
        let mut met = false;
        loop {
            let mut open = true;
            let outcome = attend(&connection, |followed| {
                let mut send = |heard: Heard| open = news.send(heard.into()).is_ok();
                match followed {
                    Followed::Connected => {
                        met = true;
                        pause = FIRST_PAUSE;
                        if let Some(since) = lost.take() {
                            send(Heard::Event(Event::back(
                                now(),
                                since.elapsed().as_secs_f64(),
                            )));
                        }
                        send(Heard::Connected);
                    }
                    Followed::Event(topic, payload) => {
                        send(Heard::Event(Event::heard(topic, payload)));
                    }
                }
            });
            let why = match outcome {
                Ok(()) => "the daemon closed the connection".to_string(),
                Err((code, why)) if !met => {
                    let _ = news.send(Heard::Nobody(code, why).into());
                    return;
                }
                Err((_, why)) => why,
            };
            if lost.is_none() {
                lost = Some(Instant::now());
                open &= news
                    .send(Heard::Event(Event::lost(now(), &why)).into())
                    .is_ok();
            }
            if !open {
                return;
            }
            std::thread::sleep(pause);
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    });
}

/// One connection, to its end. Where events are published is asked anew each time: a daemon may come back with another
/// configuration.
fn attend(
    connection: &connection::Args,
    tell: impl FnMut(Followed<'_>),
) -> Result<(), (u8, String)> {
    let control = connection
        .route()
        .map_err(|error| (error.code(), error.to_string()))?;
    let unreachable = |error: &dyn std::fmt::Display| (EXIT_UNREACHABLE, control.explain(error));
    let mut client = Client::connect(&control.endpoint, connection.timeout())
        .map_err(|error| unreachable(&error))?;
    let publisher = asking::publisher(&mut client).map_err(|(refused, why)| match refused {
        true => (EXIT_REFUSED, why),
        false => unreachable(&why),
    })?;
    drop(client);
    let publisher = control.beside(publisher);
    let publisher = publisher.map_err(|why| (EXIT_UNREACHABLE, why))?;
    let stop = tokio::sync::Notify::new();
    follow(&publisher.endpoint, connection.timeout(), &stop, tell)
        .map_err(|error| (EXIT_UNREACHABLE, publisher.explain(&error)))
}
