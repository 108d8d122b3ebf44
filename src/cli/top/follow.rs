//! The log of a watcher, as `circ logs --follow` reads it, brought to the screen. On a thread of its own: it reads files.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};
use tokio::sync::mpsc;

use super::Input;
use crate::cli::connection::Route;
use crate::cli::logs::file::Reader;
use crate::cli::logs::outlets::{Asked, Outlet, Place, Which};
use crate::top::News;
use crate::top::log::Voice;
use crate::wire::Client;

/// Lines to begin with.
const BEFORE: usize = 200;
/// From one look to the next.
const PAUSE: Duration = Duration::from_millis(250);
/// Lines that go to the screen at once.
const TOGETHER: usize = 500;
/// The longest line that is put together; what is longer comes in pieces.
const LONGEST: usize = 8192;

/// A log that is followed, until this is dropped.
pub struct Following {
    stop: Arc<AtomicBool>,
}

impl Drop for Following {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

/// Begins to follow what the processes of a watcher say. `local` is whether files of the daemon's machine are here.
pub fn start(
    watcher: Arc<str>,
    way: Arc<Route>,
    local: bool,
    timeout: Duration,
    news: mpsc::Sender<Input>,
) -> std::io::Result<Following> {
    let stop = Arc::new(AtomicBool::new(false));
    let follower = Follower {
        news,
        stop: stop.clone(),
    };
    std::thread::Builder::new()
        .name("log".to_string())
        .spawn(move || {
            if let Err(why) = follower.follow(&watcher, &way, local, timeout) {
                follower.note(&why);
            }
        })?;
    Ok(Following { stop })
}

struct Follower {
    news: mpsc::Sender<Input>,
    stop: Arc<AtomicBool>,
}

/// One output that is read.
struct Source {
    outlet: Outlet,
    voice: Voice,
    from: From,
    /// The beginning of a line whose end has not come.
    begun: Vec<u8>,
}

enum From {
    File(Reader),
    /// The daemon keeps the end of it; how many bytes of it have come.
    Memory(u64),
}

impl Follower {
    fn follow(
        &self,
        watcher: &str,
        way: &Route,
        local: bool,
        timeout: Duration,
    ) -> Result<(), String> {
        let client = Client::connect(&way.endpoint, timeout).map_err(|why| way.explain(&why))?;
        let mut asked = match local {
            true => Asked::of(client),
            // names of files of another machine mean nothing here
            false => Asked::Daemon {
                client: Box::new(client),
                directory: None,
            },
        };
        let outlets = asked
            .outlets(&[escape(watcher)], &[Which::Stdout, Which::Stderr])
            .map_err(|(_, why)| why)?;
        let mut sources = self.open(outlets, local);
        for source in &mut sources {
            if let From::File(reader) = &mut source.from {
                reader.rewind(BEFORE);
            }
        }
        if sources.is_empty() {
            return Err("there is nothing to follow".to_string());
        }
        let news = Inotify::init(InitFlags::IN_CLOEXEC | InitFlags::IN_NONBLOCK).ok();
        let flags =
            AddWatchFlags::IN_MODIFY | AddWatchFlags::IN_CREATE | AddWatchFlags::IN_MOVED_TO;
        for source in &sources {
            if let (Some(news), From::File(reader)) = (&news, &source.from) {
                // a directory that is not there yet is looked for after each pause
                let _ = news.add_watch(reader.directory(), flags);
            }
        }
        while !self.stop.load(Ordering::Relaxed) {
            for source in &mut sources {
                if !self.read(source, &mut asked) {
                    return Ok(());
                }
            }
            self.wait(news.as_ref());
        }
        Ok(())
    }

    /// Until something may have come.
    fn wait(&self, news: Option<&Inotify>) {
        use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
        use std::os::fd::AsFd;
        let Some(news) = news else {
            return std::thread::sleep(PAUSE);
        };
        let mut waited = [PollFd::new(news.as_fd(), PollFlags::POLLIN)];
        let pause = PollTimeout::try_from(PAUSE).unwrap_or(PollTimeout::ZERO);
        let _ = poll(&mut waited, pause); // interrupted: look all the same
        let _ = news.read_events(); // which file it was is found by looking
    }

    fn open(&self, outlets: Vec<Outlet>, local: bool) -> Vec<Source> {
        let mut sources: Vec<Source> = Vec::new();
        for outlet in outlets {
            let same = |other: &Source| other.outlet.place == outlet.place;
            let voice = match outlet.which {
                Some(Which::Stderr) => Voice::Err,
                _ => Voice::Out,
            };
            let from = match &outlet.place {
                Place::File(path) if !local => {
                    self.note(&format!(
                        "{} goes into {} on the daemon's machine; `circ logs` shows it there",
                        outlet.sentence(),
                        path.display()
                    ));
                    continue;
                }
                Place::File(path) => {
                    if let Some(other) = sources.iter_mut().find(|other| same(other)) {
                        other.outlet.shares(&outlet);
                        other.voice = Voice::Out;
                        continue;
                    }
                    match Reader::open(path) {
                        Ok(reader) => {
                            self.note(&format!("{}: {}", outlet.sentence(), path.display()));
                            From::File(reader)
                        }
                        Err(error) => {
                            self.note(&format!("cannot read {}: {error}", path.display()));
                            continue;
                        }
                    }
                }
                Place::Memory(class) => {
                    self.note(&format!(
                        "{} goes to a {class}; this is what the daemon remembers of it",
                        outlet.sentence()
                    ));
                    From::Memory(0)
                }
                Place::Elsewhere(where_to) => {
                    self.note(&format!("{} goes {where_to}", outlet.sentence()));
                    continue;
                }
            };
            sources.push(Source {
                outlet,
                voice,
                from,
                begun: Vec::new(),
            });
        }
        sources
    }

    /// Brings what has come to the screen; false when nobody looks any more.
    fn read(&self, source: &mut Source, asked: &mut Asked) -> bool {
        let mut lines = Vec::new();
        match &mut source.from {
            From::Memory(seen) => {
                if let Some((text, end)) = asked.remembered(&source.outlet, *seen) {
                    // a new daemon counts anew
                    *seen = if end < *seen { 0 } else { end };
                    cut(text.as_bytes(), &mut source.begun, source.voice, &mut lines);
                }
            }
            From::File(reader) => {
                for notice in reader.look() {
                    lines.push((Voice::Note, notice));
                }
                loop {
                    match reader.next() {
                        Ok(Some(bytes)) => cut(bytes, &mut source.begun, source.voice, &mut lines),
                        Ok(None) => break,
                        Err(why) => {
                            lines.push((Voice::Note, why));
                            break;
                        }
                    }
                    if lines.len() >= TOGETHER && !self.say(std::mem::take(&mut lines)) {
                        return false;
                    }
                }
            }
        }
        self.say(lines)
    }

    fn note(&self, words: &str) {
        self.say(vec![(Voice::Note, words.to_string())]);
    }

    /// False when nobody looks any more.
    fn say(&self, lines: Vec<(Voice, String)>) -> bool {
        if self.stop.load(Ordering::Relaxed) {
            return false;
        }
        if lines.is_empty() {
            return true;
        }
        let news = Input::News(News::Said(lines));
        self.news.blocking_send(news).is_ok()
    }
}

/// Cuts bytes into lines; what has no end yet is kept.
fn cut(bytes: &[u8], begun: &mut Vec<u8>, voice: Voice, lines: &mut Vec<(Voice, String)>) {
    for piece in bytes.split_inclusive(|byte| *byte == b'\n') {
        begun.extend(piece);
        if piece.ends_with(b"\n") || begun.len() >= LONGEST {
            let line = String::from_utf8_lossy(begun);
            lines.push((voice, line.trim_end_matches(['\n', '\r']).to_string()));
            begun.clear();
        }
    }
}

/// A watcher's name as a pattern that means it alone.
fn escape(name: &str) -> String {
    let mut pattern = String::new();
    for character in name.chars() {
        match character {
            '*' | '?' | '[' => pattern.extend(['[', character, ']']),
            other => pattern.push(other),
        }
    }
    pattern
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_become_lines_when_their_end_has_come() {
        let (mut begun, mut lines) = (Vec::new(), Vec::new());
        cut(b"one\r\ntw", &mut begun, Voice::Out, &mut lines);
        cut(b"o\n\xff\n", &mut begun, Voice::Out, &mut lines);
        cut(b"thr", &mut begun, Voice::Out, &mut lines);
        let texts: Vec<&str> = lines.iter().map(|(_, line)| line.as_str()).collect();
        assert_eq!(texts, ["one", "two", "\u{fffd}"]);
        assert_eq!(begun, b"thr");
        cut(&[b'x'; LONGEST], &mut begun, Voice::Out, &mut lines);
        assert_eq!((lines.len(), begun.len()), (4, 0));
        assert_eq!(escape("a*[b"), "a[*][[]b");
    }
}
