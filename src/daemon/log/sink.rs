//! What takes the lines: standard error, a file, a syslog daemon. All of this may block, and is used by the log thread
//! alone.

use super::format::{Format, Writer, severity};
use super::output::Output;
use super::record::Record;
use super::syslog::Connection;
use crate::daemon::streams::{FileTarget, Rules, Target};
use crate::options::streams::StreamSpec;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use tracing::Level;
use tracing_subscriber::filter::LevelFilter;

/// One place that the log goes to, and what goes there.
#[derive(Debug, Clone, PartialEq)]
pub struct Destination {
    /// The place.
    pub output: Output,
    /// The least level that goes there.
    pub level: LevelFilter,
    /// How it is written there.
    pub format: Format,
    /// A file is emptied when it is opened first (Python's `mode = w`).
    pub afresh: bool,
    /// How a file is rotated, in the terms of the output streams; `None` if somebody else does that.
    pub rotation: Option<StreamSpec>,
}

impl Destination {
    /// All levels go there.
    pub fn plain(output: Output, format: Format) -> Destination {
        Destination {
            output,
            level: LevelFilter::TRACE,
            format,
            afresh: false,
            rotation: None,
        }
    }
}

/// An open destination.
pub struct Sink {
    destination: Destination,
    place: Place,
    /// Records that could not be written since the last that could.
    lost: u64,
    why: String,
    /// The last write ended within a line.
    torn: bool,
}

enum Place {
    Stream { error: bool, journal: bool },
    File(WatchedFile),
    Rotated(FileTarget),
    Syslog(Connection, u8),
    Nowhere,
}

impl Sink {
    /// Opens it. A syslog daemon may come later; a file has to be there now.
    ///
    /// # Errors
    /// The file that cannot be opened, and why.
    pub fn open(destination: Destination) -> io::Result<Sink> {
        let place = match &destination.output {
            Output::Stderr => Place::Stream {
                error: true,
                journal: is_journal(io::stderr().as_fd()),
            },
            Output::Stdout => Place::Stream {
                error: false,
                journal: is_journal(io::stdout().as_fd()),
            },
            Output::File(path) if let Some(spec) = &destination.rotation => {
                let rules = Arc::new(Mutex::new(Rules::of(spec)));
                let mut target = FileTarget::new(path.clone(), rules);
                target
                    .open()
                    .map_err(|trouble| io::Error::other(format!("the log: {}", trouble.what)))?;
                Place::Rotated(target)
            }
            Output::File(path) => {
                let opened = WatchedFile::open(path.clone(), destination.afresh);
                Place::File(opened.map_err(|error| {
                    let text = format!("cannot open log file {}: {error}", path.display());
                    io::Error::new(error.kind(), text)
                })?)
            }
            Output::Syslog(syslog) => {
                Place::Syslog(Connection::new(syslog.address.clone()), syslog.facility)
            }
            Output::Nowhere => Place::Nowhere,
        };
        Ok(Sink {
            destination,
            place,
            lost: 0,
            why: String::new(),
            torn: false,
        })
    }

    /// Writes the records that are meant for it. What cannot be written is counted, and the count written once
    /// something can be.
    pub fn write(&mut self, records: &[Record], writer: &Writer) {
        let level = self.destination.level;
        let mut wanted: Vec<&Record> = records.iter().filter(|r| r.level <= level).collect();
        if wanted.is_empty() {
            return;
        }
        let count = wanted.len() as u64;
        let notice = (self.lost > 0).then(|| {
            let text = format!("{} log lines lost: {}", self.lost, self.why);
            let mut notice = Record::new(Level::WARN, text);
            notice.fields.insert("lost".into(), self.lost.into());
            notice
        });
        wanted.splice(0..0, notice.iter());
        match self.put(&wanted, writer) {
            Ok(()) => self.lost = 0,
            Err(error) => {
                let first = self.lost == 0;
                self.lost += count;
                self.why = format!("cannot write to {}: {error}", self.destination.output);
                if first && self.destination.output != Output::Stderr {
                    complain(&format!(
                        "circ: {}; log lines are lost until it works again",
                        self.why
                    ));
                }
            }
        }
    }

    fn put(&mut self, records: &[&Record], writer: &Writer) -> io::Result<()> {
        let format = &self.destination.format;
        let lines = |journal: bool| {
            let mut text = String::new();
            for record in records {
                let line = writer.line(record, format);
                if journal {
                    // journald reads a priority at the start of each line
                    for line in line.lines() {
                        text.push_str(&format!("<{}>{line}\n", severity(record.level)));
                    }
                } else {
                    text.push_str(&line);
                }
            }
            text
        };
        match &mut self.place {
            Place::Stream { error, journal } => {
                let text = lines(*journal);
                if *error {
                    write_whole(&mut io::stderr(), text.as_bytes(), &mut self.torn)
                } else {
                    write_whole(&mut io::stdout(), text.as_bytes(), &mut self.torn)
                }
            }
            Place::File(watched) => {
                if watched.follow() {
                    self.torn = false;
                }
                write_whole(&mut watched.file, lines(false).as_bytes(), &mut self.torn)
            }
            Place::Rotated(target) => target
                .write(lines(false).as_bytes())
                .map_err(|trouble| io::Error::other(trouble.what)),
            Place::Syslog(connection, facility) => {
                let mut result = Ok(());
                for record in records {
                    let sent = connection.send(&writer.syslog(record, format, *facility));
                    result = result.and(sent);
                }
                result
            }
            Place::Nowhere => Ok(()),
        }
    }

    /// Opens its file again, for whoever has moved it: so that the new one is there at once.
    pub fn reopen(&mut self) {
        match &mut self.place {
            Place::File(watched) => self.torn &= !watched.follow(),
            Place::Rotated(target) => target.reopen(),
            _ => {}
        }
    }
}

/// Writes all of it, or says why not. A stream that somebody else has set not to block is waited for. When the last
/// write broke off within a line, this one begins with the end of that line.
fn write_whole(to: &mut (impl Write + AsFd), bytes: &[u8], torn: &mut bool) -> io::Result<()> {
    let whole = [b"\n", bytes].concat();
    let mut left = if *torn { &whole[..] } else { bytes };
    while !left.is_empty() {
        match to.write(left) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(written) => {
                *torn = left[written - 1] != b'\n';
                left = &left[written..];
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                let mut waited = [PollFd::new(to.as_fd(), PollFlags::POLLOUT)];
                poll(&mut waited, PollTimeout::NONE)?;
            }
            Err(error) => return Err(error),
        }
    }
    to.flush()
}

/// Says it on standard error, if somebody reads that: a full pipe is left alone.
fn complain(text: &str) {
    let errors = io::stderr();
    let mut ready = [PollFd::new(errors.as_fd(), PollFlags::POLLOUT)];
    let _ = poll(&mut ready, PollTimeout::ZERO); // said nothing, it is as if it were full
    let takes = ready[0].revents() == Some(PollFlags::POLLOUT);
    if takes {
        let _ = writeln!(errors.lock(), "{text}"); // there is nobody else to tell
    }
}

/// Whether systemd has connected this descriptor to its journal, as `JOURNAL_STREAM` says (systemd.exec(5)).
fn is_journal(stream: impl AsFd) -> bool {
    let named = std::env::var("JOURNAL_STREAM").unwrap_or_default();
    let is = nix::sys::stat::fstat(stream.as_fd());
    is.is_ok_and(|is| named == format!("{}:{}", is.st_dev, is.st_ino))
}

/// Python's `WatchedFileHandler`: looks before each write whether the path still leads to the file.
struct WatchedFile {
    path: PathBuf,
    file: File,
}

impl WatchedFile {
    fn open(path: PathBuf, afresh: bool) -> io::Result<WatchedFile> {
        let file = OpenOptions::new().append(true).create(true).open(&path)?;
        if afresh {
            file.set_len(0)?;
        }
        Ok(WatchedFile { path, file })
    }

    fn is_current(&self) -> bool {
        match (self.file.metadata(), std::fs::metadata(&self.path)) {
            (Ok(open), Ok(there)) => (open.dev(), open.ino()) == (there.dev(), there.ino()),
            _ => false,
        }
    }

    /// Opens the file again if the path does not lead to it any more; true if that is another one now. If it cannot be
    /// opened (the directory is gone), the old file still takes the lines.
    fn follow(&mut self) -> bool {
        if self.is_current() {
            return false;
        }
        match WatchedFile::open(self.path.clone(), false) {
            Ok(again) => {
                *self = again;
                true
            }
            Err(_) => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use jiff::tz::TimeZone;
    use std::path::Path;

    fn sink(path: &Path) -> Sink {
        Sink::open(Destination {
            level: LevelFilter::INFO,
            ..Destination::plain(Output::File(path.to_owned()), Format::Text)
        })
        .unwrap()
    }

    fn write(sink: &mut Sink, texts: &[&str]) {
        let writer = Writer {
            pid: 1,
            zone: TimeZone::UTC,
        };
        let records: Vec<Record> = texts
            .iter()
            .map(|text| Record::new(Level::INFO, text.to_string()))
            .collect();
        sink.write(&records, &writer);
    }

    fn messages(path: &Path) -> Vec<String> {
        let text = std::fs::read_to_string(path).unwrap();
        text.lines()
            .map(|line| line.split_once("] ").map_or(line, |l| l.1).to_string())
            .collect()
    }

    #[test]
    fn a_moved_file_is_opened_again() {
        let directory = tempfile::tempdir().unwrap();
        let (path, old) = (directory.path().join("log"), directory.path().join("log.1"));
        let mut sink = sink(&path);
        write(&mut sink, &["one"]);
        std::fs::rename(&path, &old).unwrap();
        write(&mut sink, &["two"]);
        std::fs::remove_file(&path).unwrap();
        write(&mut sink, &["three"]);
        assert_eq!(messages(&old), ["[INFO] one"]);
        assert_eq!(messages(&path), ["[INFO] three"]);
        std::fs::rename(&path, &old).unwrap();
        sink.reopen();
        assert_eq!(messages(&path), [""; 0], "there at once");
    }

    #[test]
    fn lines_that_cannot_be_written_are_counted() {
        // the directory is gone, and the file with it: the old file still takes the lines, so it is closed by force
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("log");
        let mut sink = sink(&path);
        sink.place = Place::File(WatchedFile {
            path: directory.path().join("gone/log"),
            file: File::open("/dev/null").unwrap(), // not for writing
        });
        write(&mut sink, &["one", "two"]);
        write(&mut sink, &["three"]);
        sink.place = Place::File(WatchedFile::open(path.clone(), false).unwrap());
        write(&mut sink, &["four"]);
        write(&mut sink, &["five"]);
        let told = messages(&path);
        assert_eq!(told.len(), 3, "{told:?}");
        assert!(
            told[0].starts_with("[WARNING] 3 log lines lost: cannot write to "),
            "{told:?}"
        );
        assert!(
            told[1].ends_with("four") && told[2].ends_with("five"),
            "{told:?}"
        );
    }

    #[test]
    fn a_torn_line_is_ended_before_the_next() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("log");
        let mut sink = sink(&path);
        sink.torn = true;
        std::fs::write(&path, "half a li").unwrap();
        write(&mut sink, &["whole"]);
        assert_eq!(messages(&path), ["half a li", "[INFO] whole"]);
    }

    #[test]
    fn a_stream_that_does_not_block_is_waited_for() {
        let (reader, writer) = std::io::pipe().unwrap();
        nix::fcntl::fcntl(
            &writer,
            nix::fcntl::FcntlArg::F_SETFL(nix::fcntl::OFlag::O_NONBLOCK),
        )
        .unwrap();
        let bytes = vec![b'x'; 1 << 20];
        let sender = std::thread::spawn(move || {
            write_whole(
                &mut File::from(std::os::fd::OwnedFd::from(writer)),
                &bytes,
                &mut false,
            )
        });
        let mut read = Vec::new();
        io::Read::read_to_end(&mut { reader }, &mut read).unwrap();
        sender.join().unwrap().unwrap();
        assert_eq!(read.len(), 1 << 20);
    }
}
