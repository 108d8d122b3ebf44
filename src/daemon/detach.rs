//! `--daemon`: going to the background without hiding from the user whether it worked.
//!
//! circusd forks twice and closes everything, so a bad configuration is only seen by its absence.
//! Here the invoked process waits on a pipe until the daemon says that it is ready, or why it is
//! not, prints that and ends with the right exit code.

use super::spawn::{ForkSide, fork_detach};
use std::fs::File;
use std::io::{self, Read, Write};

/// What [`detach`] returns, once in each of the two processes.
#[derive(Debug)]
pub enum Detached {
    /// In the invoked process: the daemon is ready (0) or not. The reason has been printed on
    /// standard error; end now with this exit code.
    Invoker {
        /// The exit code.
        code: u8,
    },
    /// In the daemon: go on starting, and report the outcome.
    Daemon(Ready),
}

/// The daemon's duty to report to the process that was invoked. Dropped without a word (a panic, an
/// early exit) it reads there as "ended while it was starting".
#[derive(Debug)]
pub struct Ready(File);

impl Ready {
    /// The daemon answers: the invoked process ends with 0.
    pub fn succeed(mut self) {
        // If the invoker has been interrupted meanwhile, the daemon runs on all the same.
        let _ = self.0.write_all(&[0]);
    }

    /// The daemon cannot start: the invoked process prints the message and ends with `code`.
    pub fn fail(mut self, code: u8, message: &str) {
        let mut report = vec![code.max(1)];
        report.extend_from_slice(message.as_bytes());
        let _ = self.0.write_all(&report); // as above
    }
}

/// Puts the daemon into the background: own session, no terminal, standard streams to /dev/null.
/// The working directory stays, as with circusd. Call it before any thread is started.
///
/// # Errors
/// No pipe, no process, or a process that already has threads.
pub fn detach() -> io::Result<Detached> {
    let (reader, writer) = nix::unistd::pipe2(nix::fcntl::OFlag::O_CLOEXEC)?;
    match fork_detach()? {
        ForkSide::Invoker => {
            drop(writer);
            let code = wait_for_report(File::from(reader), &mut io::stderr());
            Ok(Detached::Invoker { code })
        }
        ForkSide::Daemon => {
            drop(reader);
            let null = File::options().read(true).write(true).open("/dev/null")?;
            nix::unistd::dup2_stdin(&null)?;
            nix::unistd::dup2_stdout(&null)?;
            nix::unistd::dup2_stderr(&null)?;
            Ok(Detached::Daemon(Ready(File::from(writer))))
        }
    }
}

/// Reads the daemon's report, prints a failure and returns the exit code.
fn wait_for_report(mut pipe: File, errors: &mut dyn Write) -> u8 {
    let mut report = Vec::new();
    let read = pipe.read_to_end(&mut report);
    let (code, message) = match (read, report.split_first()) {
        (Ok(_), Some((0, _))) => return 0,
        (Ok(_), Some((code, message))) => (*code, String::from_utf8_lossy(message).into_owned()),
        (Ok(_), None) => (1, "the daemon ended while it was starting".to_owned()),
        (Err(error), _) => (1, format!("cannot hear from the daemon: {error}")),
    };
    let _ = writeln!(errors, "{}", message.trim_end()); // the exit code says it too
    code
}

#[cfg(test)]
mod tests {
    use super::*;

    fn heard(report: impl FnOnce(Ready)) -> (u8, String) {
        let (reader, writer) = nix::unistd::pipe2(nix::fcntl::OFlag::O_CLOEXEC).unwrap();
        report(Ready(File::from(writer)));
        let mut errors = Vec::new();
        let code = wait_for_report(File::from(reader), &mut errors);
        (code, String::from_utf8(errors).unwrap())
    }

    #[test]
    fn the_invoker_hears_how_it_went() {
        assert_eq!(heard(Ready::succeed), (0, String::new()));
        let failed = heard(|ready| ready.fail(4, "port in use\n"));
        assert_eq!(failed, (4, "port in use\n".to_owned()));
        assert_eq!(heard(|ready| ready.fail(0, "x")).0, 1);
        let (code, text) = heard(drop);
        assert_eq!(code, 1);
        assert!(text.contains("ended while"), "{text}");
    }
}
