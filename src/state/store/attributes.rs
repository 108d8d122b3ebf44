//! What a file is besides its bytes: mode, owner, access lists, labels. A new file that takes an old one's name must
//! have them too.

use std::ffi::CString;
use std::fs::{File, Metadata, Permissions};
use std::io;
use std::os::unix::fs::{MetadataExt, PermissionsExt, fchown};
use std::path::Path;

use rustix::fs::{XattrFlags, fgetxattr, flistxattr, fremovexattr, fsetxattr};
use rustix::io::Errno;

use super::error::{StoreError, failed};

const ACCESS_LIST: &[u8] = b"system.posix_acl_access";

/// Longer lists and values than these do not exist on Linux (`XATTR_LIST_MAX`, `XATTR_SIZE_MAX`).
const MOST: usize = 65536;

/// Names and values.
type Extended = Vec<(CString, Vec<u8>)>;

/// A file's attributes, as they were when it was looked at.
pub(super) struct Attributes {
    mode: u32,
    uid: u32,
    gid: u32,
    extended: Extended,
}

impl Attributes {
    /// Reads them off an open file.
    pub fn of(file: &File, path: &Path) -> Result<Attributes, StoreError> {
        let metadata = file.metadata().map_err(failed("look at", path))?;
        let extended = extended(file)
            .map_err(|(name, error)| cannot_keep(path, &named(&name), &error.into()))?;
        Ok(Attributes {
            mode: metadata.mode() & 0o7777,
            uid: metadata.uid(),
            gid: metadata.gid(),
            extended,
        })
    }

    /// Gives them to the new file that is to take the name of `path`; refuses if it cannot have all of them.
    pub fn give(&self, new: &File, path: &Path) -> Result<(), StoreError> {
        let fresh = new.metadata().map_err(failed("look at", path))?;
        if (fresh.uid(), fresh.gid()) != (self.uid, self.gid) {
            fchown(new, Some(self.uid), Some(self.gid))
                .map_err(|error| cannot_keep(path, &self.owner(), &error))?;
        }
        // A directory's default access list gives every new file one; a label may come by itself.
        let given = extended(new)
            .map_err(|(name, error)| cannot_keep(path, &named(&name), &error.into()))?;
        for (name, _) in &given {
            if name.to_bytes() == ACCESS_LIST && !self.has(name) {
                fremovexattr(new, name.as_c_str())
                    .map_err(|error| cannot_keep(path, "access list", &error.into()))?;
            }
        }
        for (name, value) in &self.extended {
            if !given.contains(&(name.clone(), value.clone())) {
                fsetxattr(new, name.as_c_str(), value, XattrFlags::empty())
                    .map_err(|error| cannot_keep(path, &named(name), &error.into()))?;
            }
        }
        // Last: a change of owner clears mode bits. With an access list the group's bits are its mask, as in the old.
        let now = new.metadata().map_err(failed("look at", path))?;
        if now.mode() & 0o7777 != self.mode {
            new.set_permissions(Permissions::from_mode(self.mode))
                .map_err(|error| cannot_keep(path, &self.shown_mode(), &error))?;
        }
        self.verify(&new.metadata().map_err(failed("look at", path))?, path)
    }

    /// Some file systems take a change and ignore it.
    fn verify(&self, now: &Metadata, path: &Path) -> Result<(), StoreError> {
        let ignored = || io::Error::other("the file system ignores the change");
        if (now.uid(), now.gid()) != (self.uid, self.gid) {
            return Err(cannot_keep(path, &self.owner(), &ignored()));
        }
        if now.mode() & 0o7777 != self.mode {
            return Err(cannot_keep(path, &self.shown_mode(), &ignored()));
        }
        Ok(())
    }

    fn has(&self, name: &CString) -> bool {
        self.extended.iter().any(|(ours, _)| ours == name)
    }

    fn owner(&self) -> String {
        format!("owner (user {}, group {})", self.uid, self.gid)
    }

    fn shown_mode(&self) -> String {
        format!("mode {:04o}", self.mode)
    }
}

fn named(name: &CString) -> String {
    match name.to_bytes() {
        ACCESS_LIST => "access list".to_string(),
        _ => format!("extended attribute {}", name.to_string_lossy()),
    }
}

fn cannot_keep(path: &Path, what: &str, error: &io::Error) -> StoreError {
    StoreError::refused(
        path,
        format!(
            "a new version would lose its {what} ({error}); run as the file's owner or as root"
        ),
    )
}

/// Attributes that belong to the file and not to its bytes or its place. Left out: the kernel's own hashes of the
/// content (`security.ima`, `security.evm`), what file systems keep for themselves (`trusted.*`, `btrfs.*`).
fn belongs(name: &[u8]) -> bool {
    let told = [b"user.".as_slice(), b"security."];
    let of_content = [b"security.ima".as_slice(), b"security.evm"];
    let lists = [ACCESS_LIST, b"system.nfs4_acl", b"system.richacl"];
    lists.contains(&name)
        || told.iter().any(|prefix| name.starts_with(prefix)) && !of_content.contains(&name)
}

/// The extended attributes that belong to a file; with the error comes the name of the one that could not be read.
fn extended(file: &File) -> Result<Extended, (CString, Errno)> {
    let mut list = vec![0; MOST];
    let length = match flistxattr(file, &mut list) {
        Ok(length) => length,
        Err(Errno::NOTSUP | Errno::NOSYS) => return Ok(Vec::new()),
        Err(error) => return Err((CString::default(), error)),
    };
    list.truncate(length);
    let mut all = Vec::new();
    for name in list.split(|byte| *byte == 0).filter(|name| belongs(name)) {
        // Split at the zeros: none is inside.
        let name = CString::new(name).unwrap_or_default();
        let mut value = vec![0; MOST];
        match fgetxattr(file, name.as_c_str(), &mut value) {
            Ok(length) => value.truncate(length),
            // Gone since it was listed, or listed without being there (some network file systems).
            Err(Errno::NODATA | Errno::NOTSUP) => continue,
            Err(error) => return Err((name, error)),
        }
        all.push((name, value));
    }
    all.sort();
    Ok(all)
}
