//! The thread that looks up users and groups. That may mean asking a directory server, which may be away.

use super::accounts::{self, Credentials};
use super::router::Client;
use crate::options::{Map, Value};
use crate::supervisor::WatcherId;
use std::sync::mpsc as blocking;
use tokio::sync::mpsc;

/// What is to be looked up.
pub enum Question {
    /// Who a watcher's workers run as.
    Launch {
        /// The watcher.
        id: WatcherId,
        /// Its option `uid`.
        uid: Value,
        /// Its option `gid`.
        gid: Value,
    },
    /// The user and group in a client's `set`.
    Set {
        /// Who asked.
        client: Option<(Client, Value)>,
        /// Whether the client waits for the outcome.
        patient: bool,
        /// The watcher.
        name: String,
        /// All the options to be set.
        options: Map<String, Value>,
    },
}

/// What was found.
pub enum Answer {
    /// See [`Question::Launch`].
    Launch {
        /// The watcher.
        id: WatcherId,
        /// As asked.
        uid: Value,
        /// As asked.
        gid: Value,
        /// The numbers, or why there are none.
        result: Result<Credentials, String>,
    },
    /// See [`Question::Set`].
    Set {
        /// Who asked.
        client: Option<(Client, Value)>,
        /// Whether the client waits for the outcome.
        patient: bool,
        /// The watcher.
        name: String,
        /// The options with numbers for users and groups, or why that is impossible.
        changes: Result<Vec<(String, Value)>, String>,
    },
}

/// The way to the thread, which starts with the first question.
pub struct Lookups {
    questions: Option<blocking::Sender<Question>>,
    sender: mpsc::UnboundedSender<Answer>,
    answers: mpsc::UnboundedReceiver<Answer>,
}

impl Lookups {
    /// No question yet.
    pub fn new() -> Lookups {
        let (sender, answers) = mpsc::unbounded_channel();
        Lookups {
            questions: None,
            sender,
            answers,
        }
    }

    /// The next answer.
    pub async fn answer(&mut self) -> Option<Answer> {
        self.answers.recv().await
    }

    /// Asks. The answer comes by [`Lookups::answer`].
    pub fn ask(&mut self, question: Question) {
        let unheard = match &self.questions {
            Some(questions) => questions.send(question).err().map(|back| back.0),
            None => Some(question),
        };
        let Some(question) = unheard else {
            return;
        };
        let (questions, queue) = blocking::channel::<Question>();
        let sender = self.sender.clone();
        let thread = std::thread::Builder::new()
            .name("lookups".to_string())
            .stack_size(256 * 1024)
            .spawn(move || {
                for question in queue {
                    // the daemon is ending if nobody wants the answer
                    if sender.send(look_up(question)).is_err() {
                        return;
                    }
                }
            });
        match thread {
            Ok(_) => {
                // the thread has just been started and waits for it
                let _ = questions.send(question);
                self.questions = Some(questions);
            }
            Err(error) => {
                tracing::warn!("looking up an account on the main thread: {error}");
                // the receiver is ours
                let _ = self.sender.send(look_up(question));
            }
        }
    }
}

impl Default for Lookups {
    fn default() -> Self {
        Lookups::new()
    }
}

fn look_up(question: Question) -> Answer {
    match question {
        Question::Launch { id, uid, gid } => {
            let result = accounts::credentials(Some(&uid), Some(&gid));
            Answer::Launch {
                id,
                result: result.map_err(|error| error.to_string()),
                uid,
                gid,
            }
        }
        Question::Set {
            client,
            patient,
            name,
            options,
        } => Answer::Set {
            client,
            patient,
            name,
            changes: options
                .into_iter()
                .map(|(key, value)| {
                    let number = match key.as_str() {
                        "uid" => accounts::to_uid(&value).map(Value::from),
                        "gid" => accounts::to_gid(&value).map(Value::from),
                        _ => Ok(value),
                    };
                    number
                        .map(|value| (key, value))
                        .map_err(|error| error.to_string())
                })
                .collect(),
        },
    }
}
