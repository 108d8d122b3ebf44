use super::*;
use crate::options::streams::StreamSpec;
use serde_json::json;

fn target(path: &Path, conf: serde_json::Value) -> FileTarget {
    let spec = StreamSpec::read(conf.as_object().unwrap()).unwrap();
    FileTarget::new(path.to_path_buf(), Arc::new(Mutex::new(Rules::of(&spec))))
}

fn text(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|error| format!("({error})"))
}

#[test]
fn a_file_is_rotated_between_lines_before_it_gets_too_large() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("log");
    let old = |number: u32| text(&directory.path().join(format!("log.{number}")));
    let mut file = target(
        &path,
        json!({"class": "FileStream", "max_bytes": 10, "backup_count": 3}),
    );
    // with its second line each file would have the size: Python rotates before that
    file.write(b"aaaa\nbbbb\ncccc\n").unwrap();
    assert_eq!(
        (text(&path), old(1), old(2)),
        ("cccc\n".into(), "bbbb\n".into(), "aaaa\n".into())
    );
    // a line that has begun is ended in the same file
    file.write(b"d").unwrap();
    file.write(b"ddddddddddddddd").unwrap();
    file.write(b"d\nee\nff").unwrap();
    let long = format!("cccc\n{}\n", "d".repeat(17));
    assert_eq!((text(&path), old(1)), ("ee\nff".into(), long));
    file.write(b"f\ng\nh\n").unwrap();
    assert_eq!((text(&path), old(1)), ("h\n".into(), "ee\nfff\ng\n".into()));
    assert!(!directory.path().join("log.4").exists());
}

#[test]
fn one_long_line_stays_whole() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("log");
    let mut file = target(
        &path,
        json!({"filename": "x", "max_bytes": 10, "backup_count": 1}),
    );
    let long = format!("{}\n", "x".repeat(100));
    file.write(long.as_bytes()).unwrap();
    assert_eq!(text(&path), long);
    file.write(b"short\n").unwrap();
    assert_eq!(text(&path), "short\n");
    assert_eq!(text(&directory.path().join("log.1")), long);
}

#[test]
fn without_backups_a_file_is_never_rotated() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("log");
    let mut file = target(&path, json!({"filename": "x", "max_bytes": 10}));
    for _ in 0..10 {
        file.write(b"0123456789\n").unwrap();
    }
    assert_eq!(text(&path).len(), 110);
}

#[test]
fn a_file_that_is_gone_is_made_anew() {
    let directory = tempfile::tempdir().unwrap();
    let (path, moved) = (directory.path().join("log"), directory.path().join("moved"));
    let mut plain = target(&path, json!({"class": "FileStream"}));
    plain.write(b"one\n").unwrap();
    fs::remove_file(&path).unwrap();
    plain.write(b"two\n").unwrap();
    assert_eq!(text(&path), "two\n");
    // one that was only moved is followed, until somebody says otherwise
    fs::rename(&path, &moved).unwrap();
    plain.write(b"three\n").unwrap();
    assert_eq!(text(&moved), "two\nthree\n");
    plain.reopen();
    plain.write(b"four\n").unwrap();
    assert_eq!(text(&path), "four\n");
    let mut watched = target(&path, json!({"class": "WatchedFileStream"}));
    watched.write(b"five\n").unwrap();
    fs::rename(&path, &moved).unwrap();
    watched.write(b"six\n").unwrap();
    assert_eq!(
        (text(&moved), text(&path)),
        ("four\nfive\n".into(), "six\n".into())
    );
}

#[test]
fn a_file_that_was_truncated_has_its_room_again() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("log");
    let mut file = target(
        &path,
        json!({"filename": "x", "max_bytes": 20, "backup_count": 1}),
    );
    file.write(b"0123456789\n").unwrap();
    File::create(&path).unwrap();
    file.write(b"0123456789\n").unwrap();
    assert_eq!(text(&path), "0123456789\n");
    assert!(!directory.path().join("log.1").exists());
}

#[test]
fn what_cannot_be_opened_or_rotated_says_so_and_loses_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let missing = directory.path().join("no/log");
    let mut file = target(&missing, json!({"filename": "x"}));
    let trouble = file.write(b"x\n").unwrap_err();
    assert_eq!(trouble.done, 0);
    assert!(
        trouble.what.contains("cannot open") && trouble.what.contains("no/log"),
        "{trouble:?}"
    );
    fs::create_dir(directory.path().join("no")).unwrap();
    file.write(b"x\n").unwrap();
    assert_eq!(text(&missing), "x\n");
    // a directory stands in the way of the rotated file: the file grows
    let path = directory.path().join("log");
    fs::create_dir(directory.path().join("log.1")).unwrap();
    fs::write(directory.path().join("log.1/file"), "").unwrap();
    let mut file = target(
        &path,
        json!({"filename": "x", "max_bytes": 4, "backup_count": 1}),
    );
    file.write(b"one\ntwo\nthree\n").unwrap();
    assert_eq!(text(&path), "one\ntwo\nthree\n");
}

#[test]
fn a_file_that_is_due_is_rotated_by_time() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("log");
    fs::write(&path, "old\n").unwrap();
    let file = File::options().append(true).open(&path).unwrap();
    let hour = Duration::from_secs(3601);
    file.set_modified(SystemTime::now() - hour).unwrap();
    let conf = json!({"class": "TimedRotatingFileStream", "rotate_when": "h", "backup_count": 2});
    let mut file = target(&path, conf);
    file.write(b"new\n").unwrap();
    assert_eq!(text(&path), "new\n");
    let rotated: Vec<PathBuf> = fs::read_dir(directory.path())
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|other| *other != path)
        .collect();
    assert_eq!(rotated.len(), 1);
    assert_eq!(text(&rotated[0]), "old\n");
}
