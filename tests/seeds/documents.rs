//! The first two documents that circ grew from: their circus.ini files and the application.

use crate::support::TempSite;

/// The first one's circus.ini as it stands there, but for the ports, the addresses (tests stay on loopback), and
/// `multicast_endpoint` for the same reason.
pub const FIRST: &str = "\
[circus]
check_delay = 5
endpoint = @ENDPOINT@
pubsub_endpoint = @PUBSUB@
multicast_endpoint =

[watcher:myworker]
cmd = chaussette --fd $(circus.sockets.myworker) --backend gevent wsgi.app
use_sockets = True
numprocesses = 2
copy_env = True
copy_path = True

[socket:myworker]
host = 127.0.0.1
port = @PORT@
";

/// Likewise the second one's: the older `${socket:web}`, five processes. Its `0.0.0.0` is bound on loopback here; that the
/// host line is read as it stands is the configuration's own test. It says nothing of the environment, because its programs
/// are installed; those of the tests are found by `copy_env` and `copy_path`.
pub const SECOND: &str = "\
[circus]
endpoint = @ENDPOINT@
pubsub_endpoint = @PUBSUB@
stats_endpoint = @STATS@
multicast_endpoint =

[watcher:web]
cmd = chaussette --fd ${socket:web} --backend meinheld server.app
use_sockets = True
numprocesses = 5
copy_env = True
copy_path = True

[socket:web]
host = 127.0.0.1
port = @PORT@
";

/// The first one's application. It was Python 2: there the text was bytes, which WSGI asks for on Python 3 as well.
pub const APPLICATION: &str = "\
def app(environ, start_response):
    \"\"\" Simplest wsgi application. \"\"\"
    data = b'Hello, World!\\n'
    status = '200 OK'
    response_headers = [
        ('Content-type', 'text/plain'),
        ('Content-Length', str(len(data)))
    ]
    start_response(status, response_headers)
    return iter([data])
";

/// One of the files with a site's endpoints; another back end of Chaussette where the real one cannot run its own.
pub fn on(site: &TempSite, ini: &str, backend: Option<&str>) -> String {
    let mut ini = ini
        .replace("@ENDPOINT@", &site.endpoint)
        .replace("@PUBSUB@", &site.pubsub)
        .replace("@STATS@", &site.stats);
    for own in ["gevent", "meinheld"] {
        let other = format!("--backend {}", backend.unwrap_or(own));
        ini = ini.replace(&format!("--backend {own}"), &other);
    }
    ini
}
