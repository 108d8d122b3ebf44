//! How sockets that are about to go make room for those that take their addresses: not by being closed, since they serve
//! until all is done, and are to be as they were if it is not.

use super::place::{Place, abstract_name, overlap};
use super::{ListenSocket, OpenSocket};
use socket2::SockRef;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;

/// Room that was made. Dropping it takes it back; [`Yielding::for_good`] leaves it so.
#[derive(Debug)]
pub struct Yielding(Option<Room>);

#[derive(Debug)]
enum Room {
    /// Two sockets that both agree may be bound to one address.
    Shared(Arc<OpenSocket>),
    /// Workers have sockets there that have agreed already.
    Agreed,
    /// The file of a Unix socket has the second name, and the first is free.
    Moved(PathBuf, PathBuf),
}

impl Yielding {
    /// Makes room for a socket at this place, if `leaving` is in its way.
    ///
    /// # Errors
    /// The system does not allow it.
    pub fn of(leaving: &ListenSocket, place: &Place) -> io::Result<Option<Yielding>> {
        let open = &leaving.open;
        match (&open.place, place) {
            _ if open.handed => Ok(None),
            (Place::Net(there), Place::Net(wanted)) if overlap(*there, *wanted) => {
                if leaving.reuses_port() {
                    return Ok(Some(Yielding(Some(Room::Agreed))));
                }
                SockRef::from(&open.fd).set_reuse_port(true)?;
                Ok(Some(Yielding(Some(Room::Shared(open.clone())))))
            }
            (Place::File(_), Place::File(path))
                if abstract_name(path).is_none() && open.has_its_file(path) =>
            {
                let from = PathBuf::from(path);
                let mut to = from.clone().into_os_string();
                to.push(format!(".{}.old", std::process::id()));
                let to = PathBuf::from(to);
                std::fs::rename(&from, &to)?;
                Ok(Some(Yielding(Some(Room::Moved(from, to)))))
            }
            _ => Ok(None),
        }
    }

    /// It is not taken back.
    pub fn for_good(mut self) {
        if let Some(Room::Moved(_, to)) = self.0.take() {
            // the socket listens on without a name; nobody to tell if that has gone already
            let _ = std::fs::remove_file(to);
        }
    }
}

impl Drop for Yielding {
    fn drop(&mut self) {
        match &self.0 {
            None | Some(Room::Agreed) => {}
            Some(Room::Shared(open)) => {
                let _ = SockRef::from(&open.fd).set_reuse_port(false); // it harms nobody
            }
            Some(Room::Moved(from, to)) => {
                if let Err(error) = std::fs::rename(to, from) {
                    let (from, to) = (from.display(), to.display());
                    tracing::error!("the socket {from} is now at {to} and cannot go back: {error}");
                }
            }
        }
    }
}
