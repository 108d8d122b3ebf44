//! Options of the HTTP front: what clients may do, and what is written down about them.

use crate::wsgi::access::{Form, Log};
use crate::wsgi::front::{Limits, Records};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

/// The options.
#[derive(Debug, clap::Args)]
pub struct FrontArgs {
    /// Seconds in which nothing of a request's body may come
    #[arg(long, default_value_t = 30.0, value_name = "SECONDS")]
    body_timeout: f64,
    /// Seconds for which a client may take nothing of its answer
    #[arg(long, default_value_t = 30.0, value_name = "SECONDS")]
    write_timeout: f64,
    /// Bytes of a request's head
    #[arg(long, default_value_t = 65_536, value_name = "BYTES", value_parser = clap::value_parser!(u32).range(8192..=1_048_576))]
    limit_head: u32,
    /// Headers of a request
    #[arg(long, default_value_t = 100, value_name = "COUNT", value_parser = clap::value_parser!(u16).range(1..=10_000))]
    limit_headers: u16,
    /// Connections at once; more wait to be accepted
    #[arg(long, default_value_t = 10_000, value_name = "COUNT", value_parser = clap::value_parser!(u32).range(1..))]
    limit_connections: u32,
    /// Write a line for each request: to a file, or to standard output if it is -
    #[arg(long, value_name = "FILE")]
    access_log: Option<PathBuf>,
    /// How these lines look
    #[arg(long, default_value = "combined", value_parser = Form::NAMES, value_name = "FORM")]
    access_log_format: String,
    /// Tell clients how long their requests took (Server-Timing)
    #[arg(long)]
    server_timing: bool,
}

impl FrontArgs {
    /// What is written down of requests; opens the access log.
    ///
    /// # Errors
    /// It cannot be opened.
    pub fn records(&self) -> Result<Records, String> {
        let form = Form::named(&self.access_log_format).unwrap_or(Form::Combined);
        let log = self.access_log.as_deref().map(|path| {
            Log::open(path, form)
                .map(Arc::new)
                .map_err(|why| format!("cannot write the access log {}: {why}", path.display()))
        });
        Ok(Records {
            log: log.transpose()?,
            timing: self.server_timing,
        })
    }

    /// Puts them into what clients may do.
    pub fn limit(&self, limits: Limits) -> Limits {
        let seconds = |number: f64| Duration::try_from_secs_f64(number).unwrap_or(Duration::MAX);
        Limits {
            body_time: seconds(self.body_timeout),
            write_time: seconds(self.write_timeout),
            head_bytes: self.limit_head as usize,
            headers: usize::from(self.limit_headers),
            connections: self.limit_connections as usize,
            ..limits
        }
    }
}
