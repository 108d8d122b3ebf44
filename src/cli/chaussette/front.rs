//! Options of the HTTP front: what clients may do, and what is written down about them.

use crate::wsgi::front::Limits;
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
}

impl FrontArgs {
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
