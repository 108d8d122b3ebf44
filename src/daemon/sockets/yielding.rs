//! How sockets that are about to go make room for those that take their addresses: not by being closed, since they serve
//! until all is done, and are to be as they were if it is not.

use super::ListenSocket;
use super::place::Place;
use socket2::SockRef;
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

/// Room that was made. Dropping it takes it back; [`Yielding::for_good`] leaves it so.
#[derive(Debug)]
pub struct Yielding(Option<Room>);

#[derive(Debug)]
enum Room {
    /// Two sockets that both agree may be bound to one address.
    Shared(OwnedFd),
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
            _ if !leaving.is_in_the_way_of(place) => Ok(None),
            (Place::Net(_), _) if leaving.reuses_port() => Ok(Some(Yielding(Some(Room::Agreed)))),
            (Place::Net(_), _) => Yielding::share(&open.fd).map(Some),
            (_, Place::File(path)) => Yielding::move_away(Path::new(path)).map(Some),
            _ => Ok(None),
        }
    }

    /// Lets another socket be bound to the address of this one.
    ///
    /// # Errors
    /// The system does not allow it.
    pub fn share(socket: &OwnedFd) -> io::Result<Yielding> {
        let socket = socket.try_clone()?;
        SockRef::from(&socket).set_reuse_port(true)?;
        Ok(Yielding(Some(Room::Shared(socket))))
    }

    /// Gives the file of a Unix socket a second name.
    ///
    /// # Errors
    /// The system does not allow it.
    pub fn move_away(from: &Path) -> io::Result<Yielding> {
        let mut to = from.as_os_str().to_os_string();
        to.push(format!(".{}.old", std::process::id()));
        let to = PathBuf::from(to);
        std::fs::rename(from, &to)?;
        Ok(Yielding(Some(Room::Moved(from.to_path_buf(), to))))
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
            Some(Room::Shared(socket)) => {
                let _ = SockRef::from(socket).set_reuse_port(false); // it harms nobody
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
