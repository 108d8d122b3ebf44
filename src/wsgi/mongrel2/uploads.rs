//! Bodies that Mongrel2 has put into files.

use super::message::Message;
use std::fs::File;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// Announces a file that is being filled.
const START: &str = "x-mongrel2-upload-start";
/// Says that it is filled.
const DONE: &str = "x-mongrel2-upload-done";

/// What a request says of an upload.
#[derive(Debug, PartialEq, Eq)]
pub enum Upload<'a> {
    /// Nothing: its body is in the message.
    None,
    /// It has begun; the request itself comes when it is done.
    Begun,
    /// The body is in this file.
    Done(&'a [u8]),
    /// Something that Mongrel2 does not say.
    Forged,
}

/// What a request says of an upload. Clients can send these headers as well.
pub fn of(message: &Message) -> Upload<'_> {
    let all = |wanted: &str| -> Vec<&[u8]> {
        let of_it = message.headers.iter().filter(|(name, _)| name == wanted);
        of_it.map(|(_, value)| value.as_slice()).collect()
    };
    let (start, done) = (all(START), all(DONE));
    match (start.as_slice(), done.as_slice()) {
        ([], []) => Upload::None,
        // Mongrel2 hands a request over with no body as long as that is in a file
        _ if !message.body.is_empty() => Upload::Forged,
        ([_], []) => Upload::Begun,
        ([start], [done]) if start == done => Upload::Done(done),
        _ => Upload::Forged,
    }
}

/// The directory where Mongrel2 puts bodies (its `upload.temp_store`), as this process sees it: Mongrel2 may be in a
/// chroot. Only files in there are opened, so that nobody can ask for another by sending Mongrel2's headers.
#[derive(Debug, Clone)]
pub struct Uploads {
    directory: PathBuf,
}

impl Uploads {
    /// For this directory.
    pub fn new(directory: PathBuf) -> Uploads {
        Uploads { directory }
    }

    /// Opens the file of an upload and takes its name away: it goes when nobody reads it any more. May wait for a disk.
    ///
    /// # Errors
    /// The file is not there, or is no plain file; the text names it.
    pub fn take(&self, path: &[u8]) -> Result<(File, u64), String> {
        let path = Path::new(std::ffi::OsStr::from_bytes(path));
        let name = path
            .file_name()
            .ok_or_else(|| format!("{} is no name of a file", path.display()))?;
        let path = self.directory.join(name);
        let open = || -> io::Result<(File, u64)> {
            use rustix::fs::{Mode, OFlags};
            let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
            let file = File::from(rustix::fs::open(&path, flags, Mode::empty())?);
            let about = file.metadata()?;
            if !about.is_file() {
                return Err(io::Error::other("this is no plain file"));
            }
            std::fs::remove_file(&path)?;
            Ok((file, about.len()))
        };
        open().map_err(|why| format!("the body in {} cannot be had: {why}", path.display()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;

    fn message(headers: &[(&str, &str)], body: &'static str) -> Message {
        let headers = headers.iter();
        Message {
            server: Bytes::new(),
            client: Bytes::new(),
            headers: headers
                .map(|(name, value)| (name.to_string(), value.as_bytes().to_vec()))
                .collect(),
            body: Bytes::from_static(body.as_bytes()),
        }
    }

    #[test]
    fn only_what_mongrel2_says_is_an_upload() {
        assert_eq!(of(&message(&[], "x")), Upload::None);
        assert_eq!(of(&message(&[(START, "/a")], "")), Upload::Begun);
        let both = [(START, "/a"), (DONE, "/a")];
        assert_eq!(of(&message(&both, "")), Upload::Done(b"/a"));
        assert_eq!(of(&message(&both, "x")), Upload::Forged);
        assert_eq!(of(&message(&[(DONE, "/a")], "")), Upload::Forged);
        let other = [(START, "/a"), (DONE, "/b")];
        assert_eq!(of(&message(&other, "")), Upload::Forged);
        let more = [(START, "/a"), (DONE, "/a"), (DONE, "/b")];
        assert_eq!(of(&message(&more, "")), Upload::Forged);
    }

    #[test]
    fn only_plain_files_of_the_directory_are_taken() {
        let home = tempfile::tempdir().unwrap();
        let inside = home.path().join("in");
        std::fs::create_dir(&inside).unwrap();
        std::fs::write(home.path().join("secret"), "secret").unwrap();
        std::fs::write(inside.join("m2.aaaaaa"), "body").unwrap();
        std::os::unix::fs::symlink(home.path().join("secret"), inside.join("link")).unwrap();
        let uploads = Uploads::new(inside.clone());
        let secret = home.path().join("secret");
        for path in [
            secret.to_str().unwrap(),
            "/../secret",
            "..",
            "/",
            "",
            "/tmp/link",
        ] {
            assert!(uploads.take(path.as_bytes()).is_err(), "{path}");
        }
        assert!(secret.exists());
        let (file, length) = uploads.take(b"/elsewhere/m2.aaaaaa").unwrap();
        assert_eq!(io::read_to_string(file).unwrap(), "body");
        assert_eq!(length, 4);
        assert!(!inside.join("m2.aaaaaa").exists());
    }
}
