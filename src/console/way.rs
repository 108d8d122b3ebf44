//! How a console gets to a daemon on another machine.

use crate::wire::Endpoint;

/// A way to the endpoints of another machine. Whoever made it keeps it in order: what does not work now may work later.
pub trait Way: Send + Sync {
    /// The machine, as it was named.
    fn host(&self) -> &str;

    /// Where to connect to for an endpoint as that machine sees it. May take a moment.
    ///
    /// # Errors
    /// There is no way; why.
    fn to(&self, endpoint: &Endpoint) -> Result<Endpoint, String>;

    /// The words for an error of a call to the daemon there. May take a moment.
    fn explain(&self, error: &str) -> String;
}
