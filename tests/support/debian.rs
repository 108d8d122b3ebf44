//! Programs from Debian packages that a few tests need.

use std::path::PathBuf;

/// Finds `program` on the `PATH` (and in the sbin directories).
///
/// `None` means the test should return: it has said loudly what is missing. Where `CI=true` nothing may be
/// skipped, and the test fails instead.
pub fn need(program: &str, package: &str) -> Option<PathBuf> {
    let path = std::env::var("PATH").unwrap_or_default();
    let found = path
        .split(':')
        .chain(["/usr/sbin", "/sbin", "/usr/bin", "/bin"])
        .map(|dir| PathBuf::from(dir).join(program))
        .find(|p| p.is_file());
    if found.is_none() {
        skip(&format!(
            "{program} is missing (Debian: apt-get install {package})"
        ));
    }
    found
}

/// Says loudly that a test is skipped and why; with `CI=true` this is a failure.
pub fn skip(why: &str) {
    let test = std::thread::current()
        .name()
        .unwrap_or("a test")
        .to_string();
    assert!(
        std::env::var("CI").as_deref() != Ok("true"),
        "{test} may not be skipped where CI=true: {why}"
    );
    // Not eprintln: the test harness swallows that for a test that passes.
    use std::io::Write;
    let _ = writeln!(std::io::stderr(), "\n*** SKIPPED {test}: {why} ***\n");
}
