//! One page, for its status. `http` is fetched here, `https` by the program `curl`.

use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// Fetches a page and follows where it leads: its status and how many milliseconds it took. Blocks for `timeout`
/// seconds at most.
///
/// # Errors
/// What went wrong, in words.
pub fn fetch(url: &str, timeout: f64) -> Result<(u16, u64), String> {
    let start = Instant::now();
    let status = if url.starts_with("https://") {
        with_curl(url, timeout)?
    } else {
        let limit = Duration::try_from_secs_f64(timeout).unwrap_or(Duration::from_secs(3600));
        plain(url, limit)?
    };
    Ok((
        status,
        u64::try_from(start.elapsed().as_millis()).unwrap_or(u64::MAX),
    ))
}

fn plain(url: &str, limit: Duration) -> Result<u16, String> {
    let agent: ureq::Agent = ureq::Agent::config_builder()
        .timeout_global(Some(limit))
        .http_status_as_error(false)
        .max_redirects(5)
        .build()
        .into();
    let failed = |why: ureq::Error| match why {
        ureq::Error::Timeout(_) => format!("no answer within {} s", limit.as_secs_f64()),
        other => other.to_string(),
    };
    let mut response = agent.get(url).call().map_err(failed)?;
    let status = response.status().as_u16();
    // the time is that of the whole page
    std::io::copy(&mut response.body_mut().as_reader(), &mut std::io::sink())
        .map_err(|why| format!("the page broke off: {why}"))?;
    Ok(status)
}

fn with_curl(url: &str, timeout: f64) -> Result<u16, String> {
    let output = Command::new("curl")
        .args(["-sSL", "--max-redirs", "5", "-o", "/dev/null"])
        .args(["-w", "%{http_code}", "--max-time", &timeout.to_string()])
        .args(["--", url])
        .stdin(Stdio::null())
        .output()
        .map_err(|why| format!("https needs the program curl, which cannot be run: {why}"))?;
    let told = String::from_utf8_lossy(&output.stderr);
    if !output.status.success() {
        return Err(told.trim().to_owned());
    }
    let code = String::from_utf8_lossy(&output.stdout);
    code.trim()
        .parse()
        .map_err(|_| format!("curl told no status but {:?}", code.trim()))
}
