//! The command line: one file a command family: parse, call, print.

/// Runs the program that `args[0]` names and returns its exit code.
pub fn run(args: impl IntoIterator<Item = std::ffi::OsString>) -> std::process::ExitCode {
    let _ = args.into_iter().count();
    std::process::ExitCode::SUCCESS
}
