use std::collections::BTreeMap;
use std::fs::Permissions;
use std::os::unix::fs::{PermissionsExt, symlink};

use rustix::fs::{XattrFlags, getxattr, setxattr};

use super::*;

/// `user::rw- user:1:r-- group::r-- mask::r-- other::---`, as the kernel stores it.
const ACCESS_LIST: &[u8] = &[
    2, 0, 0, 0, // version
    1, 0, 6, 0, 255, 255, 255, 255, // the owner
    2, 0, 4, 0, 1, 0, 0, 0, // user 1
    4, 0, 4, 0, 255, 255, 255, 255, // the group
    16, 0, 4, 0, 255, 255, 255, 255, // the mask
    32, 0, 0, 0, 255, 255, 255, 255, // others
];

/// A directory with these files in it.
fn site(files: &[(&str, &str)]) -> tempfile::TempDir {
    let directory = tempfile::tempdir().unwrap();
    for (name, content) in files {
        fs::write(directory.path().join(name), content).unwrap();
    }
    directory
}

/// All that is in a directory: names, contents.
fn all(directory: &Path) -> BTreeMap<String, String> {
    fs::read_dir(directory)
        .unwrap()
        .map(|entry| {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_str().unwrap().to_string();
            (name, fs::read_to_string(&path).unwrap_or_default())
        })
        .collect()
}

fn expect(directory: &Path, files: &[(&str, &str)]) {
    let files = files
        .iter()
        .map(|(name, content)| (name.to_string(), content.to_string()));
    assert_eq!(all(directory), files.collect());
}

fn attribute(path: &Path, name: &str) -> Option<Vec<u8>> {
    let mut value = vec![0; MOST_OF_A_VALUE];
    let length = getxattr(path, name, &mut value).ok()?;
    value.truncate(length);
    Some(value)
}

const MOST_OF_A_VALUE: usize = 1000;

/// Sets it, or says that this file system has none.
fn give(path: &Path, name: &str, value: &[u8]) -> bool {
    match setxattr(path, name, value, XattrFlags::empty()) {
        Ok(()) => true,
        Err(Errno::NOTSUP) => {
            eprintln!("the file system of {} has no {name}", path.display());
            false
        }
        Err(error) => panic!("{name}: {error}"),
    }
}

#[test]
fn a_replaced_file_keeps_mode_and_link_and_leaves_no_rest() {
    let site = site(&[("real.ini", "old")]);
    let [real, link] = ["real.ini", "link.ini"].map(|name| site.path().join(name));
    fs::set_permissions(&real, Permissions::from_mode(0o640)).unwrap();
    symlink("real.ini", &link).unwrap();

    let stored = replace(&link, b"old", b"new", &Options::default()).unwrap();

    assert_eq!((stored.backup, stored.warnings), (None, vec![]));
    assert_eq!(stored.path, real.canonicalize().unwrap());
    assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
    assert_eq!(fs::metadata(&real).unwrap().mode() & 0o7777, 0o640);
    expect(site.path(), &[("real.ini", "new"), ("link.ini", "new")]);
}

#[test]
fn equal_contents_are_not_written() {
    let site = site(&[("circus.ini", "old")]);
    let path = site.path().join("circus.ini");
    let before = fs::metadata(&path).unwrap();
    let backup = Options { backup: true };
    let stored = replace(&path, b"old", b"old", &backup).unwrap();
    assert_eq!(stored.backup, None);
    let after = fs::metadata(&path).unwrap();
    assert_eq!(
        (before.ino(), before.ctime_nsec()),
        (after.ino(), after.ctime_nsec())
    );
    expect(site.path(), &[("circus.ini", "old")]);
}

#[test]
fn access_list_and_attributes_are_kept() {
    let site = site(&[("circus.ini", "old")]);
    let path = site.path().join("circus.ini");
    let kept = [
        ("user.origin", b"site 12".as_slice()),
        ("user.empty", b""),
        ("system.posix_acl_access", ACCESS_LIST),
    ]
    .map(|(name, value)| (name, give(&path, name, value).then(|| value.to_vec())));
    let mode = fs::metadata(&path).unwrap().mode();

    let stored = replace(&path, b"old", b"new", &Options { backup: true }).unwrap();

    for file in [&path, &stored.backup.unwrap()] {
        for (name, value) in &kept {
            assert_eq!(&attribute(file, name), value, "{name}");
        }
        assert_eq!(fs::metadata(file).unwrap().mode(), mode);
    }
}

#[test]
fn a_default_access_list_of_the_directory_is_not_taken_over() {
    let site = site(&[("circus.ini", "old")]);
    let path = site.path().join("circus.ini");
    fs::set_permissions(&path, Permissions::from_mode(0o600)).unwrap();
    if !give(site.path(), "system.posix_acl_default", ACCESS_LIST) {
        return;
    }
    replace(&path, b"old", b"new", &Options::default()).unwrap();
    assert_eq!(attribute(&path, "system.posix_acl_access"), None);
    assert_eq!(fs::metadata(&path).unwrap().mode() & 0o7777, 0o600);
    // A new file gets it, as every new file there does.
    let new = site.path().join("new.ini");
    create(&new, b"x").unwrap();
    assert!(attribute(&new, "system.posix_acl_access").is_some());
}

#[test]
fn a_file_that_somebody_else_changed_is_left_alone() {
    let site = site(&[("circus.ini", "theirs")]);
    let path = site.path().join("circus.ini");
    let none = Options::default();
    for result in [
        replace(&path, b"old", b"new", &none),
        create(&path, b"new"),
        remove(&path, b"old"),
        replace(&site.path().join("gone.ini"), b"old", b"new", &none),
        remove(&site.path().join("gone.ini"), b"old"),
    ] {
        assert!(
            matches!(result, Err(StoreError::Changed { .. })),
            "{result:?}"
        );
    }
    expect(site.path(), &[("circus.ini", "theirs")]);
}

#[test]
fn a_backup_is_the_old_version_under_a_name_of_its_own() {
    let site = site(&[("circus.ini", "0")]);
    let path = site.path().join("circus.ini");
    fs::set_permissions(&path, Permissions::from_mode(0o400)).unwrap();
    let first = fs::metadata(&path).unwrap().modified().unwrap();
    let mut backups = Vec::new();
    for (before, after) in [("0", "1"), ("1", "2"), ("2", "3")] {
        let options = Options { backup: true };
        let stored = replace(&path, before.as_bytes(), after.as_bytes(), &options);
        let backup = stored.unwrap().backup.unwrap();
        assert_eq!(fs::read_to_string(&backup).unwrap(), before);
        assert_eq!(fs::metadata(&backup).unwrap().mode() & 0o7777, 0o400);
        backups.push(backup);
    }
    assert_eq!(
        fs::metadata(&backups[0]).unwrap().modified().unwrap(),
        first
    );
    assert_eq!(all(site.path()).len(), 4);
    let shape =
        regex::Regex::new(r"/circus\.ini\.\d{4}-\d\d-\d\dT\d\d-\d\d-\d\d(\.\d)?~$").unwrap();
    for backup in &backups {
        assert!(shape.is_match(&backup.to_string_lossy()), "{backup:?}");
    }
}

#[test]
fn a_file_is_created_with_the_umask_and_through_links() {
    let site = site(&[]);
    let [plain, real, link] =
        ["plain.ini", "real.ini", "link.ini"].map(|name| site.path().join(name));
    fs::write(&plain, "").unwrap();
    symlink("real.ini", &link).unwrap();
    create(&link, b"new").unwrap();
    assert_eq!(
        fs::metadata(&real).unwrap().mode(),
        fs::metadata(&plain).unwrap().mode()
    );
    assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
    remove(&link, b"new").unwrap();
    assert!(!real.exists());
    symlink("circle.ini", site.path().join("circle.ini")).unwrap();
    let error = create(&site.path().join("circle.ini"), b"new").unwrap_err();
    assert!(!error.to_string().is_empty());
    let error = create(&site.path().join("no/such/file.ini"), b"new").unwrap_err();
    assert!(
        error.to_string().contains("no/such: No such file"),
        "{error}"
    );
}

#[test]
fn what_is_no_file_is_refused() {
    let site = site(&[]);
    let none = Options::default();
    fs::create_dir(site.path().join("dir.ini")).unwrap();
    nix::unistd::mkfifo(&site.path().join("pipe.ini"), nix::sys::stat::Mode::S_IRWXU).unwrap();
    for (name, why) in [
        ("dir.ini", "a directory"),
        ("pipe.ini", "not a regular file"),
    ] {
        let error = replace(&site.path().join(name), b"a", b"b", &none).unwrap_err();
        assert!(error.to_string().contains(why), "{error}");
    }
    assert_eq!(fs::read_dir(site.path()).unwrap().count(), 2);
}

#[test]
fn other_names_of_a_file_keep_the_old_version_and_are_told_of() {
    let site = site(&[("circus.ini", "old")]);
    let path = site.path().join("circus.ini");
    fs::hard_link(&path, site.path().join("other.ini")).unwrap();
    let stored = replace(&path, b"old", b"new", &Options::default()).unwrap();
    assert!(
        stored.warnings[0].contains("has 2 names (hard links)"),
        "{stored:?}"
    );
    expect(site.path(), &[("circus.ini", "new"), ("other.ini", "old")]);
}

#[test]
fn several_files_change_together_or_not_at_all() {
    let site = site(&[("a.ini", "a"), ("b.ini", "b"), ("c.ini", "c")]);
    let [a, b, c, d] = ["a.ini", "b.ini", "c.ini", "d.ini"].map(|name| site.path().join(name));
    let options = Options { backup: true };
    let change = |path, before, after| Change {
        path,
        before,
        after,
    };
    let good = [
        change(a.as_path(), Some(b"a".as_slice()), Some(b"A".as_slice())),
        change(&b, Some(b"b"), None),
        change(&d, None, Some(b"D")),
    ];
    let wrong = change(&c, Some(b"not c"), Some(b"C"));
    let start = [("a.ini", "a"), ("b.ini", "b"), ("c.ini", "c")];

    // Found before the first one is written.
    let error = write(&[good.as_slice(), &[wrong]].concat(), &options).unwrap_err();
    assert!(matches!(error, StoreError::Changed { .. }), "{error}");
    expect(site.path(), &start);

    // Found after: what has its name already goes back, its backup goes away.
    let mut staged = Vec::new();
    for change in &good {
        staged.push(Staged::new(change, &options).unwrap());
    }
    let stored: Vec<Stored> = staged
        .into_iter()
        .map(|next| next.commit().unwrap())
        .collect();
    assert_eq!(all(site.path()).len(), 5, "{:?}", all(site.path()));
    let error = put_back(&good, &stored, StoreError::changed(&c));
    assert!(matches!(error, StoreError::Changed { .. }), "{error}");
    expect(site.path(), &start);

    // What cannot go back is said.
    let stored = write(&good[..1], &Options::default()).unwrap();
    fs::write(&a, "theirs").unwrap();
    let error = put_back(&good[..1], &stored, StoreError::changed(&c)).to_string();
    assert!(error.contains("could not be undone"), "{error}");
    expect(
        site.path(),
        &[("a.ini", "theirs"), ("b.ini", "b"), ("c.ini", "c")],
    );

    fs::write(&a, "a").unwrap();
    write(&good, &Options::default()).unwrap();
    expect(
        site.path(),
        &[("a.ini", "A"), ("c.ini", "c"), ("d.ini", "D")],
    );
}

#[test]
fn a_file_of_another_user_stays_theirs() {
    let site = site(&[("circus.ini", "old")]);
    let path = site.path().join("circus.ini");
    if std::os::unix::fs::chown(&path, Some(12), Some(34)).is_err() {
        eprintln!("only root can give files away");
        return;
    }
    fs::set_permissions(&path, Permissions::from_mode(0o4750)).unwrap();
    replace(&path, b"old", b"new", &Options::default()).unwrap();
    let after = fs::metadata(&path).unwrap();
    assert_eq!(
        (after.uid(), after.gid(), after.mode() & 0o7777),
        (12, 34, 0o4750)
    );
}
