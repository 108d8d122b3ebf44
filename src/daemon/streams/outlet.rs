//! One output of one watcher: where it goes at the moment, and how much went there.

use super::file::{FileTarget, Rules, SharedRules};
use super::foreign::{Foreign, Python};
use super::format::{Shape, Which};
use super::sink::Sink;
use super::standard::Standard;
use super::syslog::{self, Messages};
use super::tail::Tail;
use super::target::{Nowhere, Target, Trouble};
use crate::daemon::syslog::Address;
use crate::options::Map;
use crate::options::streams::{StreamClass, StreamSpec};
use serde_json::{Value, json};
use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

/// Bytes that are kept of what goes where nobody can read it again.
const REMEMBERED: usize = 64 * 1024;

/// Where an output goes, and in which shape.
#[derive(Clone)]
pub struct Plan {
    /// The destination.
    pub sink: Arc<Sink>,
    /// What lines are made into.
    pub shape: Shape,
    /// What is too much is thrown away.
    pub drops: bool,
    /// The configuration it was made from.
    conf: Map<String, Value>,
    /// What runs it, if it is a class of the user's own.
    python: Option<Python>,
    class_name: String,
    /// The end of it is kept: it cannot be read from a file.
    pub remembered: bool,
    /// The file, if it is one.
    file: Option<PathBuf>,
}

/// One output of one watcher. Its workers' pipes lead here.
pub struct Outlet {
    /// Which of the two.
    pub which: Which,
    plan: Mutex<Arc<Plan>>,
    /// Bytes that the workers have said.
    pub bytes: AtomicU64,
    /// Bytes that were thrown away.
    pub dropped: AtomicU64,
    tail: Mutex<Tail>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Outlet {
    /// Where it goes now.
    pub fn plan(&self) -> Arc<Plan> {
        lock(&self.plan).clone()
    }

    /// Whether it goes where this configuration says, by way of this Python if it needs one.
    pub fn is_of(&self, conf: &Map<String, Value>, python: &Python) -> bool {
        let plan = lock(&self.plan);
        plan.conf == *conf && plan.python.as_ref().is_none_or(|own| own == python)
    }

    /// From now on it goes there.
    pub fn replace(&self, plan: Plan) {
        *lock(&self.plan) = Arc::new(plan);
    }

    /// Keeps the end of what is said, for `logtail`.
    pub fn remember(&self, said: &[u8]) {
        lock(&self.tail).keep(said);
    }

    /// For the reply to `status`.
    pub fn told(&self) -> Map<String, Value> {
        let plan = self.plan();
        let mut told = Map::from_iter([
            ("class".to_string(), json!(plan.class_name)),
            (
                "bytes".to_string(),
                json!(self.bytes.load(Ordering::Relaxed)),
            ),
            (
                "dropped".to_string(),
                json!(self.dropped.load(Ordering::Relaxed)),
            ),
        ]);
        if let Some(file) = &plan.file {
            told.insert("file".to_string(), json!(file.to_string_lossy()));
        }
        if let Some(trouble) = plan.sink.trouble() {
            told.insert("trouble".to_string(), json!(trouble));
        }
        told
    }

    /// For the reply to `logtail`: the last bytes of those that came after the first `after`, as text.
    pub fn last(&self, most: usize, after: u64) -> Map<String, Value> {
        let mut told = self.told();
        if self.plan().remembered {
            let tail = lock(&self.tail);
            let text = tail.last(most, after);
            told.insert("text".to_string(), json!(String::from_utf8_lossy(&text)));
            told.insert("end".to_string(), json!(tail.total()));
        }
        told
    }
}

/// Two outputs with the same key have one destination.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Key {
    File(PathBuf),
    Output,
    Error,
    Messages(Address),
}

/// A destination that somebody may use, and the rules of its file if it is one.
type Known = (Weak<Sink>, Option<SharedRules>);

/// Every destination there is, so that those who name the same share it.
#[derive(Default)]
pub struct Destinations(Mutex<HashMap<Key, Known>>);

impl Destinations {
    /// An output for this configuration; `cwd` is the directory that file names start from, `python` runs
    /// a class of the user's own.
    ///
    /// # Errors
    /// The configuration cannot be used: key and reason.
    pub fn outlet(
        &self,
        conf: &Map<String, Value>,
        watcher: &str,
        which: Which,
        cwd: &Path,
        python: Python,
    ) -> Result<Outlet, String> {
        let plan = self.plan(conf, watcher, which, cwd, python)?;
        Ok(Outlet {
            which,
            plan: Mutex::new(Arc::new(plan)),
            bytes: AtomicU64::new(0),
            dropped: AtomicU64::new(0),
            tail: Mutex::new(Tail::new(REMEMBERED)),
        })
    }

    /// Where an output of this configuration goes.
    ///
    /// # Errors
    /// As for [`Destinations::outlet`].
    pub fn plan(
        &self,
        conf: &Map<String, Value>,
        watcher: &str,
        which: Which,
        cwd: &Path,
        python: Python,
    ) -> Result<Plan, String> {
        let spec = StreamSpec::read(conf)
            .map_err(|error| format!("{}.{}: {}", which.option(), error.key, error.reason))?;
        let shape = Shape::of(&spec, watcher, which);
        let mut file = None;
        let mut key = None;
        let mut runs_in = None;
        let sink = match spec.class {
            StreamClass::File | StreamClass::WatchedFile | StreamClass::TimedFile => {
                match &spec.filename {
                    Some(name) => {
                        let path = absolute(cwd, name);
                        key = Some(Key::File(path.clone()));
                        file = Some(path);
                        None
                    }
                    None => Some(temporary(&spec, watcher, which)),
                }
            }
            StreamClass::Json => {
                key = Some(match &spec.filename {
                    Some(name) => {
                        let path = absolute(cwd, name);
                        file = Some(path.clone());
                        Key::File(path)
                    }
                    None => Key::Output,
                });
                None
            }
            StreamClass::Stdout | StreamClass::FancyStdout => {
                key = Some(Key::Output);
                None
            }
            StreamClass::Syslog | StreamClass::Journald => {
                key = Some(Key::Messages(syslog::place_of(&spec)));
                None
            }
            StreamClass::Foreign => {
                let label = spec.class_name.clone();
                let target = Foreign::new(&spec.class_name, conf, python.clone());
                runs_in = Some(python);
                Some(Arc::new(Sink::new(label, Box::new(target), true)))
            }
            StreamClass::Queue => {
                let label = spec.class_name.clone();
                Some(Arc::new(Sink::new(label, Box::new(Nowhere), false)))
            }
        };
        let sink = match (sink, key) {
            (Some(sink), _) => sink,
            (None, Some(key)) => self.shared(key, Rules::of(&spec)),
            (None, None) => Arc::new(Sink::new(String::new(), Box::new(Nowhere), false)),
        };
        Ok(Plan {
            sink,
            shape,
            drops: spec.drops,
            remembered: file.is_none(),
            conf: conf.clone(),
            python: runs_in,
            class_name: spec.class_name,
            file,
        })
    }

    /// The daemon's standard error, for workers that are listened to although they have no stream.
    pub fn unconfigured(&self) -> Outlet {
        let plan = Plan {
            sink: self.shared(Key::Error, Rules::default()),
            shape: Shape::Plain,
            drops: false,
            remembered: false,
            conf: Map::new(),
            python: None,
            class_name: String::new(),
            file: None,
        };
        Outlet {
            which: Which::Stderr,
            plan: Mutex::new(Arc::new(plan)),
            bytes: AtomicU64::new(0),
            dropped: AtomicU64::new(0),
            tail: Mutex::new(Tail::new(0)),
        }
    }

    fn shared(&self, key: Key, rules: Rules) -> Arc<Sink> {
        let mut all = lock(&self.0);
        if let Some((sink, shared)) = all.get(&key)
            && let Some(sink) = sink.upgrade()
        {
            if let Some(shared) = shared {
                let mut shared = lock(shared);
                if *shared != rules {
                    // two who name the same file and rotate it differently: the last word counts
                    *shared = rules;
                }
            }
            return sink;
        }
        all.retain(|_, (sink, _)| sink.strong_count() > 0);
        let mut shared = None;
        let sink = Arc::new(match &key {
            Key::File(path) => {
                let rules: SharedRules = Arc::new(Mutex::new(rules));
                shared = Some(rules.clone());
                let target = FileTarget::new(path.clone(), rules);
                Sink::new(path.display().to_string(), Box::new(target), false)
            }
            Key::Output => standard(Standard::Output),
            Key::Error => standard(Standard::Error),
            Key::Messages(place) => {
                let target = Messages::new(place.clone());
                Sink::new(syslog::name(place), Box::new(target), true)
            }
        });
        all.insert(key, (Arc::downgrade(&sink), shared));
        sink
    }

    /// Every destination that is in use.
    pub fn all(&self) -> Vec<Arc<Sink>> {
        lock(&self.0)
            .values()
            .filter_map(|(sink, _)| sink.upgrade())
            .collect()
    }
}

fn standard(standard: Standard) -> Sink {
    Sink::new(standard.name().to_string(), Box::new(standard), false)
}

fn absolute(cwd: &Path, name: &str) -> PathBuf {
    let path = cwd.join(name);
    std::path::absolute(&path).unwrap_or(path)
}

/// A file of its own in the temporary directory: what circus gives a file stream without a name.
fn temporary(spec: &StreamSpec, watcher: &str, which: Which) -> Arc<Sink> {
    let target = Temporary {
        whose: format!("{} of {watcher}", which.name()),
        rules: Arc::new(Mutex::new(Rules::of(spec))),
        made: None,
    };
    let label = format!("the temporary file for {}", target.whose);
    Arc::new(Sink::new(label, Box::new(target), false))
}

struct Temporary {
    whose: String,
    rules: SharedRules,
    made: Option<FileTarget>,
}

impl Temporary {
    fn made(&mut self, done: usize) -> Result<&mut FileTarget, Trouble> {
        if self.made.is_none() {
            let pattern = std::env::temp_dir().join("circ-XXXXXX");
            let (fd, path) = nix::unistd::mkstemp(&pattern).map_err(|error| {
                let what = format!("cannot make the file {}", pattern.display());
                Trouble::new(done, &what, &error.into())
            })?;
            // only the name was needed
            let _ = nix::unistd::close(fd);
            tracing::warn!(
                "the {} has no filename and goes to {}",
                self.whose,
                path.display()
            );
            self.made = Some(FileTarget::new(path, self.rules.clone()));
        }
        match &mut self.made {
            Some(made) => Ok(made),
            None => Err(Trouble {
                done,
                what: "there is no temporary file".to_string(),
            }),
        }
    }
}

impl Target for Temporary {
    fn open(&mut self) -> Result<(), Trouble> {
        self.made(0)?.open()
    }
    fn write(&mut self, bytes: &[u8]) -> Result<(), Trouble> {
        self.made(0)?.write(bytes)
    }
    fn reopen(&mut self) {
        if let Some(made) = &mut self.made {
            made.reopen();
        }
    }
    fn close(&mut self) {
        if let Some(made) = &mut self.made {
            made.close();
        }
    }
}
