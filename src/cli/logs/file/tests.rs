use super::*;
use std::io::Write;

struct Log {
    directory: tempfile::TempDir,
}

impl Log {
    fn new() -> Log {
        let directory = tempfile::tempdir().unwrap();
        Log { directory }
    }

    fn path(&self) -> PathBuf {
        self.directory.path().join("log")
    }

    fn say(&self, text: &str) {
        let mut file = File::options()
            .append(true)
            .create(true)
            .open(self.path())
            .unwrap();
        file.write_all(text.as_bytes()).unwrap();
    }

    /// As RotatingFileHandler does it, with three old files.
    fn rotate(&self) {
        for number in (1..3).rev() {
            let name = |n: i32| self.directory.path().join(format!("log.{n}"));
            let _ = fs::rename(name(number), name(number + 1));
        }
        fs::rename(self.path(), self.directory.path().join("log.1")).unwrap();
    }
}

fn read(reader: &mut Reader) -> String {
    let mut all = Vec::new();
    while let Some(bytes) = reader.next().unwrap() {
        all.extend_from_slice(bytes);
    }
    String::from_utf8(all).unwrap()
}

fn news(reader: &mut Reader) -> String {
    assert_eq!(reader.look(), [""; 0]);
    read(reader)
}

#[test]
fn the_last_lines_and_then_more() {
    let log = Log::new();
    log.say("one\ntwo\nthree\n");
    let mut reader = Reader::open(&log.path()).unwrap();
    reader.rewind_since(2, None);
    assert_eq!(read(&mut reader), "two\nthree\n");
    log.say("four\nfi");
    assert_eq!(news(&mut reader), "four\nfi");
    log.say("ve\n");
    assert_eq!(news(&mut reader), "ve\n");
    reader.rewind_since(1, None);
    assert_eq!(read(&mut reader), "five\n");
    reader.rewind_since(0, None);
    assert_eq!(read(&mut reader), "");
}

#[test]
fn lines_longer_than_a_block() {
    let log = Log::new();
    let long = "x".repeat(BLOCK + 7);
    log.say(&format!("zero\n{long}\n{long}\n"));
    let mut reader = Reader::open(&log.path()).unwrap();
    reader.rewind_since(2, None);
    assert_eq!(read(&mut reader), format!("{long}\n{long}\n"));
    reader.rewind_since(3, None);
    assert!(read(&mut reader).starts_with("zero\n"));
}

#[test]
fn rotated_files_are_part_of_it() {
    let log = Log::new();
    log.say("one\ntwo\n");
    log.rotate();
    log.say("three\n");
    log.rotate();
    fs::write(log.directory.path().join("log.old"), "not this\n").unwrap();
    log.say("four\n");
    let lines = |count| {
        let mut reader = Reader::open(&log.path()).unwrap();
        reader.rewind_since(count, None);
        read(&mut reader)
    };
    assert_eq!(lines(1), "four\n");
    assert_eq!(lines(2), "three\nfour\n");
    assert_eq!(lines(3), "two\nthree\nfour\n");
    assert_eq!(lines(usize::MAX), "one\ntwo\nthree\nfour\n");
}

#[test]
fn several_rotations_between_two_looks_lose_nothing() {
    let log = Log::new();
    log.say("one\n");
    let mut reader = Reader::open(&log.path()).unwrap();
    assert_eq!(news(&mut reader), "one\n");
    log.say("two\n");
    log.rotate();
    log.say("three\n");
    log.rotate();
    log.say("four\n");
    assert_eq!(news(&mut reader), "two\nthree\nfour\n");
}

#[test]
fn a_late_line_in_the_old_file_is_seen() {
    let log = Log::new();
    log.say("one\n");
    let mut old = File::options().append(true).open(log.path()).unwrap();
    let mut reader = Reader::open(&log.path()).unwrap();
    assert_eq!(news(&mut reader), "one\n");
    log.rotate();
    old.write_all(b"two\n").unwrap();
    assert_eq!(news(&mut reader), "two\n", "there is no new file yet");
    log.say("four\n");
    assert_eq!(news(&mut reader), "four\n");
    old.write_all(b"three\n").unwrap();
    assert_eq!(news(&mut reader), "three\n");
}

#[test]
fn truncated_removed_and_late_files() {
    let log = Log::new();
    let mut reader = Reader::open(&log.path()).unwrap();
    assert!(!reader.is_there());
    assert_eq!(news(&mut reader), "");
    log.say("one\n");
    assert_eq!(news(&mut reader), "one\n");
    fs::write(log.path(), "").unwrap();
    log.say("2\n");
    assert_eq!(
        reader.look(),
        [format!("{} was truncated", log.path().display())]
    );
    assert_eq!(read(&mut reader), "2\n");
    fs::remove_file(log.path()).unwrap();
    assert_eq!(news(&mut reader), "");
    log.say("three\n");
    assert_eq!(news(&mut reader), "three\n");
}

#[test]
fn what_is_no_file_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    assert!(Reader::open(directory.path()).is_err());
    let pipe = directory.path().join("pipe");
    nix::unistd::mkfifo(&pipe, nix::sys::stat::Mode::S_IRWXU).unwrap();
    assert!(Reader::open(&pipe).is_err());
}

fn pack(log: &Log, from: &str) {
    let path = log.directory.path().join(from);
    let target = log.directory.path().join(format!("{from}.gz"));
    let changed = fs::metadata(&path).unwrap().modified().unwrap();
    let file = File::create(target).unwrap();
    let mut encoder = flate2::write::GzEncoder::new(file, flate2::Compression::fast());
    encoder.write_all(&fs::read(&path).unwrap()).unwrap();
    encoder.finish().unwrap().set_modified(changed).unwrap();
}

#[test]
fn compressed_files_are_part_of_it() {
    let log = Log::new();
    for lines in ["one\ntwo\n", "three\n"] {
        log.say(lines);
        log.rotate();
    }
    log.say("four\n");
    pack(&log, "log.2");
    let lines = |count| {
        let mut reader = Reader::open(&log.path()).unwrap();
        assert_eq!(reader.rewind_since(count, None), [""; 0]);
        read(&mut reader)
    };
    // As long as both are there, they are one.
    assert_eq!(lines(usize::MAX), "one\ntwo\nthree\nfour\n");
    fs::remove_file(log.directory.path().join("log.2")).unwrap();
    assert_eq!(lines(3), "two\nthree\nfour\n");
    assert_eq!(lines(usize::MAX), "one\ntwo\nthree\nfour\n");

    fs::write(log.directory.path().join("log.2.gz"), "no gzip").unwrap();
    let mut reader = Reader::open(&log.path()).unwrap();
    assert_eq!(reader.rewind_since(usize::MAX, None).len(), 1);
    assert_eq!(read(&mut reader), "three\nfour\n");
}

#[test]
fn lines_since_a_moment() {
    let log = Log::new();
    let clock = LineClock::new(None, jiff::tz::TimeZone::UTC);
    let long = "x".repeat(BLOCK);
    log.say(&format!(
        "2026-01-02 03:00:00 one\n2026-01-02 03:01:00 {long}\n"
    ));
    log.rotate();
    log.say("  more of it\n2026-01-02 03:02:00 three\n  and this\n2026-01-02 03:03:00 four");
    let since = |at: &str, lines| {
        let mut reader = Reader::open(&log.path()).unwrap();
        reader.rewind_since(lines, None);
        let told = reader.skip_to(at.parse().unwrap(), &clock);
        (told, read(&mut reader).replace(&long, "two"))
    };
    let all = "2026-01-02 03:01:00 two\n  more of it\n2026-01-02 03:02:00 three\n  and this\n2026-01-02 03:03:00 four";
    assert_eq!(
        since("2026-01-02T03:00:30Z", usize::MAX),
        (true, all.to_string())
    );
    let (_, two) = all.split_at(all.find("2026-01-02 03:02").unwrap());
    assert_eq!(
        since("2026-01-02T03:01:01Z", usize::MAX),
        (true, two.to_string())
    );
    assert_eq!(since("2026-01-02T03:00:30Z", 3), (true, two.to_string()));
    assert_eq!(
        since("2026-01-02T03:02:30Z", 9),
        (true, "2026-01-02 03:03:00 four".to_string())
    );
    assert_eq!(
        since("2026-01-02T04:00:00Z", usize::MAX),
        (true, String::new())
    );
    fs::remove_file(log.directory.path().join("log.1")).unwrap();
    fs::write(log.path(), "one\ntwo\n").unwrap();
    assert_eq!(
        since("2026-01-02T03:00:00Z", usize::MAX),
        (false, "one\ntwo\n".to_string())
    );
}
